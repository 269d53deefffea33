"""The hub: all feeds of a process, and how many may subscribe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar
from uuid import UUID

import anyio
import anyio.abc
import structlog

from adapters.postgres.log import PgLog
from domain.apps import AppDeleted
from domain.errors import Overloaded, Throttled, Unavailable
from domain.events import Recorded
from domain.ids import NIL_APP
from domain.ports import Reader
from domain.statements import load_sql
from runtime.access.networks import network_of
from runtime.live.channel import Key
from runtime.live.feed import Feed
from runtime.live.metrics import LiveMetrics
from runtime.live.runs import EVERY_S, Records
from runtime.live.subscription import Access, Subscription
from runtime.settings import Realtime

_SQL: Final = load_sql("runtime.live", "live.sql")
_SLOTS: Final = 30
_CHECK_EVERY: Final = 5
"""Of these."""
_READERS: Final = 3
"""Slow subscribers leave most connections of the pool to others."""
_RETRY_AFTER_S: Final = 5.0

Judge = Callable[[], Awaitable[Access]]
"""By what right somebody listens, asked of the database now. Raises NotFound or Unauthenticated."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Live:
    """Subscriptions of this process. `run` must be running; `close` ends them all."""

    def __init__(self, events: PgLog, reader: Reader, settings: Realtime, metrics: LiveMetrics) -> None:
        self._log = events
        self._reader = reader
        self._settings = settings
        self._metrics = metrics
        self._readers = anyio.Semaphore(_READERS)
        self._feeds: dict[UUID, Feed] = {}
        self._starting = anyio.Lock()
        self._slots: tuple[set[Subscription], ...] = tuple(set() for _ in range(_SLOTS))
        self._opened = 0
        self._by_app: Counter[UUID] = Counter()
        self._by_network: Counter[str] = Counter()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._apps_moved = anyio.Event()
        self._is_closed = False
        metrics.watch(subscribers=self._by_app.total, lag=self._lag)
        events.on_commit(lambda committed, _: self._committed(committed))

    @contextmanager
    def place(self, app_id: UUID, address: str) -> Iterator[None]:
        """A place for one subscriber. Raises Overloaded or Throttled when there is none."""
        network = network_of(address)
        self._refuse_too_many(app_id, network)
        self._by_app[app_id] += 1
        self._by_network[network] += 1
        try:
            yield
        finally:
            _count_down(self._by_app, app_id)
            _count_down(self._by_network, network)

    async def subscribe(self, app_id: UUID, key: Key, judge: Judge, after: int | None) -> Subscription:
        """Begin to follow, after a position or from here on. Raises what `judge` raises, and Unavailable at the end of the process.

        A position that the log has not reached is none of its own: it is another app's that had the host before, or of before a database was restored.

        Who may listen is asked again when the log says that this has changed meanwhile, so that no change is missed between the asking and the following.
        """
        if app_id not in self._feeds:
            await judge()  # nobody who may not listen makes a process follow a log
        while True:
            feed = await self._feed(app_id)
            if after is not None and after > feed.seen and after > await self._log.head(app_id):
                after = None
            epoch = feed.epoch
            access = await judge()
            if feed.epoch == epoch and self._feeds.get(app_id) is feed and not self._is_closed:
                break
        channel = feed.channel(key)
        subscription = Subscription(feed, channel, access, after)
        channel.subscribers.add(subscription)
        self._opened += 1
        self._slots[self._opened % _SLOTS].add(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """Follow no longer."""
        subscription.close()
        subscription.feed.leave(subscription)
        for slot in self._slots:
            slot.discard(subscription)

    def forget(self, app_id: UUID) -> None:
        """Stop an app's feed, if there is one; whoever follows next begins a new one."""
        feed = self._feeds.get(app_id)
        if feed is not None:
            self._stop(feed)

    def close(self) -> None:
        """End every stream, and let none begin."""
        self._is_closed = True
        for feed in self._feeds.values():
            for subscription in feed.subscriptions():
                subscription.end("shutdown")

    def moved(self, app_id: UUID, position: int) -> None:
        """Another process has appended something: perhaps it has deleted an app."""
        del position
        if app_id == NIL_APP:
            self._apps_moved.set()

    async def run(self) -> None:
        """Run feeds and heartbeats until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._follow_runs)
            self._tasks.start_soon(self._watch_apps)
            try:
                while True:
                    await self._round()
            finally:
                self.close()

    async def _round(self) -> None:
        """Give everybody one heartbeat, a few at a time, then look after feeds."""
        idle = {feed for feed in self._feeds.values() if feed.is_idle}
        for number, slot in enumerate(self._slots):
            await anyio.sleep(self._settings.heartbeat_s / _SLOTS)
            for subscription in list(slot):
                subscription.beat()
            self._check(number)
        for feed in idle:
            if feed.is_idle:
                self._stop(feed)
        await self._end_deleted_apps()

    async def _follow_runs(self) -> None:
        """Tell those who follow executions of runs that leave nothing in the log."""
        records = Records(self._reader)
        while True:
            await anyio.sleep(EVERY_S)
            wanted = [app_id for app_id, feed in self._feeds.items() if feed.wants_runs]
            try:
                ended = await records.fresh(wanted) if wanted else ()
            except Unavailable as error:
                log.warning("runs_not_followed", error=error.detail)
                continue
            for app_id, end in ended:
                feed = self._feeds.get(app_id)
                if feed is not None:
                    feed.tell(end)

    def _check(self, number: int) -> None:
        """Ask of some of those who listen by a credential whether it is still good; so of each every few seconds."""
        for slot in self._slots[number % _CHECK_EVERY :: _CHECK_EVERY]:
            for subscription in slot:
                if subscription.access.recheck is not None:
                    subscription.check()

    async def _feed(self, app_id: UUID) -> Feed:
        async with self._starting:
            feed = self._feeds.get(app_id)
            head = await self._log.head(app_id) if feed is None else 0
            if self._tasks is None or self._is_closed:
                raise Unavailable("this process takes no subscribers now", retry_after_s=1.0)
            if feed is None:
                feed = self._feeds[app_id] = Feed(app_id, self._log, self._reader, self._readers, self._metrics, head)
                self._tasks.start_soon(self._run, feed)
            return feed

    async def _run(self, feed: Feed) -> None:
        try:
            await feed.run()
        finally:
            if self._feeds.get(feed.app_id) is feed:
                del self._feeds[feed.app_id]

    def _stop(self, feed: Feed) -> None:
        if self._feeds.get(feed.app_id) is feed:
            del self._feeds[feed.app_id]
        feed.scope.cancel()

    def _committed(self, events: Sequence[Recorded]) -> None:
        for recorded in events:
            if isinstance(recorded.event, AppDeleted):
                self._end_app(recorded.event.app_id)

    async def _watch_apps(self) -> None:
        while True:
            await self._apps_moved.wait()
            self._apps_moved = anyio.Event()
            await self._end_deleted_apps()

    async def _end_deleted_apps(self) -> None:
        """Those that another process has deleted."""
        try:
            rows = await self._reader.fetch(_SQL["gone"], list(self._feeds)) if self._feeds else ()
        except Unavailable as error:
            log.warning("live_apps_not_checked", error=error.detail)
            return
        for row in rows:
            self._end_app(row["app_id"])

    def _end_app(self, app_id: UUID) -> None:
        feed = self._feeds.get(app_id)
        for subscription in () if feed is None else feed.subscriptions():
            subscription.end("app_deleted")

    def _refuse_too_many(self, app_id: UUID, network: str) -> None:
        settings = self._settings
        if self._by_app.total() >= settings.max_subscribers:
            self._metrics.refused("process")
            raise Overloaded("too many live subscribers", code="too_many_subscribers", retry_after_s=_RETRY_AFTER_S)
        if self._by_app[app_id] >= settings.max_per_app:
            self._metrics.refused("app")
            raise Overloaded("too many live subscribers of this app", code="too_many_subscribers", retry_after_s=_RETRY_AFTER_S)
        if self._by_network[network] >= settings.max_per_address:
            self._metrics.refused("address")
            raise Throttled("too many live subscribers from this address", code="too_many_subscribers", retry_after_s=_RETRY_AFTER_S)

    def _lag(self) -> float:
        return max((self._log.wakeups.position(feed.app_id) - feed.seen for feed in self._feeds.values()), default=0)


def _count_down(counter: Counter[T], key: T) -> None:
    """Not by subtracting counters, which looks at every key."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
