"""A commit lane: one connection that commits batches, and looks up the outcome of a commit whose answer was lost instead of guessing it.

Every batch moves its apps' heads from the position and epoch it was judged at. When the connection breaks while a batch is under way, the lane *burns* it
on another connection: it moves the epoch of each head that still stands at the batch's position, which waits for an old backend that is committing at that
instant. After that the batch is in the log, or it never will be, because a backend that still has the statement finds another epoch; its first event tells
which.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import anyio
import asyncpg
import msgspec

from adapters.postgres.batch import COLUMNS_BEFORE_COUNTS, Batch, compose
from adapters.postgres.connect import LOST, connect
from domain.errors import OutcomeUnknown
from domain.judge import Head
from domain.statements import Statement, load_sql

_SQL: Final = load_sql("adapters.postgres", "log.sql")
LOOK_UP_FOR_S: Final = 30.0
_RECONNECT_PAUSE_S: Final = 0.1
_LOCK_TIMEOUT: Final = "3s"
_REFUSED: Final = "PC001"
_TURNS: Final = 0x7475726E  # "turn": the class of our advisory locks that are turns

Counts = dict[str, int]


class Done(msgspec.Struct, frozen=True):
    """A committed batch: rows written by label, not counting those that were born claimed, which are in `born`, and the server's time.

    When the answer was lost the time is None, and nobody knows what was born claimed.
    """

    counts: Counts
    at: datetime | None = None
    born: Sequence[Sequence[Any]] = ()


class NotCommitted(Exception):  # an outcome, not an error: whoever catches it judges the batch again
    """The connection was lost; the batch was not committed and never will be."""


class Stale(Exception):  # as NotCommitted
    """The log is not as the batch assumed: a head moved, is held or closed, a fence was lost, or a stream or key exists that was thought not to."""


class Lane:
    """One connection that commits batches, one after another. Not for concurrent use. `looked_up` counts the outcomes that had to be looked up."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection | None = None
        self._turn: UUID | None = None
        self.looked_up = 0

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Read, or write something idempotent. Raises what asyncpg raises."""
        return await (await self._open()).fetch(sql, *args)

    async def commit(self, batch: Batch) -> Done:
        """Commit a batch: one of at most one stage in one round trip.

        Raises Stale, NotCommitted, OutcomeUnknown when the database stayed away too long to ask, and asyncpg.PostgresError for whatever else PostgreSQL
        refuses; then nothing was committed.
        """
        connection = await self._open()
        if len(batch.stages) > 1:
            return await self._commit_stages(connection, batch)
        try:
            return _done(batch, await _run(connection, compose(batch)))
        except LOST:
            return await self._look_up(batch)

    async def take_turn(self, app_id: UUID) -> Head:
        """Wait until it is this lane's turn to write to an app; returns its head. Raises what asyncpg raises. A lost connection gives the turn up."""
        rows = await self.fetch(_SQL["take_turn"], _TURNS, _turn_of(app_id), app_id)
        self._turn = app_id
        if not rows:
            await self.fetch(_SQL["ensure_heads"], [app_id])
            rows = await self.fetch(_SQL["heads"], [app_id])
        return head_from(rows[0])

    async def end_turn(self) -> None:
        """Give the turn to the next in line, unless it was lost with a connection."""
        if self._turn is not None:
            app_id, self._turn = self._turn, None
            await self.fetch(_SQL["end_turn"], _TURNS, _turn_of(app_id))

    async def wait_for_head(self, app_id: UUID) -> Head:
        """An app's head, once nobody holds it. Raises asyncpg.LockNotAvailableError when that takes too long."""
        return head_from((await self.fetch(_SQL["lock_head"], app_id))[0])

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(*LOST, asyncpg.PostgresError):
                await self._connection.close(timeout=2)
            self._connection = None

    def terminate(self) -> None:
        """Drop the connection without a word."""
        self._turn = None
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _open(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._turn = None
            self._connection = await connect(self._dsn, lock_timeout=_LOCK_TIMEOUT)
        return self._connection

    async def _commit_stages(self, connection: asyncpg.Connection, batch: Batch) -> Done:
        try:
            await connection.execute("BEGIN")
            done = _done(batch, await _run(connection, compose(batch)))
            for statement in (statement for stage in batch.stages[1:] for statement in stage):
                rows = await connection.fetch(statement.sql, *statement.args)
                if statement.counted is not None:
                    done.counts[statement.counted] = done.counts.get(statement.counted, 0) + len(rows)
        except LOST as error:
            self.terminate()
            raise NotCommitted from error
        except BaseException:
            await self._roll_back(connection)
            raise
        try:
            status = await connection.execute("COMMIT")
        except LOST:
            return await self._look_up(batch)
        if status != "COMMIT":  # PostgreSQL answers ROLLBACK, and no error, to the COMMIT of a transaction that has failed
            raise NotCommitted(status)
        return done

    async def _roll_back(self, connection: asyncpg.Connection) -> None:
        try:
            await connection.execute("ROLLBACK")
        except (*LOST, asyncpg.PostgresError):
            self.terminate()

    async def _look_up(self, batch: Batch) -> Done:
        """Whether a batch whose answer was lost was committed. Each count is then taken as 1, enough to wake whoever waits for more."""
        self.terminate()
        self.looked_up += 1
        with anyio.move_on_after(LOOK_UP_FOR_S):
            while True:
                try:
                    committed = await self._burn(batch)
                except (*LOST, asyncpg.PostgresError):
                    await anyio.sleep(_RECONNECT_PAUSE_S)
                    continue
                if not committed:
                    raise NotCommitted
                return Done({statement.counted: 1 for stage in batch.stages for statement in stage if statement.counted is not None})
        raise OutcomeUnknown

    async def _burn(self, batch: Batch) -> bool:
        if not batch.heads:
            return False  # it wrote nothing; whether its fences hold is asked again
        connection = await connect(self._dsn)
        try:
            first = batch.heads[0]
            await connection.execute(_SQL["burn_heads"], [head.app_id for head in batch.heads], [head.position for head in batch.heads])
            return bool(await connection.fetchval(_SQL["is_committed"], first.app_id, first.position + 1, str(batch.first_unit)))
        finally:
            connection.terminate()


def head_from(row: asyncpg.Record) -> Head:
    """A head from a row with its columns."""
    return Head(position=row["position"], epoch=row["epoch"], last_recorded_at=row["last_recorded_at"], closed=row["closed"])


def _turn_of(app_id: UUID) -> int:
    """The advisory lock of an app's turn; apps that share one only wait for each other a little."""
    return int.from_bytes(app_id.bytes[-4:], signed=True)


async def _run(connection: asyncpg.Connection, statement: Statement) -> Any:
    """The one row of a composed batch."""
    try:
        return await connection.fetchrow(statement.sql, *statement.args)
    except asyncpg.UniqueViolationError as error:
        raise Stale(error.constraint_name) from error
    except asyncpg.PostgresError as error:
        if error.sqlstate == _REFUSED:
            raise Stale(str(error)) from error
        raise


def _done(batch: Batch, row: Any) -> Done:
    stage: Sequence[Statement] = batch.stages[0] if batch.stages else ()
    counts: Counts = {}
    born: list[Sequence[Any]] = []
    counted = [statement for statement in stage if statement.counted is not None]
    at = len(counted) + COLUMNS_BEFORE_COUNTS
    for index, statement in enumerate(counted):
        assert statement.counted is not None
        claimed = ()
        if statement.claimable:
            claimed, at = row[at] or (), at + 1
            born.extend(claimed)
        counts[statement.counted] = counts.get(statement.counted, 0) + row[index + COLUMNS_BEFORE_COUNTS] - len(claimed)
    return Done(counts, row[1], born)
