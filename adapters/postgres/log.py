"""The log: append, read, follow. `open_log` is the way in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import anyio
import asyncpg
import msgspec
import structlog
from uuid_utils.compat import uuid7

from adapters.postgres.batch import HeadMove
from adapters.postgres.births import Births
from adapters.postgres.connect import LOST, is_servers_fault, unavailable
from adapters.postgres.filters import EventFilter, filtered_read
from adapters.postgres.hints import MAX_APPS, encode_hint
from adapters.postgres.judging import Codec, Judged, Judging, Project
from adapters.postgres.lane import Counts
from adapters.postgres.rows import recorded_from
from adapters.postgres.wakeups import Wakeups
from adapters.postgres.writer import Writer
from domain.claiming import Claimant
from domain.clock import Clock, utc_now
from domain.errors import PiCloudError, Unavailable
from domain.events import Event, Recorded
from domain.judge import Rules
from domain.statements import load_sql
from domain.units import Stream, Unit

__all__ = ["MAX_POSITION", "Cause", "EventFilter", "Listener", "PgLog", "open_log"]

_SQL: Final = load_sql("adapters.postgres", "log.sql")
_PAGE: Final = 500
_PAGE_BYTES: Final = 8 * 1024 * 1024
_RETRY_S: Final = 0.5
MAX_POSITION: Final = 2**63 - 1

log = structlog.get_logger(__name__)

Listener = Callable[[Sequence[Recorded], Counts], None]


class Cause(msgspec.Struct, frozen=True):
    """An event and the one before it in its stream."""

    recorded: Recorded
    before: Event | None


class PgLog:
    """The event log in PostgreSQL."""

    def __init__(self, pool: asyncpg.Pool, writer: Writer, wakeups: Wakeups, codec: Codec, listeners: list[Listener], births: Births) -> None:
        self._pool = pool
        self._writer = writer
        self._codec = codec
        self._listeners = listeners
        self._births = births
        self.wakeups = wakeups

    @property
    def looked_up(self) -> int:
        """How many commits lost their answer, so that their outcome had to be looked up."""
        return self._writer.looked_up

    def on_commit(self, listener: Listener) -> None:
        """Call `listener(events, counts)` on the loop after each commit of this process, in commit order of each app."""
        self._listeners.append(listener)

    def claim_for(self, claimant: Claimant) -> None:
        """Let rows that commits of this process add to the outbox be born claimed, as far as `claimant` would take them."""
        self._births.claimant = claimant

    async def append(self, unit: Unit) -> tuple[Recorded, ...]:
        """Append a unit, all of it or none.

        Returns its events (empty when it changed nothing) once they are durable and projected. Raises VersionConflict (and its kinds), FenceLost,
        LogClosed, Invalid, Unavailable, or OutcomeUnknown.
        """
        return await self._writer.append(unit)

    def recall(self, app_id: UUID, stream: str) -> Stream | None:
        """See `domain.ports.Recall`: what the writer remembers, unless another process is known to have appended to the app since."""
        return self._writer.recall(app_id, stream, self.wakeups.position(app_id))

    async def head(self, app_id: UUID) -> int:
        """The position of the newest event; 0 for an empty log."""
        rows = await self._fetch(_SQL["head"], app_id)
        return rows[0]["position"] if rows else 0

    async def read(self, app_id: UUID, after: int, limit: int = _PAGE, *, up_to: int = MAX_POSITION) -> list[Recorded]:
        """Events after a position, in order."""
        rows = await self._fetch(_SQL["read_events"], app_id, after, limit, up_to)
        return [recorded_from(row, app_id, self._codec.decode) for row in rows]

    async def read_filtered(self, app_id: UUID, after: int, limit: int, only: EventFilter) -> list[Recorded]:
        """Events after a position that pass a filter, in order."""
        above = None if only.since is None else await self.position_at(app_id, only.since - timedelta(microseconds=1))
        up_to = None if only.until is None else await self.position_at(app_id, only.until - timedelta(microseconds=1))
        statement = filtered_read(app_id, after, limit, only, above=above, up_to=up_to)
        rows = await self._fetch(statement.sql, *statement.args)
        return [recorded_from(row, app_id, self._codec.decode) for row in rows]

    async def read_stream(self, app_id: UUID, stream: str, up_to: int = MAX_POSITION) -> list[Recorded]:
        """A stream's events up to a position, in order."""
        rows = await self._fetch(_SQL["read_stream"], app_id, stream, up_to)
        return [recorded_from(row, app_id, self._codec.decode) for row in rows]

    async def read_version(self, app_id: UUID, stream: str, version: int) -> Recorded | None:
        """One event of a stream."""
        rows = await self._fetch(_SQL["read_stream_version"], app_id, stream, version)
        return recorded_from(rows[0], app_id, self._codec.decode) if rows else None

    async def read_positions(self, places: Sequence[tuple[UUID, int]]) -> dict[tuple[UUID, int], Recorded]:
        """The events at these places of any apps' logs."""
        rows = await self._fetch(_SQL["read_positions"], [app_id for app_id, _ in places], [position for _, position in places])
        return {(row["app_id"], row["position"]): recorded_from(row, row["app_id"], self._codec.decode) for row in rows}

    async def read_causes(self, places: Sequence[tuple[UUID, int]]) -> dict[tuple[UUID, int], Cause | None]:
        """The events at these places of any apps' logs, and those before them; None for those that would be too much at once, beyond a first one."""
        app_ids, positions = [app_id for app_id, _ in places], [position for _, position in places]
        rows = await self._fetch(_SQL["read_causes"], app_ids, positions, _PAGE_BYTES)
        return {(row["app_id"], row["position"]): self._cause(row) for row in rows}

    async def position_at(self, app_id: UUID, time: datetime) -> int:
        """The position of the last event recorded at or before a time; 0 when there is none."""
        rows = await self._fetch(_SQL["position_at"], app_id, time)
        return int(rows[0][0])

    async def follow(self, app_id: UUID, after: int) -> AsyncIterator[Recorded]:
        """All events after a position, then new ones as they come, for ever. Nothing is missed or repeated; a slow reader reads the table.

        Waits where the database is away. Raises PiCloudError (`log_damaged`) at a gap, which no reader may pass over.
        """
        while True:
            page = await self._next_page(app_id, after)
            for recorded in page:
                if recorded.position != after + 1:
                    raise PiCloudError(f"position {recorded.position} of app {app_id} follows {after}", code="log_damaged")
                yield recorded
                after = recorded.position
            if not page:
                await self.wakeups.wait(app_id, after)

    async def close_app(self, app_id: UUID) -> None:
        """Refuse every later unit of an app's log. Idempotent."""
        await self._fetch(_SQL["close_head"], app_id)

    async def note_dropped(self, app_id: UUID) -> None:
        """Take note that nothing but its events is left of a closed log: from now on `verify` finds whatever there is. Idempotent."""
        await self._fetch(_SQL["note_dropped"], app_id)

    def _cause(self, row: asyncpg.Record) -> Cause | None:
        if row["state"] is None:
            return None
        before = None if row["before_topic"] is None else self._codec.decode(row["before_topic"], row["before_state"])
        return Cause(recorded_from(row, row["app_id"], self._codec.decode), before)

    async def _next_page(self, app_id: UUID, after: int) -> list[Recorded]:
        while True:
            try:
                rows = await self._fetch(_SQL["read_page"], app_id, after, _PAGE, _PAGE_BYTES)
            except Unavailable as error:
                log.warning("follower_waits_for_database", app_id=str(app_id), error=str(error))
                await anyio.sleep(_RETRY_S)
            else:
                return [recorded_from(row, app_id, self._codec.decode) for row in rows]

    async def _fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        try:
            return await self._pool.fetch(sql, *args)
        except LOST as error:
            raise unavailable(error) from error
        except asyncpg.PostgresError as error:
            if is_servers_fault(error):
                raise unavailable(error) from error
            raise


