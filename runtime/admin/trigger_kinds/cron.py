"""Triggers that time sets off."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from domain.cron import Overlap
from domain.ports import Reader
from domain.triggers import Source
from runtime.admin.trigger_kinds.base import Matching, TriggerSpec
from runtime.cron.schedule import schedule_of


class CronTriggerSpec(TriggerSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`schedule` has six fields (second, minute, hour, day, month, weekday), `timezone` is an IANA name."""

    schedule: str
    timezone: str = "UTC"
    overlap: Overlap = "skip"


class CronKind:
    """Registered in `runtime.admin.trigger_kinds`."""

    source: Final[Source] = "cron"
    spec: type[TriggerSpec] = CronTriggerSpec

    def matching(self, spec: CronTriggerSpec) -> Matching:
        """See `TriggerKind`. No event is matched: a tick names its trigger."""
        schedule_of(spec.schedule, spec.timezone)
        return Matching((), "", {"schedule": spec.schedule, "timezone": spec.timezone, "overlap": spec.overlap})

    async def check(self, reader: Reader, app_id: UUID, spec: CronTriggerSpec) -> None:
        """Whether it is ever due is found when its first time is asked for."""
