"""Following: a projection that is applied behind the commits, by one process at a time, from a checkpoint of its own in each app's log.

Why nothing is lost or applied twice, whatever dies when:

- Rows and checkpoints move in one transaction. The checkpoints move last and by compare-and-swap: if they do not stand where this process believes, somebody
  else has applied these events, or a rebuild has put other tables in place, and all of it is rolled back.
- The lock that makes it one process at a time is the session's that writes, so with the connection goes the right to go on. It is there to save work: two
  that followed at once would still count everything once.
- A batch that waits for the tables' locks while a rebuild swaps them goes on with the new tables, and fails at the checkpoint, which the swap has moved.

The connection does not wait for the disk (`synchronous_commit` off): what a crash takes back, it takes back with the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol
from uuid import UUID
from zlib import crc32

import anyio
import anyio.to_thread
import asyncpg
import structlog

from adapters.postgres.connect import LOST, connect, is_servers_fault
from adapters.postgres.projecting.port import Decoder, Positions, Projection
from adapters.postgres.projecting.replay import Range, Reading
from adapters.postgres.projecting.turns import MAX_APPS, MAX_EVENTS, Turns, reached
from domain.events import Recorded
from domain.statements import Statement, load_sql

SQL: Final = load_sql("adapters.postgres.projecting", "checkpoints.sql")

MAX_BYTES: Final = 4 * 1024 * 1024
_LOOK_AGAIN_S: Final = 1.0
_PAUSE_S: Final = 0.2
"""After a small batch of few apps: what comes meanwhile is one more, not many. After a large one there is none, because more may be waiting."""
_ON_LOOP_BYTES: Final = 64 * 1024
_ROW_BYTES: Final = 256
"""What reading a row costs beside its state."""

log = structlog.get_logger(__name__)


class Watch(Protocol):
    """Is told what followers do."""

    def followed(self, projection: str, events: int) -> None:
        """Events were applied."""
        ...

    def follow_failed(self, projection: str) -> None:
        """A batch could not be applied."""
        ...


class _Outrun(Exception):
    """A checkpoint is not where it was left."""


class Follower:
    """Applies one projection. `run` must be running in some process; `moved` or `committed` is told whenever a log has grown."""

    def __init__(self, dsn: str, projection: Projection, decoder: Decoder, watch: Watch) -> None:
        self._dsn = dsn
        self._projection = projection
        self._reading = Reading(decoder)
        self._topics = sorted(event.TOPIC for event in projection.handles)
        self._watch = watch
        self._turns: Turns | None = None
        self._wake = anyio.Event()

    def moved(self, app_id: UUID, position: int) -> None:
        """An app's log reaches `position`."""
        if self._turns is not None:
            self._turns.moved(app_id, position)
            self._wake.set()

    def committed(self, events: Sequence[Recorded], counts: Mapping[str, int]) -> None:
        """A commit of this process."""
        del counts
        for app_id, position in {recorded.app_id: recorded.position for recorded in events}.items():
            self.moved(app_id, position)

    async def run(self) -> None:
        """Follow until cancelled, whenever no other process does."""
        while True:
            try:
                await self._session()
            except _Outrun:
                log.info("follower_outrun", projection=self._projection.name)
            except (*LOST, asyncpg.PostgresError) as error:
                log.warning("follower_interrupted", projection=self._projection.name, error=str(error))
                await anyio.sleep(_LOOK_AGAIN_S)
            except Exception:  # whatever it is, this process goes on, and the follower with it
                log.exception("follower_broken", projection=self._projection.name)
                await anyio.sleep(_LOOK_AGAIN_S)

    async def _session(self) -> None:
        connection = await connect(self._dsn, application_name="picloud-follower", synchronous_commit="off")
        try:
            while not await self._leads(connection):  # noqa: ASYNC110  # no event tells that another process has died
                await anyio.sleep(_LOOK_AGAIN_S)
            await self._follow(connection)
        finally:
            self._turns = None
            connection.terminate()

    async def _leads(self, connection: asyncpg.Connection) -> bool:
        name = self._projection.name
        return bool(await connection.fetchval(SQL["lead"], name, crc32(name.encode()), self._projection.version))

    async def _follow(self, connection: asyncpg.Connection) -> None:
        turns = self._turns = Turns()
        for row in await connection.fetch(SQL["behind"], self._projection.name):
            turns.moved(row["app_id"], row["head"])
        while True:
            self._wake = anyio.Event()
            if unknown := turns.unknown():
                await self._learn(connection, turns, unknown)
            ranges = turns.next(anyio.current_time())
            await self._advance(connection, turns, ranges)
            if 0 < len(ranges) < MAX_APPS and sum(up_to - after for _, after, up_to in ranges) < MAX_EVENTS // 2:
                await anyio.sleep(_PAUSE_S)
            with anyio.move_on_after(turns.idle_s(anyio.current_time())):
                await self._wake.wait()

    async def _learn(self, connection: asyncpg.Connection, turns: Turns, app_ids: Sequence[UUID]) -> None:
        """Where these apps' checkpoints are; one that was never followed gets one at the log's beginning, one that is deleted has none."""
        await connection.execute(SQL["begin"], self._projection.name, app_ids)
        rows = await connection.fetch(SQL["positions_of"], self._projection.name, app_ids)
        turns.reached({row["app_id"]: row["position"] for row in rows})
        turns.drop_unknown(app_ids)

    async def _advance(self, connection: asyncpg.Connection, turns: Turns, ranges: Sequence[Range]) -> None:
        """Apply these ranges; if that fails each alone, so that only the app whose events cannot be applied is let alone for a while."""
        if not ranges:
            return
        try:
            turns.reached(await self._apply(connection, ranges))
        except (_Outrun, *LOST):
            raise
        except Exception as error:
            if isinstance(error, asyncpg.PostgresError) and is_servers_fault(error):
                raise
            if len(ranges) > 1:
                for one in ranges:
                    await self._advance(connection, turns, [one])
                return
            self._watch.follow_failed(self._projection.name)
            app_id, after, _ = ranges[0]
            pause_s = turns.failed(app_id, anyio.current_time())
            log.exception("follower_stuck", projection=self._projection.name, app_id=str(app_id), after=after, pause_s=pause_s)

    async def _apply(self, connection: asyncpg.Connection, ranges: Sequence[Range]) -> Positions:
        columns = [list(column) for column in zip(*ranges, strict=True)]
        async with connection.transaction():
            rows = await connection.fetch(SQL["page"], *columns, MAX_BYTES // len(ranges), self._topics)
            for stage in await self._stages(rows):
                for statement in stage:
                    await connection.execute(statement.sql, *statement.args)
            positions = reached(ranges, rows)
            await self._move(connection, columns[1], positions)
        self._watch.followed(self._projection.name, len(rows))
        return positions

    async def _stages(self, rows: Sequence[asyncpg.Record]) -> list[list[Statement]]:
        """What the events of a page come to; worked out in a thread when they are many."""
        size = sum(len(row["state"]) + _ROW_BYTES for row in rows)
        if size <= _ON_LOOP_BYTES:
            return self._stages_of(rows)
        return await anyio.to_thread.run_sync(self._stages_of, rows)

    def _stages_of(self, rows: Sequence[asyncpg.Record]) -> list[list[Statement]]:
        events = [recorded for row in rows if (recorded := self._reading.recorded(row)) is not None]
        return self._projection.apply(events) if events else []

    async def _move(self, connection: asyncpg.Connection, after: Sequence[int], positions: Positions) -> None:
        moved = await connection.fetch(SQL["move"], self._projection.name, list(positions), after, list(positions.values()), self._projection.version)
        if len(moved) != len(positions):
            raise _Outrun
