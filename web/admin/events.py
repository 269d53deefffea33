"""`/apps/{app}/events` and `/events`: what happened, in order; `/apps/{app}/history`: what happened to one thing.

The log of a deleted app stays readable, by the app's id, to the instance's owners.
"""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import Router, get
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter, SkipValidation

from adapters.postgres.log import EventFilter
from domain import docs, files
from domain.authz import Capability
from domain.cursors import MAX_POSITION, decode, encode, parse_limit, parse_position, parse_time
from domain.errors import NotFound
from domain.ids import NIL_APP
from domain.kv import check_collection, check_key, entry_stream
from runtime.admin.event_items import EventItem, event_item
from web.admin.call import AdminCall, Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment, id_parameter, text_parameter
from web.admin.services import audit_of
from web.pages import Page, cut_page
from web.paths import id_segment, segment

_MAX_POSITION_DIGITS: Final = 19


class EventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which page of which events a list was asked for."""

    after: int
    limit: int
    only: EventFilter


async def read_query(  # noqa: PLR0913  # each is a parameter of the list
    *,
    after: Query = None,
    cursor: Query = None,
    limit: Query = None,
    topic: Query = None,
    stream: Query = None,
    actor: Query = None,
    correlation_id: Query = None,
    since: Annotated[str | None, QueryParameter(name="from")] = None,
    until: Annotated[str | None, QueryParameter(name="to")] = None,
) -> EventQuery:
    """The parameters of a list of events: `after` is a position, `cursor` the same from the last page; `from` and `to` bound the time, `to` exclusive."""
    correlation = id_parameter(correlation_id, "correlation_id")
    only = EventFilter(
        topics=None if topic is None else (text_parameter(topic, "topic"),),
        stream=None if stream is None else text_parameter(stream, "stream"),
        actor=None if actor is None else text_parameter(actor, "actor"),
        correlation_id=None if correlation is None else str(correlation),
        since=None if since is None else parse_time(since, "from"),
        until=None if until is None else parse_time(until, "to"),
    )
    return EventQuery(after=_after(after, cursor), limit=parse_limit(limit), only=only)


EventQueryParameters = NamedDependency[SkipValidation[EventQuery]]


@get("/apps/{app:str}/events", dependencies={"wanted": Provide(read_query)}, opt=needs(Capability.EVENTS_READ))
async def list_events(call: Call, app: Segment, wanted: EventQueryParameters) -> Page[EventItem]:
    """An app's events in order."""
    app_id = await call.app_or_deleted(app)
    return await _page(call, app_id, wanted)


@get("/apps/{app:str}/events/{position:str}", opt=needs(Capability.EVENTS_READ))
async def read_event(call: Call, app: Segment, position: Segment) -> EventItem:
    """The event at a position."""
    app_id = await call.app_or_deleted(app)
    return event_item(await audit_of(call).get(app_id, _position(position)))


@get("/apps/{app:str}/history/kv/{collection:str}/{key:str}", opt=needs(Capability.EVENTS_READ, Capability.KV_READ))
async def read_kv_history(call: Call, app: Segment, collection: Segment, key: Segment, limit: Query = None, cursor: Query = None) -> Page[EventItem]:
    """Everything that ever happened to one key-value entry, by its versions."""
    app_id = await call.app_or_deleted(app)
    stream = entry_stream(check_collection(segment(collection, "collection")), check_key(segment(key, "key")))
    return await _history(call, app_id, stream, limit, cursor)


@get("/apps/{app:str}/history/docs/{collection:str}/{id:str}", opt=needs(Capability.EVENTS_READ, Capability.DOCS_READ))
async def read_docs_history(
    call: Call,
    app: Segment,
    collection: Segment,
    id: Segment,  # noqa: A002  # as the path names it
    limit: Query = None,
    cursor: Query = None,
) -> Page[EventItem]:
    """Everything that ever happened to one document, by its versions."""
    app_id = await call.app_or_deleted(app)
    stream = docs.doc_stream(docs.check_collection(segment(collection, "collection")), docs.check_id(segment(id, "id")))
    return await _history(call, app_id, stream, limit, cursor)


@get("/apps/{app:str}/history/files/{collection:str}/{file_id:str}", opt=needs(Capability.EVENTS_READ, Capability.FILES_READ))
async def read_file_history(call: Call, app: Segment, collection: Segment, file_id: Segment, limit: Query = None, cursor: Query = None) -> Page[EventItem]:
    """Everything that ever happened to one file, by its versions; `?at=` with an event's position reads its bytes as they were then."""
    app_id = await call.app_or_deleted(app)
    stream = files.file_stream(files.check_collection(segment(collection, "collection")), id_segment(file_id, "file"))
    return await _history(call, app_id, stream, limit, cursor)


@get("/events", dependencies={"wanted": Provide(read_query)}, opt=needs(Capability.INSTANCE_READ_LOG))
async def list_instance_events(call: Call, wanted: EventQueryParameters) -> Page[EventItem]:
    """The instance's own events (users, apps, hosts) in order, for owners."""
    return await _page(call, NIL_APP, wanted)


@get("/events/{position:str}", opt=needs(Capability.INSTANCE_READ_LOG))
async def read_instance_event(call: Call, position: Segment) -> EventItem:
    """One of the instance's own events, for owners."""
    return event_item(await audit_of(call).get(NIL_APP, _position(position)))


async def _history(call: AdminCall, app_id: UUID, stream: str, limit: str | None, cursor: str | None) -> Page[EventItem]:
    size = parse_limit(limit)
    (after,) = (0,) if cursor is None else decode(cursor, "history", (int,))
    events = await audit_of(call).history(app_id, stream, after, size)
    return cut_page(events.more, [event_item(event) for event in events.items], lambda event: encode("history", event.version))


async def _page(call: AdminCall, app_id: UUID, query: EventQuery) -> Page[EventItem]:
    found = await audit_of(call).page(app_id, query.after, query.limit, query.only)
    return cut_page(found.more, [event_item(event) for event in found.items], lambda event: str(event.position))


def _after(after: str | None, cursor: str | None) -> int:
    if cursor is not None:
        return parse_position(cursor, "cursor")
    return 0 if after is None else parse_position(after, "after")


def _position(text: str) -> int:
    """The position in a path; what cannot be one is where nothing is."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_POSITION_DIGITS and int(text) <= MAX_POSITION):
        raise NotFound("there is no event at this position")
    return int(text)


router: Final = Router(
    path="/",
    route_handlers=[list_events, read_event, read_kv_history, read_docs_history, read_file_history, list_instance_events, read_instance_event],
    tags=["audit"],
)
