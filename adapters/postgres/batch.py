"""One batch as one statement.

PostgreSQL runs a statement that stands alone as its own transaction, so a batch costs a single round trip: it moves each head from exactly the position the batch was
judged at (compare-and-swap), insists on its fences and on its writer's number, inserts the events and runs the projections, or does nothing at all.

Inside one statement the order matters: the main SELECT takes the head locks and checks everything before any of the data-modifying CTEs that it does not mention
are run (PostgreSQL completes those after the main query), so no two batches can wait for each other's rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.statements import Statement

NOTIFY_CHANNEL: Final = "picloud"

_PARAMETER: Final = re.compile(r"\$(\d+)")

_HEADS: Final = """
locked AS MATERIALIZED (
    SELECT h.app_id, u.next, u.at
    FROM log_head h JOIN unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::timestamptz[]) AS u (app_id, expected, next, at) ON u.app_id = h.app_id
    WHERE h.position = u.expected AND NOT h.closed
    ORDER BY h.app_id
    FOR UPDATE OF h
),
moved AS (
    UPDATE log_head h SET position = locked.next, last_recorded_at = locked.at FROM locked WHERE h.app_id = locked.app_id RETURNING 1
),
lane AS (UPDATE writers SET batch = $6 WHERE id = $5 AND batch = $6 - 1 RETURNING 1),
appended AS (
    INSERT INTO events (app_id, position, originator_id, originator_version, topic, state, metadata, recorded_at)
    SELECT e.app_id, e.position, e.stream, e.version, e.topic, e.state, e.metadata::jsonb, e.recorded_at
    FROM unnest($7::uuid[], $8::bigint[], $9::text[], $10::bigint[], $11::text[], $12::bytea[], $13::text[], $14::timestamptz[])
        AS e (app_id, position, stream, version, topic, state, metadata, recorded_at)
)"""
_HEADS_ARGS: Final = 14
_CHECKS: Final = """
picloud_require((SELECT count(*) FROM moved) = cardinality($1::uuid[]), 'head moved')
    AND picloud_require((SELECT count(*) FROM lane) = 1, 'batch number taken')"""
_FENCES: Final = """
fenced AS MATERIALIZED (
    SELECT 1 FROM outbox o JOIN unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS f (app_id, id, fence) ON o.app_id = f.app_id AND o.id = f.id
    WHERE o.fence = f.fence
    FOR UPDATE OF o
)"""
_FENCE_CHECK: Final = "AND picloud_require((SELECT count(*) FROM fenced) = cardinality($1::uuid[]), 'fence lost')"
_KEYS: Final = """
keyed AS (
    INSERT INTO unit_keys (app_id, key, first_position, last_position, recorded_at)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[])
)"""


class HeadMove(msgspec.Struct, frozen=True):
    """A head's move from `expected` to `next`."""

    app_id: UUID
    expected: int
    next: int
    recorded_at: datetime


class Row(msgspec.Struct, frozen=True):
    """An event as the table holds it; `metadata` is JSON text."""

    app_id: UUID
    position: int
    stream: str
    version: int
    topic: str
    state: bytes
    metadata: str
    recorded_at: datetime


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
    """Everything that is committed together, judged already."""

    heads: list[HeadMove]
    rows: list[Row]
    fences: list[FenceRow]
    keys: list[KeyRow]
    stages: list[list[Statement]]
    notify: str = ""


class _Shape(msgspec.Struct, frozen=True):
    """What a batch's SQL text depends on; there are few, so each text is made (and prepared by the driver) once."""

    fenced: bool
    keyed: bool
    stage: tuple[tuple[str, int, bool], ...]
    notified: bool


def compose(batch: Batch, writer_id: UUID, number: int) -> Statement:
    """The batch with the first of its stages as one statement.

    Its row has the verdict of the checks, then one count per counted statement in order.
    """
    stage = batch.stages[0] if batch.stages else []
    shape = _Shape(
        fenced=bool(batch.fences),
        keyed=bool(batch.keys),
        stage=tuple((statement.sql, len(statement.args), statement.counted is not None) for statement in stage),
        notified=bool(batch.notify),
    )
    args: list[Any] = [*_columns(batch.heads), writer_id, number, *_columns(batch.rows)]
    if batch.fences:
        args.extend(_columns(batch.fences))
    if batch.keys:
        args.extend(_columns(batch.keys))
    for statement in stage:
        args.extend(statement.args)
    if batch.notify:
        args.append(batch.notify)
    return Statement(_text(shape), tuple(args))


@lru_cache(maxsize=256)
def _text(shape: _Shape) -> str:
    ctes, checks, counts = [_HEADS], [_CHECKS], []
    offset = _HEADS_ARGS
    if shape.fenced:
        ctes.append(_shift(_FENCES, offset))
        checks.append(_shift(_FENCE_CHECK, offset))
        offset += len(FenceRow.__struct_fields__)
    if shape.keyed:
        ctes.append(_shift(_KEYS, offset))
        offset += len(KeyRow.__struct_fields__)
    for index, (sql, arity, counted) in enumerate(shape.stage):
        ctes.append(f"stage_{index} AS (\n{_shift(sql, offset)}\n)")
        offset += arity
        if counted:
            counts.append(f"(SELECT count(*) FROM stage_{index})")
    columns = [" ".join(checks), *counts]
    if shape.notified:
        columns.append(f"pg_notify('{NOTIFY_CHANNEL}', ${offset + 1})")
    return f"WITH {','.join(ctes)}\nSELECT {', '.join(columns)}"


def _shift(sql: str, offset: int) -> str:
    return _PARAMETER.sub(lambda match: f"${int(match[1]) + offset}", sql)


def _columns(rows: Sequence[msgspec.Struct]) -> list[list[Any]]:
    return [list(column) for column in zip(*map(msgspec.structs.astuple, rows), strict=True)]
