"""Claiming outbox rows: the part of `outbox` that is not derived from the log.

A claim writes `worker_id` and a new `fence`. It may be committed asynchronously: a claim that a crash of PostgreSQL has undone leaves its row unclaimed,
and whoever still works under it is refused at commit, because the row does not bear its fence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.executions import Task, TaskSource
from domain.ports import Reader
from domain.statements import load_sql
from domain.triggers import Trigger
from domain.units import Fence

_SQL: Final = load_sql("projections.outbox", "claims.sql")


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed row: whose it is, its task, its attempt (from 1), when it was due, when it was first tried, and its fence."""

    app_id: UUID
    task: Task
    attempt: int
    due_at: datetime
    first_attempt_at: datetime | None
    token: int

    @property
    def fence(self) -> Fence:
        """What its outcome must carry."""
        return Fence(self.task.execution_id, self.token)


class Claimed(msgspec.Struct, frozen=True):
    """Rows that are ours now, and in how many seconds it is worth claiming again: 0 when others were claiming the same rows, None when nothing is to come."""

    claims: list[Claim]
    next_in_s: float | None


async def claim(claimer: Reader, worker_id: UUID, limit: int, per_app: int, held: Mapping[UUID, int]) -> Claimed:
    """Claim up to `limit` due rows, app by app in turn.

    `held` is how many rows each app has here already; an app gets no more than `per_app` together with them, so that one with much
    to do cannot keep the others waiting.
    """
    rows = await claimer.fetch(_SQL["claim"], worker_id, limit, list(held), list(held.values()), per_app)
    return Claimed([_claim(row) for row in rows if row["id"] is not None], rows[0]["next_in_s"])


async def release(reader: Reader, held: Claim) -> None:
    """Give a row back untouched; nothing happens when the claim is no longer ours."""
    await reader.fetch(_SQL["release"], held.app_id, held.task.execution_id, held.token)


async def release_all(reader: Reader, worker_id: UUID) -> None:
    """Give back every row of a worker that will not finish them."""
    await reader.fetch(_SQL["release_all"], worker_id)


async def release_others(reader: Reader, worker_id: UUID, tokens: Collection[int]) -> None:
    """Give back the rows of a worker that it does not know of, because the answer that told of them was lost: all but those under these fences."""
    await reader.fetch(_SQL["release_others"], worker_id, tokens)


async def orphans(reader: Reader, dead_after_s: float, limit: int) -> list[Claim]:
    """Rows claimed by workers that have stopped beating."""
    return [_claim(row) for row in await reader.fetch(_SQL["orphans"], dead_after_s, limit)]


async def read_triggers(reader: Reader, wanted: Sequence[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], Trigger]:
    """Triggers by `(app_id, trigger_id)`; deleted ones are missing."""
    rows = await reader.fetch(_SQL["triggers"], [app_id for app_id, _ in wanted], [trigger_id for _, trigger_id in wanted])
    return {(row["app_id"], row["trigger_id"]): msgspec.json.decode(row["trigger"], type=Trigger) for row in rows}


async def outbox_depth(reader: Reader) -> tuple[int, float]:
    """How many rows are due or running, and the age of the oldest in seconds."""
    rows = await reader.fetch(_SQL["depth"])
    return rows[0]["rows"], rows[0]["age_s"]


def _claim(row: Mapping[str, Any]) -> Claim:
    source: TaskSource = row["source"]
    task = Task(execution_id=row["id"], source=source, script_id=row["script_id"], trigger_id=row["trigger_id"], cause_position=row["cause_position"])
    return Claim(
        app_id=row["app_id"],
        task=task,
        attempt=row["attempt"],
        due_at=row["due_at"],
        first_attempt_at=row["first_attempt_at"],
        token=row["fence"],
    )
