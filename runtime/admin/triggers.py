"""Triggers of every kind: created, changed and deleted. What kinds differ in is in `runtime.admin.trigger_kinds`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from domain.authz import SYSTEM, Principal, refuse_stronger_run
from domain.clock import Clock
from domain.cron import cron_stream
from domain.errors import NotFound
from domain.names import touch_guard
from domain.ports import Reader
from domain.retry import check_retry
from domain.triggers import Trigger, TriggerDeleted, TriggerSaved, trigger_stream
from domain.units import ABSENT, Change, Read, Record
from projections.control.principals import principal_of_actor
from projections.outbox.reads import StoredTrigger, page_triggers, read_trigger
from projections.schedules.reads import StandingSchedule, read_schedules
from runtime.admin.endpoints import require_endpoint
from runtime.admin.guards import TRIGGERS_GUARD
from runtime.admin.streams import read_heads
from runtime.admin.trigger_kinds import KINDS, TriggerKind, TriggerSpec
from runtime.admin.writing import Acting, AdminWriter, retried
from runtime.cron.schedule import first_due

DecodeSpec = Callable[[dict[str, Any], type[TriggerSpec]], TriggerSpec]
"""Reads untrusted fields as a spec; raises Invalid naming the field."""


class Triggers:
    """The triggers of all apps."""

    def __init__(self, reader: Reader, writer: AdminWriter, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock

    async def page(self, app_id: UUID, after: UUID | None, limit: int) -> list[StoredTrigger]:
        """An app's triggers in the order of their creation."""
        return await page_triggers(self._reader, app_id, after, limit)

    async def get(self, app_id: UUID, trigger_id: UUID) -> StoredTrigger:
        """One trigger. Raises NotFound."""
        found = await read_trigger(self._reader, app_id, trigger_id)
        if found is None:
            raise NotFound("there is no such trigger")
        return found

    async def schedules(self, app_id: UUID, triggers: Sequence[StoredTrigger]) -> dict[UUID, StandingSchedule]:
        """How those of these triggers stand that time sets off."""
        ids = [stored.trigger.id for stored in triggers if stored.trigger.source == "cron"]
        return await read_schedules(self._reader, app_id, ids) if ids else {}

    async def create(self, app_id: UUID, kind: TriggerKind, spec: TriggerSpec, acting: Acting) -> StoredTrigger:
        """Create a trigger that runs as `acting`. Raises Invalid: also for a script of another app, or a module."""
        trigger = _trigger(uuid7(), kind, spec, acting.actor)
        return await retried(lambda: self._create(app_id, kind, spec, trigger, acting))

    async def update(
        self, app_id: UUID, trigger_id: UUID, patch: dict[str, Any], decode: DecodeSpec, acting: Acting, principal: Principal = SYSTEM
    ) -> StoredTrigger:
        """Change a trigger by a merge patch (RFC 7396) of its own fields; its registrant stays.

        Raises NotFound or Invalid, `cannot_escalate` for another script that would run with rights which the principal does not have.
        """
        return await retried(lambda: self._update(app_id, trigger_id, patch, decode, acting, principal))

    async def delete(self, app_id: UUID, trigger_id: UUID, acting: Acting) -> None:
        """Delete a trigger; what it has put into the outbox is skipped. Raises NotFound."""
        await retried(lambda: self._delete(app_id, trigger_id, acting))

    async def _create(self, app_id: UUID, kind: TriggerKind, spec: TriggerSpec, trigger: Trigger, acting: Acting) -> StoredTrigger:
        script = await require_endpoint(self._reader, app_id, spec.script_id)
        await kind.check(self._reader, app_id, spec)
        events = await self._writer.publish(app_id, acting, [self._saved(trigger, ABSENT), touch_guard(TRIGGERS_GUARD)], reads=[script])
        return StoredTrigger(app_id, trigger, events[0].recorded_at)

    async def _update(self, app_id: UUID, trigger_id: UUID, patch: dict[str, Any], decode: DecodeSpec, acting: Acting, principal: Principal) -> StoredTrigger:
        (head,) = await read_heads(self._reader, app_id, trigger_stream(trigger_id))
        now = await self.get(app_id, trigger_id)
        kind = KINDS[now.trigger.source]
        spec = decode(merge_patch(_fields(now.trigger), patch), kind.spec)
        trigger = _trigger(trigger_id, kind, spec, now.trigger.registrant)
        if trigger == now.trigger:
            return now
        if trigger.script_id != now.trigger.script_id:
            # Somebody who is gone may come back.
            refuse_stronger_run(principal, await principal_of_actor(self._reader, trigger.registrant) or SYSTEM, app_id)
        script = await require_endpoint(self._reader, app_id, spec.script_id)
        await kind.check(self._reader, app_id, spec)
        pending, ticks = await self._pending(app_id, now.trigger, trigger)
        await self._writer.publish(app_id, acting, [self._saved(trigger, head.version, pending), touch_guard(TRIGGERS_GUARD)], reads=[script, *ticks])
        return StoredTrigger(app_id, trigger, now.created_at)

    async def _delete(self, app_id: UUID, trigger_id: UUID, acting: Acting) -> None:
        (head,) = await read_heads(self._reader, app_id, trigger_stream(trigger_id))
        await self.get(app_id, trigger_id)
        deleted = Record(name=trigger_stream(trigger_id), event=TriggerDeleted(trigger_id=trigger_id))
        await self._writer.publish(app_id, acting, [Change(deleted, head.version)])

    async def _pending(self, app_id: UUID, old: Trigger, new: Trigger) -> tuple[datetime | None, list[Read]]:
        """When a trigger is due by its old schedule, which it may have missed just now; None when that is not its schedule any more.

        And what the trigger's unit must have read for that: that it has not ticked meanwhile.
        """
        if old.source != "cron" or not (old.enabled and new.enabled) or not _same_times(old, new):
            return None, []
        schedule = (await read_schedules(self._reader, app_id, [old.id])).get(old.id)
        if schedule is None:
            return None, []  # deleted meanwhile
        return schedule.next_due_at, [Read(cron_stream(old.id), schedule.tick_version or ABSENT)]

    def _saved(self, trigger: Trigger, expect: int, pending: datetime | None = None) -> Change:
        next_due_at = pending
        if trigger.source == "cron" and trigger.enabled and pending is None:
            next_due_at = first_due(trigger.detail["schedule"], trigger.detail["timezone"], self._clock())
        return Change(Record(name=trigger_stream(trigger.id), event=TriggerSaved(trigger=trigger, next_due_at=next_due_at)), expect)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: objects are merged, null removes, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _trigger(trigger_id: UUID, kind: TriggerKind, spec: TriggerSpec, registrant: str) -> Trigger:
    matching = kind.matching(spec)
    return Trigger(
        id=trigger_id,
        source=kind.source,
        script_id=spec.script_id,
        enabled=spec.enabled,
        ops=matching.ops,
        pattern=matching.pattern,
        retry=check_retry(spec.retry),
        registrant=registrant,
        detail=matching.detail,
    )


def _fields(trigger: Trigger) -> dict[str, Any]:
    """A trigger as its author would ask for it again."""
    common: dict[str, Any] = msgspec.to_builtins({"script_id": trigger.script_id, "enabled": trigger.enabled, "retry": trigger.retry})
    return {**common, **trigger.detail}


def _same_times(one: Trigger, other: Trigger) -> bool:
    return all(one.detail[name] == other.detail[name] for name in ("schedule", "timezone"))
