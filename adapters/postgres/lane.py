"""A commit lane: one connection with its own batch counter, so that the outcome of a commit whose answer was lost is looked up, never guessed.

Every batch moves its lane's row in `writers` from n-1 to n in its own transaction. When the connection breaks while batch n is under way, the lane reconnects and
*burns* n: under the row's lock it moves the row on unless it stands at n. It stands at n: the batch was committed. It does not: the batch was not, and never will be, because
a backend that still holds the old statement finds the number taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import anyio
import asyncpg
from uuid_utils.compat import uuid7

from adapters.postgres.batch import Batch, compose
from adapters.postgres.connect import LOST, connect
from domain.errors import OutcomeUnknown
from domain.judge import Head
from domain.statements import Statement, load_sql

_SQL: Final = load_sql("adapters.postgres", "log.sql")
RECONNECT_FOR_S: Final = 30.0
_RECONNECT_PAUSE_S: Final = 0.1

Counts = dict[str, int]


class NotCommitted(Exception):  # noqa: N818  # an outcome, not an error: whoever catches it judges the batch again
    """The batch was not committed and never will be."""


class Lane:
    """One connection that commits batches, one after another. Not for concurrent use."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection | None = None
        self._id: UUID = uuid7()
        self._number = 0

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Read outside of any batch. Raises what asyncpg raises."""
        return await (await self._open()).fetch(sql, *args)

    async def commit(self, batch: Batch) -> Counts:
        """Commit a batch of at most one stage in one round trip.

        Raises NotCommitted when a head, fence or key was not as the batch assumed, or the connection was lost before the commit; asyncpg.PostgresError for
        anything else that PostgreSQL refuses; OutcomeUnknown when the database stayed away too long to ask.
        """
        connection = await self._open()
        self._number += 1
        statement = compose(batch, self._id, self._number)
        try:
            row = await connection.fetchrow(statement.sql, *statement.args)
        except LOST:
            return await self._look_up(batch)
        except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError) as error:
            self._number -= 1
            raise NotCommitted(str(error)) from error
        except asyncpg.PostgresError as error:
            self._number -= 1
            if error.sqlstate == "PC001":
                raise NotCommitted(str(error)) from error
            raise
        return _counts(batch.stages[0] if batch.stages else (), row)

    async def begin(self, app_id: UUID) -> Head:
        """Begin a transaction that holds an app's head. Finish it with `commit_begun` or `roll_back`."""
        connection = await self._open()
        await connection.execute("BEGIN")
        row = await connection.fetchrow(_SQL["lock_head"], app_id)
        if row is None:
            await connection.execute(_SQL["ensure_head"], app_id)
            row = await connection.fetchrow(_SQL["lock_head"], app_id)
        return Head(row["position"], row["last_recorded_at"], row["closed"])

    async def commit_begun(self, batch: Batch) -> Counts:
        """Commit a batch, of any number of stages, in the transaction that `begin` has begun. Raises as `commit`."""
        connection = await self._open()
        self._number += 1
        statement = compose(batch, self._id, self._number)
        try:
            row = await connection.fetchrow(statement.sql, *statement.args)
            counts = _counts(batch.stages[0] if batch.stages else (), row)
            for stage in batch.stages[1:]:
                for later in stage:
                    rows = await connection.fetch(later.sql, *later.args)
                    if later.counted is not None:
                        counts[later.counted] = counts.get(later.counted, 0) + len(rows)
        except LOST:
            raise
        except BaseException:
            self._number -= 1
            await self.roll_back()
            raise
        try:
            await connection.execute("COMMIT")
        except LOST:
            await self._look_up(batch)
        return counts

    async def roll_back(self) -> None:
        """End a transaction that `begin` has begun without a trace; a lost connection has done so already."""
        if self._connection is not None:
            with contextlib.suppress(*LOST):
                await self._connection.execute("ROLLBACK")

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(*LOST):
                await self._connection.close(timeout=2)
            self._connection = None

    def terminate(self) -> None:
        """Drop the connection without a word."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _open(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            connection = await connect(self._dsn)
            self._id, self._number = uuid7(), 0
            await connection.execute(_SQL["register_writer"], self._id)
            self._connection = connection
        return self._connection

    async def _look_up(self, batch: Batch) -> Counts:
        """Whether batch `self._number` was committed; counts are then taken as 1 each, enough to wake whoever waits for them."""
        number, writer_id = self._number, self._id
        self.terminate()
        with anyio.move_on_after(RECONNECT_FOR_S):
            while True:
                try:
                    connection = await connect(self._dsn)
                    try:
                        found = await connection.fetchval(_SQL["burn_batch"], writer_id, number)
                    finally:
                        connection.terminate()
                except (*LOST, asyncpg.PostgresError):
                    await anyio.sleep(_RECONNECT_PAUSE_S)
                    continue
                if found == number:
                    return {statement.counted: 1 for stage in batch.stages for statement in stage if statement.counted is not None}
                raise NotCommitted("connection lost before the commit")
        raise OutcomeUnknown


def _counts(stage: Sequence[Statement], row: asyncpg.Record) -> Counts:
    labels = [statement.counted for statement in stage if statement.counted is not None]
    counts: Counts = {}
    for index, label in enumerate(labels):
        counts[label] = counts.get(label, 0) + row[index + 1]
    return counts
