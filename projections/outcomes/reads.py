"""What administration reads of dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.dead_letters import Resolution
from domain.executions import FailReason, TaskSource
from domain.ports import Reader
from domain.sandbox import ScriptError
from domain.statements import load_sql

_SQL: Final = load_sql("projections.outcomes", "reads.sql")


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An execution whose last attempt failed, and its resolution, if any. `replayed_as` is the execution of its replay."""

    id: UUID
    source: TaskSource
    script_id: UUID
    trigger_id: UUID | None
    cause_position: int
    attempts: int
    reason: FailReason
    last_error: ScriptError
    first_attempt_at: datetime
    last_attempt_at: datetime
    depth: int
    correlation_id: UUID | None
    dead_lettered_at: datetime
    resolution: Resolution | None
    resolved_at: datetime | None
    resolved_by: str | None
    resolve_reason: str | None
    replayed_as: UUID | None


class DeadLetterQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters; None lets all pass."""

    source: str | None = None
    trigger_id: UUID | None = None
    script_id: UUID | None = None


class DeadLetterCount(msgspec.Struct, frozen=True):
    """How many dead letters an app has, and how many of them wait."""

    total: int
    unresolved: int


async def read_dead_letter(reader: Reader, app_id: UUID, dead_letter_id: UUID) -> DeadLetter | None:
    """A dead letter of this app."""
    rows = await reader.fetch(_SQL["dead_letter"], app_id, dead_letter_id)
    return _dead_letter(rows[0]) if rows else None


async def page_dead_letters(reader: Reader, app_id: UUID, query: DeadLetterQuery, before: UUID | None, limit: int, *, unresolved: bool) -> list[DeadLetter]:
    """Dead letters by their executions, newest first: all, or only unresolved ones."""
    sql = _SQL["unresolved_dead_letters" if unresolved else "dead_letters"]
    return [_dead_letter(row) for row in await reader.fetch(sql, app_id, before, query.source, query.trigger_id, query.script_id, limit)]


async def page_replayable(
    reader: Reader, app_id: UUID, query: DeadLetterQuery, *, after: UUID | None, since: datetime | None, until: datetime, limit: int
) -> list[UUID]:
    """Ids of unresolved dead letters that arrived in [since, until), oldest execution first."""
    sql = _SQL["replayable_dead_letters"]
    rows = await reader.fetch(sql, app_id, after, query.source, query.trigger_id, query.script_id, since, until, limit)
    return [row["dead_letter_id"] for row in rows]


async def count_dead_letters(reader: Reader, app_id: UUID) -> DeadLetterCount:
    """All of an app's, and the unresolved ones."""
    rows = await reader.fetch(_SQL["count_dead_letters"], app_id)
    return DeadLetterCount(rows[0]["total"], rows[0]["unresolved"])


def _dead_letter(row: Mapping[str, Any]) -> DeadLetter:
    fields = dict(row)
    last_error = msgspec.json.decode(fields.pop("last_error"), type=ScriptError)
    return DeadLetter(id=fields.pop("dead_letter_id"), last_error=last_error, **fields)
