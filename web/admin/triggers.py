"""`/apps/{app}/triggers`: list, one, create by kind, change, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NoReturn
from uuid import UUID

import msgspec
from litestar import Router, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from domain.authz import Capability
from domain.cursors import decode, encode, parse_limit
from domain.errors import NotFound
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

Trigger = dict[str, Any]
"""`{id, app_id, kind, script_id, enabled, retry, registrant, created_at}` and the kind's own fields; of cron also `next_due_at` and `last_tick`."""


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
    """Change a trigger by a merge patch (RFC 7396) of the fields that it was created with; `null` puts a field back to its default."""
    found = await call.app(app)
    return await _trigger(call, await triggers_of(call).update(found.app_id, id_segment(trigger, "trigger"), data, _decode_spec, call.acting))


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
    return post(path, operation_id=f"CreateTrigger_{kind.source}", opt=needs(Capability.TRIGGERS_MANAGE))(create_trigger)


def _decode_spec(fields: dict[str, Any], shape: type[TriggerSpec]) -> TriggerSpec:
    return decode_body(msgspec.json.encode(fields), shape)


async def _trigger(call: AdminCall, stored: StoredTrigger) -> Trigger:
    return (await _triggers(call, stored.app_id, [stored]))[0]


async def _triggers(call: AdminCall, app_id: UUID, stored: Sequence[StoredTrigger]) -> list[Trigger]:
    schedules = await triggers_of(call).schedules(app_id, stored)
    return [_shown(each) | _times(schedules.get(each.trigger.id)) for each in stored]


def _times(schedule: StandingSchedule | None) -> Trigger:
    """When a cron trigger is due next, and its last time: what ran (`execution_id`), or why nothing did (`skipped`)."""
    if schedule is None:
        return {}
    last = {
        "scheduled_at": schedule.last_scheduled_at,
        "fired_at": schedule.last_fired_at,
        "execution_id": schedule.last_execution_id,
        "skipped": schedule.last_skip_reason,
    }
    return {"next_due_at": schedule.next_due_at, "last_tick": None if schedule.last_fired_at is None else last}


def _shown(stored: StoredTrigger) -> Trigger:
    trigger = stored.trigger
    return {
        "id": trigger.id,
        "app_id": stored.app_id,
        "kind": trigger.source,
        "script_id": trigger.script_id,
        "enabled": trigger.enabled,
        **trigger.detail,
        "retry": trigger.retry,
        "registrant": trigger.registrant,
        "created_at": stored.created_at,
    }


router: Final = Router(
    path="/",
    route_handlers=[list_triggers, read_trigger, update_trigger, delete_trigger, refuse_kind, *map(_create_handler, KINDS.values())],
    tags=["triggers"],
)
