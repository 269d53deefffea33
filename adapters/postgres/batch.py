"""One batch as one statement.

PostgreSQL runs a statement that stands alone as its own transaction, so a batch costs a single round trip: it moves each head from exactly where the batch
was judged (compare-and-swap on position and epoch), insists on its fences, inserts the events and runs the projections, or does nothing at all.

Inside one statement the order matters: the main SELECT takes the heads and checks everything before any of the data-modifying CTEs that it does not mention
are run (PostgreSQL completes those after the main query). A head that somebody else holds is not waited for: it is about to move, and other apps' units are
in the batch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec

from adapters.postgres.hints import NOTIFY_CHANNEL
from adapters.postgres.singular import in_singular, values_of
from domain.statements import Statement

HEAD_MOVED: Final = "head moved"
FENCE_LOST: Final = "fence lost"
COLUMNS_BEFORE_COUNTS: Final = 2

_PARAMETER: Final = re.compile(r"\$(\d+)")

_ONE_HEAD: Final = """
moved AS (
    UPDATE log_head SET position = $4::bigint, last_recorded_at = $5::timestamptz
    WHERE ctid = (SELECT ctid FROM log_head WHERE app_id = $1::uuid AND position = $2::bigint AND epoch = $3::bigint AND NOT closed FOR UPDATE SKIP LOCKED)
    RETURNING 1
),
appended AS (
    INSERT INTO events (app_id, position, originator_id, originator_version, topic, state, metadata, recorded_at)
    SELECT $1, e.position, e.stream, e.version, e.topic, e.state, e.metadata::jsonb, $5
    FROM unnest($6::bigint[], $7::text[], $8::bigint[], $9::text[], $10::bytea[], $11::text[]) AS e (position, stream, version, topic, state, metadata)
)"""
_ONE_EVENT: Final = values_of(_ONE_HEAD)
_ONE_MOVED: Final = "(SELECT count(*) FROM moved) = 1"
_ONE_ARGS: Final = 11

_MANY_HEADS: Final = """
held AS MATERIALIZED (
    SELECT h.ctid AS place, u.next, u.at
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[]) AS u (app_id, position, epoch, next, at)
    JOIN log_head h ON h.app_id = u.app_id
    WHERE h.position = u.position AND h.epoch = u.epoch AND NOT h.closed
    FOR UPDATE OF h SKIP LOCKED
),
moved AS (
    UPDATE log_head h SET position = held.next, last_recorded_at = held.at FROM held WHERE h.ctid = held.place RETURNING 1
),
appended AS (
    INSERT INTO events (app_id, position, originator_id, originator_version, topic, state, metadata, recorded_at)
    SELECT ($1::uuid[])[e.head], e.position, e.stream, e.version, e.topic, e.state, e.metadata::jsonb, ($5::timestamptz[])[e.head]
    FROM unnest($6::integer[], $7::bigint[], $8::text[], $9::bigint[], $10::text[], $11::bytea[], $12::text[])
        AS e (head, position, stream, version, topic, state, metadata)
)"""
_MANY_MOVED: Final = "(SELECT count(*) FROM moved) = cardinality($1::uuid[])"
_MANY_ARGS: Final = 12

_BORN: Final = "app_id, id, cause_position, source, trigger_id, script_id, fence"

_FENCES: Final = """
fenced AS MATERIALIZED (
    SELECT 1 FROM outbox o JOIN unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS f (app_id, id, fence) ON o.app_id = f.app_id AND o.id = f.id
    WHERE o.fence = f.fence
    FOR UPDATE OF o
)"""
_FENCED: Final = "(SELECT count(*) FROM fenced) = cardinality($1::uuid[])"
_KEYS: Final = """
keyed AS (
    INSERT INTO unit_keys (app_id, key, first_position, last_position, recorded_at)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[])
)"""


class HeadMove(msgspec.Struct, frozen=True):
    """A head's move from `position` (at `epoch`) to `next`."""

    app_id: UUID
    position: int
    epoch: int
    next: int
    recorded_at: datetime


class EventColumns(msgspec.Struct):
    """The events of a batch as the table's columns; `head` is the number, from 1, of an event's app among the batch's heads, `metadata` JSON text."""

    head: list[int] = []
    position: list[int] = []
    stream: list[str] = []
    version: list[int] = []
    topic: list[str] = []
    state: list[bytes] = []
    metadata: list[str] = []


class FenceRow(msgspec.Struct, frozen=True):
    """A fence that must hold."""

    app_id: UUID
    execution_id: UUID
    token: int


class KeyRow(msgspec.Struct, frozen=True):
    """An idempotency key taken by a unit of this batch."""

    app_id: UUID
    key: str
    first: int
    last: int
    recorded_at: datetime


