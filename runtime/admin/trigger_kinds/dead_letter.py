"""Triggers on dead letters: handlers of executions whose last attempt has failed."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec

from domain.errors import Invalid
from domain.executions import TaskSource, dead_letter_pattern
from domain.ports import Reader
from domain.triggers import Source
from projections.control.reads import read_script
from projections.outbox.reads import read_trigger
from runtime.admin.trigger_kinds.base import Matching, TriggerSpec


class DeadLetterFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters: of executions of this source, by this trigger, of this script; what is left out lets all pass."""

    source: TaskSource | None = None
    trigger_id: UUID | None = None
    script_id: UUID | None = None


class DeadLetterTriggerSpec(TriggerSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`filter` stands apart, because `script_id` is the handler's."""

    filter: DeadLetterFilter = DeadLetterFilter()


class DeadLetterKind:
    """Registered in `runtime.admin.trigger_kinds`."""

    source: Final[Source] = "dead_letter"
    spec: type[TriggerSpec] = DeadLetterTriggerSpec

    def matching(self, spec: DeadLetterTriggerSpec) -> Matching:
        """See `TriggerKind`."""
        wanted = spec.filter
        pattern = dead_letter_pattern(wanted.source, _text(wanted.trigger_id), _text(wanted.script_id))
        return Matching((), pattern, {"filter": msgspec.to_builtins(wanted)})

    async def check(self, reader: Reader, app_id: UUID, spec: DeadLetterTriggerSpec) -> None:
        """See `TriggerKind`."""
        wanted = spec.filter
        if wanted.trigger_id is not None and await read_trigger(reader, app_id, wanted.trigger_id) is None:
            raise Invalid("filter.trigger_id: this app has no such trigger", field="filter.trigger_id")
        if wanted.script_id is not None and await read_script(reader, app_id, wanted.script_id) is None:
            raise Invalid("filter.script_id: this app has no such script", field="filter.script_id")


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
