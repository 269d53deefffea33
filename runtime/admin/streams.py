"""Where streams stand that no read model shows: guards, names, and the versions that a change expects."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec

from adapters.postgres.log import PgLog
from domain.events import Recorded
from domain.names import NameClaimed, guard_stream, name_stream
from domain.ports import Reader
from domain.statements import load_sql
from domain.units import EMPTY_STREAM, Stream

_SQL: Final = load_sql("runtime.admin", "streams.sql")


class StreamHead(msgspec.Struct, frozen=True):
    """A stream's version and its last event's topic; 0 and an empty topic when nothing was ever appended."""

    version: int = 0
    topic: str = ""


async def read_heads(reader: Reader, app_id: UUID, *streams: str) -> list[StreamHead]:
    """The heads of these streams, in their order, at one moment."""
    rows = await reader.fetch(_SQL["heads"], app_id, list(streams))
    found = {row["stream"]: StreamHead(row["version"], row["topic"]) for row in rows}
    return [found.get(stream, StreamHead()) for stream in streams]


async def read_states(reader: Reader, log: PgLog, app_id: UUID, *streams: str) -> list[Stream]:
    """The states of these streams, in their order, at one moment."""
    rows = await reader.fetch(_SQL["heads"], app_id, list(streams))
    places = {row["stream"]: (app_id, int(row["position"])) for row in rows}
    events = await log.read_positions(list(places.values()))
    return [_state(events[places[stream]]) if stream in places else EMPTY_STREAM for stream in streams]


async def read_guards(reader: Reader, app_id: UUID, *guards: str) -> list[int]:
    """Versions of guards, to be read before what they guard."""
    return [head.version for head in await read_heads(reader, app_id, *(guard_stream(guard) for guard in guards))]


async def is_name_taken(reader: Reader, app_id: UUID, kind: str, name: str) -> bool:
    """Whether a name is claimed."""
    (head,) = await read_heads(reader, app_id, name_stream(kind, name))
    return head.topic == NameClaimed.TOPIC


async def read_key(reader: Reader, log: PgLog, app_id: UUID, key: str) -> Recorded | None:
    """The first event of the unit that was appended with this idempotency key."""
    rows = await reader.fetch(_SQL["unit_of_key"], app_id, key)
    if not rows:
        return None
    place = (app_id, int(rows[0]["position"]))
    return (await log.read_positions([place])).get(place)


def _state(last: Recorded) -> Stream:
    return Stream(last.version, last.event, last.recorded_at)
