"""The log as a recorder of the `eventsourcing` library, and how a stock application of that library reads an app's log.

**The facade.** `open_recorder(dsn, app_id)` gives a synchronous `ApplicationRecorder` over one app's log; positions are its notification ids. It keeps any
topic and any state bytes. Unlike the library's own recorders it insists that a stream's versions have no gap: the first is 0 or 1, as its writer likes, and
each later one follows. It may be called from any thread.

**A stock application** needs no code of ours. `SELECT picloud_open_app('<app id>', 'app_shop', 'audit', 'reader_role')` makes the view
`app_shop.audit_events`; then

    class Audit(Application[str]):
        env = {
            "PERSISTENCE_MODULE": "eventsourcing.postgres", "CREATE_TABLE": "no", "ORIGINATOR_ID_TYPE": "text",
            "POSTGRES_SCHEMA": "app_shop", "POSTGRES_DBNAME": ..., "POSTGRES_HOST": ..., "POSTGRES_USER": "reader_role", "POSTGRES_PASSWORD": ...,
            "COMPRESSOR_TOPIC": "adapters.postgres.recorder:StateCompressor",
        }

reads the app's notification log and streams; originator ids are stream names (`kv:<collection>:<key>`). What it writes is refused. Give it a role that may
read nothing else: a superuser's failed write still locks `events` for an instant. Its subscriptions catch up but are not woken, because PiCloud notifies no
channel of that library's.

A state is the event's JSON, zlib-compressed when large: it begins with `{` or with 0x78. `StateCompressor` undoes that for the library's mapper, and
`eventsourcing.utils.register_topic("kv.KvSet", YourClass)` tells it which class of yours an event's topic is.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
from anyio.from_thread import BlockingPortal, start_blocking_portal
from eventsourcing import persistence
from eventsourcing.persistence import ApplicationRecorder, Compressor, ListenNotifySubscription, Notification, StoredEvent
from uuid_utils.compat import uuid7

from adapters.postgres.connect import LOST, open_pool
from adapters.postgres.log import MAX_POSITION, PgLog, open_log
from domain.aggregates import Aggregate, always
from domain.clock import utc_now
from domain.errors import Conflict, Invalid, OutcomeUnknown, PiCloudError, Throttled, VersionConflict
from domain.events import Event, Metadata
from domain.judge import Rules
from domain.statements import load_sql
from domain.units import Change, Effect, Stream, Unit

_SQL: Final = load_sql("adapters.postgres", "recorder.sql")

OriginatorIds = Literal["uuid", "text"]


class RawEvent(Event, frozen=True, kw_only=True):
    """Any event: its topic and its state as they are."""

    topic: str
    state: bytes

    @property
    def TOPIC(self) -> str:  # type: ignore[override]  # noqa: N802  # each has its own
        return self.topic


class AppendRaw(Effect, frozen=True, kw_only=True):
    """Append an event to a stream at this very version."""

    name: str
    version: int
    event: RawEvent

    @property
    def stream(self) -> str:
        return self.name


class RawRules(Rules):
    """Versions are said by whoever appends, and must go on without a gap from 0 or 1."""

    first_versions = frozenset({0, 1})

    def __init__(self) -> None:
        super().__init__([Aggregate(kind="raw", events=(RawEvent,), deciders={}, exists=always)])

    def first_version(self, effect: Effect) -> int:
        return effect.version if isinstance(effect, AppendRaw) else 1

    def decide(self, effect: Effect, stream: Stream, now: datetime) -> Sequence[Event]:
        """The event itself. Raises VersionConflict where it does not follow what is there."""
        assert isinstance(effect, AppendRaw)
        follows = effect.version in self.first_versions if stream.last is None else effect.version == stream.version + 1
        if not follows:
            raise VersionConflict(f"{effect.name} is not at the version before {effect.version}", stream=effect.name)
        return (effect.event,)


class RawCodec:
    """States as they are."""

    def encode(self, event: Event) -> bytes:
        """A raw event's state."""
        assert isinstance(event, RawEvent)
        return event.state

    def pack(self, state: bytes) -> bytes:
        """It is as the library made it."""
        return state

    def decode(self, topic: str, state: bytes) -> RawEvent:
        """Any row's event."""
        return RawEvent(topic=topic, state=state)


class StateCompressor(Compressor):
    """For the library's mapper: reads PiCloud's states, compressed or not."""

    def compress(self, data: bytes) -> bytes:
        return data

    def decompress(self, data: bytes) -> bytes:
        return data if data[:1] == b"{" else zlib.decompress(data)


