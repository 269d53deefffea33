"""`/apps/{app}/dead_letters`: list, count, one, replay and resolve, and replay many."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, get_args
from uuid import UUID

import msgspec
from litestar import Router, get, post
from litestar.params import JSONBody, QueryParameter

from domain.authz import Capability
from domain.cursors import decode, encode, parse_limit
from domain.errors import Invalid
from domain.executions import TaskSource
from projections.outcomes.reads import DeadLetter, DeadLetterCount, DeadLetterQuery
from runtime.admin.dead_letters import Refusal
from runtime.admin.event_items import EventItem, event_item
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment, flag, id_parameter
from web.admin.services import dead_letters_of
from web.pages import Page, page
from web.paths import id_segment

_SOURCES: Final[tuple[str, ...]] = get_args(TaskSource)
Source = Annotated[str | None, QueryParameter(schema_extra={"enum": list(_SOURCES), "description": "Only what this has caused."})]

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class DeadLetterDetail(DeadLetter, frozen=True, kw_only=True):
    """A dead letter with the event that it was to be run for: `cause.data` is its payload."""

    cause: EventItem | None


class Resolve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it is not replayed."""

    reason: str


class ReplayFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which unresolved dead letters; what is left out lets all pass. Times bound their arrival: at or after `after`, before `before`."""

    source: TaskSource | None = None
    trigger_id: UUID | None = None
    script_id: UUID | None = None
    after: Moment | None = None
    before: Moment | None = None


class ReplayMany(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`cursor` is the last answer's `next_cursor`."""

    filter: ReplayFilter = ReplayFilter()
    cursor: str | None = None


class Replayed(msgspec.Struct, frozen=True):
    """The execution that a dead letter was queued as."""

    execution_id: UUID


class ReplayedMany(msgspec.Struct, frozen=True, kw_only=True):
    """How many were replayed and which; which were left alone and why; where to go on, when there are more."""

    replayed: int
    ids: list[UUID]
    refused: list[Refusal]
    next_cursor: str | None


@get("/apps/{app:str}/dead_letters", opt=needs(Capability.DEAD_LETTERS_MANAGE))
async def list_dead_letters(  # each is a filter of the list
    call: Call,
    app: Segment,
    unresolved: Query = None,
    source: Source = None,
    trigger: Query = None,
    script: Query = None,
    limit: Query = None,
    cursor: Query = None,
) -> Page[DeadLetter]:
    """Dead letters, those of the newest executions first."""
    found = await call.app(app)
    size = parse_limit(limit)
    (before,) = (None,) if cursor is None else decode(cursor, "dead_letters", (UUID,))
    query = DeadLetterQuery(source=_source(source), trigger_id=id_parameter(trigger, "trigger"), script_id=id_parameter(script, "script"))
    rows = await dead_letters_of(call).page(found.app_id, query, before, size + 1, unresolved=flag(unresolved, "unresolved"))
    return page(rows, size, lambda row: encode("dead_letters", row.id))


@get("/apps/{app:str}/dead_letters/count", opt=needs(Capability.DEAD_LETTERS_MANAGE))
async def count_dead_letters(call: Call, app: Segment) -> DeadLetterCount:
    """How many there are, and how many are unresolved."""
    found = await call.app(app)
    return await dead_letters_of(call).count(found.app_id)


@get("/apps/{app:str}/dead_letters/{dead_letter:str}", opt=needs(Capability.DEAD_LETTERS_MANAGE))
async def read_dead_letter(call: Call, app: Segment, dead_letter: Segment) -> DeadLetterDetail:
    """One dead letter with what caused it."""
    found = await call.app(app)
    service = dead_letters_of(call)
    row = await service.get(found.app_id, id_segment(dead_letter, "dead letter"))
    cause = await service.cause(found.app_id, row)
    return DeadLetterDetail(cause=None if cause is None else event_item(cause), **msgspec.structs.asdict(row))


@post("/apps/{app:str}/dead_letters/{dead_letter:str}/replay", status_code=202, opt=needs(Capability.DEAD_LETTERS_MANAGE))
async def replay_dead_letter(call: Call, app: Segment, dead_letter: Segment) -> Replayed:
    """Queue it again. 409 when it is resolved already, or when its script or trigger would not run it."""
    found = await call.app(app)
    return Replayed(await dead_letters_of(call).replay(found.app_id, id_segment(dead_letter, "dead letter"), call.acting))


@post("/apps/{app:str}/dead_letters/{dead_letter:str}/resolve", status_code=200, opt=needs(Capability.DEAD_LETTERS_MANAGE))
async def resolve_dead_letter(call: Call, app: Segment, dead_letter: Segment, data: JSONBody[Resolve]) -> DeadLetter:
    """Resolve it as `ignored`. 409 when it is resolved already."""
    found = await call.app(app)
    return await dead_letters_of(call).resolve(found.app_id, id_segment(dead_letter, "dead letter"), data.reason, call.acting)


@post("/apps/{app:str}/dead_letters:replay", status_code=200, opt=needs(Capability.DEAD_LETTERS_MANAGE))
async def replay_dead_letters(call: Call, app: Segment, data: JSONBody[ReplayMany]) -> ReplayedMany:
    """Replay all unresolved dead letters that pass a filter, oldest first, at most 1000 a call; each is a change of its own."""
    found = await call.app(app)
    (last,) = (None,) if data.cursor is None else decode(data.cursor, "replays", (UUID,))
    wanted = data.filter
    query = DeadLetterQuery(source=wanted.source, trigger_id=wanted.trigger_id, script_id=wanted.script_id)
    done = await dead_letters_of(call).replay_many(found.app_id, query, since=wanted.after, until=wanted.before, after=last, acting=call.acting)
    following = None if done.last is None else encode("replays", done.last)
    return ReplayedMany(replayed=len(done.ids), ids=done.ids, refused=done.refused, next_cursor=following)


def _source(text: str | None) -> str | None:
    if text is not None and text not in _SOURCES:
        raise Invalid(f"source: expected one of {', '.join(_SOURCES)}", field="source")
    return text


router: Final = Router(
    path="/",
    route_handlers=[list_dead_letters, count_dead_letters, read_dead_letter, replay_dead_letter, resolve_dead_letter, replay_dead_letters],
    tags=["dead letters"],
)
