"""Replaying the log into whatever tables the connection's search path finds first: the very statements of the live projections, in pages."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from adapters.postgres.faults import DatabaseUnusable
from adapters.postgres.projecting.port import Decoder, Positions, Progress, Projection, Report
from adapters.postgres.rows import recorded_from
from domain.events import Recorded
from domain.statements import load_sql

SQL: Final = load_sql("adapters.postgres.projecting", "statements.sql")

PAGE_POSITIONS: Final = 2000
PAGE_BYTES: Final = 8 * 1024 * 1024
RUN_BYTES: Final = 16 * 1024 * 1024
"""A run of events becomes the arguments of one statement. Stored states may be compressed a thousandfold, so a page alone does not bound them."""

Range = tuple[UUID, int, int]
"""An app and its positions in (after, up to]."""


class Reading:
    """Turns rows of `events` into events. A subclass may look at each row, and may leave out what cannot be read."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def recorded(self, row: Any) -> Recorded | None:
        """The row's event. Raises DatabaseUnusable, saying which, when it cannot be read."""
        try:
            return self._decode(row)
        except Exception as error:  # a damaged state, or one of a newer program, makes a decoder raise anything
            raise DatabaseUnusable(f"event {row['position']} of app {row['app_id']} cannot be read: {error}") from error

    def _decode(self, row: Any) -> Recorded:
        return recorded_from(row, row["app_id"], self._decoder.decode)


class Replay:
    """Brings projections from where they are to given heads. `done` is where they are: it moves with each page that is committed.

    Logs that are closed have no read models. They are read only where every event is to be seen (`topics` is None).
    """

    def __init__(
        self, connection: asyncpg.Connection, projections: Sequence[Projection], reading: Reading, *, topics: Iterable[str] | None, done: Mapping[UUID, int]
    ) -> None:
        self._connection = connection
        self._projections = projections
        self._reading = reading
        self._topics = None if topics is None else sorted(topics)
        self._closed: set[UUID] = set()
        self.done: Positions = dict(done)

    async def heads(self) -> Positions:
        """How far each app's log is visible now."""
        rows = await self._connection.fetch(SQL["heads"])
        self._closed = {row["app_id"] for row in rows if row["closed"]}
        return {row["app_id"]: row["position"] for row in rows if self._topics is None or not row["closed"]}

    def lag(self, heads: Mapping[UUID, int]) -> int:
        """How many positions are still to be replayed up to these heads."""
        return sum(head - self.done.get(app_id, 0) for app_id, head in heads.items())

    async def advance(self, heads: Mapping[UUID, int]) -> None:
        """Replay one page towards these heads, in a transaction of its own (or a savepoint of the caller's)."""
        ranges = _pack(self.done, heads)
        async with self._connection.transaction():
            # One statement of a page may take a name that the next one frees (`unique` is deferrable where names are): only the page's end counts.
            await self._connection.execute("SET CONSTRAINTS ALL DEFERRED")
            reached = await self._replay(ranges)
        self.done.update(reached)

    async def finish(self, heads: Mapping[UUID, int]) -> None:
        """Replay all pages up to these heads."""
        while self.lag(heads) > 0:
            await self.advance(heads)

    async def settle(self) -> None:
        """Note, in the transaction that puts the tables in place, how far they go. Those that appends write go as far as the log itself."""

    async def _replay(self, ranges: Sequence[Range]) -> Positions:
        """Apply the events of these ranges; returns how far each was replayed."""
        columns = [list(column) for column in zip(*ranges, strict=True)]
        rows = await self._connection.fetch(SQL["page"], *columns, self._topics, PAGE_BYTES)
        run: deque[Recorded] = deque()
        size = 0
        for row in rows:
            recorded = self._reading.recorded(row)
            if recorded is None or recorded.app_id in self._closed:
                continue
            run.append(recorded)
            size += len(msgspec.json.encode(recorded.event))
            if size >= RUN_BYTES:
                await self._apply(run)
                run.clear()
                size = 0
        await self._apply(run)
        return _reached(ranges, rows)

    async def _apply(self, run: Sequence[Recorded]) -> None:
        for projection in self._projections:
            share = [recorded for recorded in run if type(recorded.event) in projection.handles]
            for stage in projection.apply(share) if share else ():
                for statement in stage:
                    await self._connection.execute(statement.sql, *statement.args)


async def delete_closed(connection: asyncpg.Connection, schema: str, tables: Iterable[str]) -> None:
    """Delete what was replayed of logs that have been closed meanwhile, and what the instance's log says of their apps: rows with an `app_id` go with it."""
    for table in tables:
        if "app_id" in [row["attname"] for row in await connection.fetch(SQL["columns"], f"{schema}.{table}")]:
            # Names of our own code.
            await connection.execute(f"DELETE FROM {schema}.{table} WHERE app_id IN (SELECT app_id FROM log_head WHERE closed)")  # noqa: S608


async def catch_up(replay: Replay, report: Report) -> None:
    """Replay until less than a quarter of a page is left: so little that it can be done under the tables' locks."""
    while replay.lag(heads := await replay.heads()) > PAGE_POSITIONS // 4:
        while replay.lag(heads) > 0:
            await replay.advance(heads)
            total = sum(heads.values())
            report(Progress(phase="replaying", done=total - replay.lag(heads), total=total))


def _pack(done: Mapping[UUID, int], heads: Mapping[UUID, int]) -> list[Range]:
    """Ranges of at most `PAGE_POSITIONS` together: many small apps share a page, a large one has many."""
    ranges: list[Range] = []
    room = PAGE_POSITIONS
    for app_id, head in heads.items():
        after = done.get(app_id, 0)
        if head > after:
            up_to = min(head, after + room)
            ranges.append((app_id, after, up_to))
            room -= up_to - after
            if room == 0:
                break
    return ranges


def _reached(ranges: Sequence[Range], rows: Sequence[asyncpg.Record]) -> Positions:
    """All ranges to their ends, unless the page was cut: then nothing after its last row. Apps stand in the order of their ids, as PostgreSQL sorts them."""
    if not rows or len(rows) == rows[0]["found"]:
        return {app_id: up_to for app_id, _, up_to in ranges}
    last = rows[-1]
    reached = {app_id: up_to for app_id, _, up_to in ranges if app_id.bytes < last["app_id"].bytes}
    reached[last["app_id"]] = last["position"]
    return reached