class PgApplicationRecorder(ApplicationRecorder):
    """One app's log. Errors are those of `eventsourcing.persistence`."""

    def __init__(self, portal: BlockingPortal, log: PgLog, pool: asyncpg.Pool, app_id: UUID, originator_ids: OriginatorIds) -> None:
        self._portal = portal
        self._log = log
        self._pool = pool
        self._app_id = app_id
        self._originator_id = UUID if originator_ids == "uuid" else str

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        """Append events, all or none; returns their positions. Raises IntegrityError where a version is taken or does not follow."""
        effects = [
            AppendRaw(name=str(e.originator_id), version=e.originator_version, event=RawEvent(topic=e.topic, state=bytes(e.state))) for e in stored_events
        ]
        unit = Unit(app_id=self._app_id, metadata=Metadata(unit_id=uuid7()), now=utc_now(), changes=tuple(map(Change, effects)))
        with _translated():
            return [recorded.position for recorded in self._portal.call(self._log.append, unit)]

    def select_events(
        self, originator_id: UUID | str, *, gt: int | None = None, lte: int | None = None, desc: bool = False, limit: int | None = None
    ) -> Sequence[StoredEvent]:
        sql = _SQL["select_events_descending" if desc else "select_events"]
        rows = self._fetch(sql, self._app_id, str(originator_id), -1 if gt is None else gt, MAX_POSITION if lte is None else lte, limit)
        return [StoredEvent(originator_id, row["originator_version"], row["topic"], row["state"]) for row in rows]

    def select_notifications(
        self, start: int | None, limit: int, stop: int | None = None, topics: Sequence[str] = (), *, inclusive_of_start: bool = True
    ) -> Sequence[Notification]:
        after = 0 if start is None else start - inclusive_of_start
        rows = self._fetch(_SQL["select_notifications"], self._app_id, after, MAX_POSITION if stop is None else stop, list(topics) or None, limit)
        return [
            Notification(
                originator_id=self._originator_id(row["originator_id"]),
                originator_version=row["originator_version"],
                topic=row["topic"],
                state=row["state"],
                id=row["position"],
            )
            for row in rows
        ]

    def max_notification_id(self) -> int | None:
        with _translated():
            return self._portal.call(self._log.head, self._app_id) or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> PgSubscription:
        return PgSubscription(self, gt, topics)

    def watch(self, subscription: PgSubscription) -> Future[None]:
        """Wake a subscription whenever the log goes on, until the future is cancelled."""
        return self._portal.start_task_soon(self._watch, subscription)

    async def _watch(self, subscription: PgSubscription) -> None:
        position = 0
        while True:
            position = await self._log.wakeups.wait(self._app_id, position)
            subscription.wake()

    def _fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        with _translated():
            return self._portal.call(self._pool.fetch, sql, *args)


class PgSubscription(ListenNotifySubscription[PgApplicationRecorder]):
    """Notifications for ever, from the table, woken by the log's wake-ups."""

    def __init__(self, recorder: PgApplicationRecorder, gt: int | None = None, topics: Sequence[str] = ()) -> None:
        super().__init__(recorder, gt, topics)
        self._watching = recorder.watch(self)

    def wake(self) -> None:
        """There may be more to read."""
        self._has_been_notified.set()

    def stop(self) -> None:
        self._watching.cancel()
        super().stop()


@contextmanager
def open_recorder(dsn: str, app_id: UUID, *, originator_ids: OriginatorIds = "uuid", max_connections: int = 4) -> Iterator[PgApplicationRecorder]:
    """Open a recorder over one app's log; its loop runs in a thread of its own until the context ends."""
    with start_blocking_portal("asyncio", {"use_uvloop": True}) as portal, portal.wrap_async_context_manager(_open(dsn, max_connections)) as (log, pool):
        yield PgApplicationRecorder(portal, log, pool, app_id, originator_ids)


@asynccontextmanager
async def _open(dsn: str, max_connections: int) -> AsyncIterator[tuple[PgLog, asyncpg.Pool]]:
    async with open_pool(dsn, max_connections) as pool, open_log(dsn, pool, rules=RawRules(), codec=RawCodec(), project=lambda _: []) as log:
        yield log, pool


@contextmanager
def _translated() -> Iterator[None]:
    """Our errors and the driver's as the library's."""
    try:
        yield
    except Conflict as error:
        raise persistence.IntegrityError(str(error)) from error
    except Invalid as error:
        raise persistence.DataError(str(error)) from error
    except (Throttled, OutcomeUnknown, *LOST) as error:
        raise persistence.OperationalError(str(error)) from error
    except (PiCloudError, asyncpg.PostgresError) as error:
        raise persistence.DatabaseError(str(error)) from error