@asynccontextmanager
async def open_log(
    dsn: str,
    pool: asyncpg.Pool,
    *,
    rules: Rules,
    codec: Codec,
    project: Project,
    clock: Clock = utc_now,
    poll_s: float = 0.5,
) -> AsyncIterator[PgLog]:
    """Open the log and run its writer and its tail until the context ends; what was accepted by then is committed first."""
    sender = uuid7().hex[-12:]
    wakeups = Wakeups(sender)
    listeners: list[Listener] = []

    def committed(judged: Judged, counts: Counts) -> None:
        for move in judged.batch.heads:
            wakeups.advance(move.app_id, move.next)
        for listener in listeners:
            try:
                listener(judged.events, counts)
            except Exception:  # what is committed stays committed, whoever stumbles over it
                log.exception("commit_listener_failed", listener=repr(listener))

    def hint(moves: Sequence[HeadMove]) -> str:
        return "" if wakeups.alone else encode_hint(sender, [(move.app_id, move.next) for move in moves[:MAX_APPS]])

    births = Births()
    writer = Writer(dsn, Judging(rules, codec, project, clock, hint), births, committed)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wakeups.run, dsn, poll_s)
        async with anyio.create_task_group() as writing:
            writing.start_soon(writer.run)
            try:
                yield PgLog(pool, writer, wakeups, codec, listeners, births)
            finally:
                writer.close()
        tasks.cancel_scope.cancel()
