"""`/apps/{app}/triggers`: list, one, create by kind, change, delete."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NoReturn, NotRequired, TypedDict, cast
from uuid import UUID

import msgspec
from litestar import Router, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from domain.authz import Capability
from domain.cron import TickSkipReason
from domain.cursors import decode, encode, parse_limit
from domain.errors import NotFound
from domain.retry import RetryPolicy
from domain.triggers import Source
from projections.outbox.reads import StoredTrigger
from projections.schedules.reads import StandingSchedule
from runtime.admin.trigger_kinds import KINDS, TriggerKind, TriggerSpec
from web.admin.call import AdminCall, Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment
from web.admin.services import triggers_of
from web.bodies import decode_body
from web.pages import Page, page
from web.paths import id_segment

_BODY: Final[Any] = JSONBody
"""Seen as a value, because the shape of a body depends on the kind."""


class LastTick(TypedDict):
    """A cron trigger's last time: what ran, or why nothing did."""

    scheduled_at: datetime | None
    fired_at: datetime
    execution_id: UUID | None
    skipped: TickSkipReason | None


class Trigger(TypedDict):
    """A trigger, with the fields of its kind: `collection_glob` and `ops`, or `topic_pattern`, `schedule`, `filter` ..."""

    id: UUID
    app_id: UUID
    kind: Source
    script_id: UUID
    enabled: bool
    retry: RetryPolicy
    registrant: str
    created_at: datetime
    next_due_at: NotRequired[datetime | None]
    last_tick: NotRequired[LastTick | None]


@get("/apps/{app:str}/triggers", opt=needs(Capability.TRIGGERS_MANAGE))
async def list_triggers(call: Call, app: Segment, limit: Query = None, cursor: Query = None) -> Page[Trigger]:
    """An app's triggers in the order of their creation."""
    found = await call.app(app)
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "triggers", (UUID,))
    triggers = await triggers_of(call).page(found.app_id, after, size + 1)
    return page(await _triggers(call, found.app_id, triggers), size, lambda trigger: encode("triggers", trigger["id"]))


@get("/apps/{app:str}/triggers/{trigger:str}", opt=needs(Capability.TRIGGERS_MANAGE))
async def read_trigger(call: Call, app: Segment, trigger: Segment) -> Trigger:
    """One trigger."""
    found = await call.app(app)
    return await _trigger(call, await triggers_of(call).get(found.app_id, id_segment(trigger, "trigger")))


@patch("/apps/{app:str}/triggers/{trigger:str}", opt=needs(Capability.TRIGGERS_MANAGE))
async def update_trigger(call: Call, app: Segment, trigger: Segment, data: JSONBody[dict[str, Any]]) -> Trigger:
    """Change a trigger by a merge patch (RFC 7396) of the fields that it was created with; `null` puts a field back to its default.

    422 `cannot_escalate` for another script that would run as somebody with rights which the caller's key lacks.
    """
    found = await call.app(app)
    trigger_id = id_segment(trigger, "trigger")
    return await _trigger(call, await triggers_of(call).update(found.app_id, trigger_id, data, _decode_spec, call.acting, call.principal))


@delete("/apps/{app:str}/triggers/{trigger:str}", opt=needs(Capability.TRIGGERS_MANAGE))
async def delete_trigger(call: Call, app: Segment, trigger: Segment) -> None:
    """Delete a trigger."""
    found = await call.app(app)
    await triggers_of(call).delete(found.app_id, id_segment(trigger, "trigger"), call.acting)


@post("/apps/{app:str}/triggers/{trigger:str}", include_in_schema=False, opt=needs(Capability.TRIGGERS_MANAGE))
async def refuse_kind(call: Call, app: Segment, trigger: Segment) -> None:
    """Kinds that are not registered."""
    await call.app(app)
    _no_such_kind(trigger)


def _no_such_kind(name: str) -> NoReturn:
    raise NotFound(f"there are no triggers of this kind; there are {', '.join(KINDS)}", code="unknown_trigger_kind", kinds=list(KINDS), asked=name)


def _create_handler(kind: TriggerKind) -> HTTPRouteHandler:
    """`POST …/triggers/<kind>` with the kind's own shape of body."""

    async def create_trigger(call: Call, app: Segment, data: Any) -> Trigger:
        found = await call.app(app)
        return await _trigger(call, await triggers_of(call).create(found.app_id, kind, data, call.acting))

    create_trigger.__doc__ = f"Create a {kind.source} trigger, which runs as its creator."
    create_trigger.__annotations__["data"] = _BODY[kind.spec]
    path = f"/apps/{{app:str}}/triggers/{kind.source}"
    return post(path, operation_id=f"create_{kind.source}_trigger", opt=needs(Capability.TRIGGERS_MANAGE))(create_trigger)


def _decode_spec(fields: dict[str, Any], shape: type[TriggerSpec]) -> TriggerSpec:
    return decode_body(msgspec.json.encode(fields), shape)


async def _trigger(call: AdminCall, stored: StoredTrigger) -> Trigger:
    return (await _triggers(call, stored.app_id, [stored]))[0]


async def _triggers(call: AdminCall, app_id: UUID, stored: Sequence[StoredTrigger]) -> list[Trigger]:
    schedules = await triggers_of(call).schedules(app_id, stored)
    return [_shown(each, schedules.get(each.trigger.id)) for each in stored]


def _shown(stored: StoredTrigger, schedule: StandingSchedule | None) -> Trigger:
    trigger = stored.trigger
    shown: Any = dict(
        id=trigger.id,
        app_id=stored.app_id,
        kind=trigger.source,
        script_id=trigger.script_id,
        enabled=trigger.enabled,
        **trigger.detail,
        retry=trigger.retry,
        registrant=trigger.registrant,
        created_at=stored.created_at,
    )
    if schedule is not None:
        shown["next_due_at"] = schedule.next_due_at
        shown["last_tick"] = _last_tick(schedule)
    return cast("Trigger", shown)


def _last_tick(schedule: StandingSchedule) -> LastTick | None:
    if schedule.last_fired_at is None:
        return None
    return LastTick(
        scheduled_at=schedule.last_scheduled_at,
        fired_at=schedule.last_fired_at,
        execution_id=schedule.last_execution_id,
        skipped=schedule.last_skip_reason,
    )


router: Final = Router(
    path="/",
    route_handlers=[list_triggers, read_trigger, update_trigger, delete_trigger, refuse_kind, *map(_create_handler, KINDS.values())],
    tags=["triggers"],
)