class Batch(msgspec.Struct, kw_only=True):
    """Everything that is committed together, judged already.

    `first_unit` is the id of the unit whose event is the first of `heads[0]`'s. `notify` is empty when there is nobody to tell.
    """

    heads: list[HeadMove] = []
    events: EventColumns = msgspec.field(default_factory=EventColumns)
    fences: list[FenceRow] = []
    keys: list[KeyRow] = []
    stages: list[list[Statement]] = []
    notify: str = ""
    first_unit: UUID | None = None

    def writes(self) -> bool:
        """Whether there is anything to commit or to insist on."""
        return bool(self.heads or self.fences)


class _Shape(msgspec.Struct, frozen=True):
    """What a batch's SQL text depends on; there are few, so each text is made (and prepared by the driver) once."""

    head: str
    head_args: int
    moved: str
    fenced: bool
    keyed: bool
    notified: bool
    stage: tuple[tuple[str, int, bool, bool], ...]


def compose(batch: Batch) -> Statement:
    """The batch with the first of its stages as one statement.

    Its row has the verdict of the checks, the server's time, one count per counted statement in order, and for each claimable one the rows that were claimed.
    """
    stage = [in_singular(statement) for statement in batch.stages[0]] if batch.stages else []
    head, args = _head(batch)
    for rows in (batch.fences, batch.keys):
        args.extend(_columns(rows))
    for statement in stage:
        args.extend(statement.args)
    if batch.notify:
        args.append(batch.notify)
    shape = _Shape(
        *head, bool(batch.fences), bool(batch.keys), bool(batch.notify), tuple([(s.sql, len(s.args), s.counted is not None, s.claimable) for s in stage])
    )
    return Statement(_text(shape), tuple(args))


def _head(batch: Batch) -> tuple[tuple[str, int, str], list[Any]]:
    """SQL of the heads and events, how many parameters it has, and the check that goes with it; and its arguments."""
    events = batch.events
    columns: list[Any] = [events.position, events.stream, events.version, events.topic, events.state, events.metadata]
    if len(batch.heads) != 1:
        return (_MANY_HEADS, _MANY_ARGS, _MANY_MOVED), [*_columns(batch.heads, HeadMove), events.head, *columns]
    args = [*msgspec.structs.astuple(batch.heads[0]), *columns]
    if len(events.position) == 1:
        return (_ONE_EVENT, _ONE_ARGS, _ONE_MOVED), args[:5] + [column[0] for column in columns]
    return (_ONE_HEAD, _ONE_ARGS, _ONE_MOVED), args


@lru_cache(maxsize=512)
def _text(shape: _Shape) -> str:
    ctes = [shape.head]
    checks = [_check(shape.moved, HEAD_MOVED)]
    counts = []
    born = []
    offset = shape.head_args
    if shape.fenced:
        ctes.append(_shift(_FENCES, offset))
        checks.append(_check(_shift(_FENCED, offset), FENCE_LOST))
        offset += len(FenceRow.__struct_fields__)
    if shape.keyed:
        ctes.append(_shift(_KEYS, offset))
        offset += len(KeyRow.__struct_fields__)
    for index, (sql, arity, counted, claimable) in enumerate(shape.stage):
        ctes.append(f"stage_{index} AS (\n{_shift(sql, offset)}\n)")
        offset += arity
        if counted:
            counts.append(f"(SELECT count(*) FROM stage_{index})")  # noqa: S608  # a number
        if claimable:
            born.append(f"(SELECT array_agg(ROW({_BORN})) FROM stage_{index} WHERE fence IS NOT NULL)")  # noqa: S608  # as above
    columns = [" AND ".join(checks), "clock_timestamp()", *counts, *born]
    if shape.notified:
        columns.append(f"pg_notify('{NOTIFY_CHANNEL}', ${offset + 1})")
    return f"WITH {','.join(ctes)}\nSELECT {', '.join(columns)}"


def _check(condition: str, complaint: str) -> str:
    """The function is called only where the condition fails, so a batch that passes does not pay for it."""
    return f"CASE WHEN {condition} THEN true ELSE picloud_refuse('{complaint}') END"


def _shift(sql: str, offset: int) -> str:
    return _PARAMETER.sub(lambda match: f"${int(match[1]) + offset}", sql)


def _columns(rows: Sequence[msgspec.Struct], kind: type[msgspec.Struct] | None = None) -> list[list[Any]]:
    """Rows as columns; without rows there are none, unless `kind` says how many."""
    fields = (kind or type(rows[0])).__struct_fields__ if rows or kind else ()
    return [[getattr(row, field) for row in rows] for field in fields]
