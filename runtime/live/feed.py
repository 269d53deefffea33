"""A feed: one app's log, followed once for all of a process's subscribers to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

import anyio
import structlog

from adapters.postgres.log import PgLog
from domain.errors import Overloaded, Unavailable
from domain.events import Event, Recorded, json_bytes
from domain.ports import Reader
from domain.statements import load_sql
from domain.topics import SubscriberKeyRevoked, TopicDeleted, TopicSaved
from runtime.live.channel import Channel, Chunk, Key, LiveName, Reading
from runtime.live.ends import End
from runtime.live.frames import tail_frame
from runtime.live.kinds import KIND_OF, KINDS, TAILS, LiveKind
from runtime.live.metrics import LiveMetrics
from runtime.live.subscription import Subscription
from runtime.live.tails import end_tail
from runtime.offloop import off_loop

_SQL: Final = load_sql("runtime.live", "live.sql")
_SCAN_POSITIONS: Final = 5000
_PAGE_EVENTS: Final = 500
_PAGE_BYTES: Final = 512 * 1024
_RETRY_S: Final = 0.5
_RETRY_AFTER_S: Final = 5.0
MAX_FILTERS: Final = 200
"""In use at one time, of one collection in one process."""
_TAILS: Final = tuple((tail, frozenset(tail.events)) for tail in TAILS)

log = structlog.get_logger(__name__)


class Feed:
    """`seen` is the position up to which every channel has had its frames. `epoch` goes up with every change of who may listen."""

    def __init__(self, app_id: UUID, log: PgLog, reader: Reader, readers: anyio.Semaphore, metrics: LiveMetrics, seen: int) -> None:
        self.app_id = app_id
        self.log = log
        self.reader = reader
        self.metrics = metrics
        self.seen = seen
        self.epoch = 0
        self.scope = anyio.CancelScope()
        self._readers = readers
        self._channels: dict[tuple[LiveName, str], dict[Key, Channel]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nobody follows."""
        return not self._channels

    def subscriptions(self) -> list[Subscription]:
        """Everybody who follows."""
        return [each for group in self._channels.values() for channel in group.values() for each in channel.subscribers]

    def channel(self, key: Key) -> Channel:
        """The channel of a topic or collection; a new one begins here. Raises Overloaded when too many filters are in use: each is asked for each event."""
        group = self._channels.get((key.kind, key.name), {})
        found = group.get(key)
        if found is None:
            if len(group) >= MAX_FILTERS:
                raise Overloaded("too many filters of this collection are followed", code="too_many_filters", retry_after_s=_RETRY_AFTER_S)
            self._channels[key.kind, key.name] = group
            found = group[key] = Channel(key, self.seen)
        return found

    def leave(self, subscription: Subscription) -> None:
        """Take a subscriber off. A channel ends with its last one."""
        channel = subscription.channel
        channel.subscribers.discard(subscription)
        if not channel.subscribers:
            group = self._channels[channel.key.kind, channel.key.name]
            del group[channel.key]
            if not group:
                del self._channels[channel.key.kind, channel.key.name]

    async def run(self) -> None:
        """Follow until cancelled. A log that cannot be followed ends every stream of the app."""
        with self.scope:
            try:
                async for recorded in self.log.follow(self.app_id, self.seen):
                    await self._dispatch(recorded)
            except Exception:
                log.exception("feed_failed", app_id=str(self.app_id), position=self.seen)
                for subscription in self.subscriptions():
                    subscription.end("error")

    @property
    def wants_runs(self) -> bool:
        """Whether somebody follows executions, some of which leave nothing in the log."""
        return ("executions", "") in self._channels

    def tell(self, end: End) -> None:
        """Offer a run that has left nothing in the log to those who follow executions."""
        frame = tail_frame(None, end)
        for channel in self._channels.get(("executions", ""), {}).values():
            if end_tail(channel.key.filter).passes(end):
                for subscription in channel.subscribers:
                    subscription.offer(frame)

    async def read_page(self, channel: Channel, after: int) -> Chunk:
        """Frames from the log, after a position below what was seen. Subscribers that ask for the same at the same time share one read."""
        while True:
            reading = channel.reads.get(after)
            if reading is None:
                return await self._read_for_all(channel, after)
            await reading.done.wait()
            if reading.chunk is not None:
                return reading.chunk

    async def _read_for_all(self, channel: Channel, after: int) -> Chunk:
        reading = channel.reads[after] = Reading()
        try:
            reading.chunk = await self._read_page(channel, after)
        finally:
            del channel.reads[after]
            reading.done.set()
        return reading.chunk

    async def _read_page(self, channel: Channel, after: int) -> Chunk:
        while True:
            try:
                async with self._readers:
                    return await self._read(channel.key, after, min(after + _SCAN_POSITIONS, self.seen))
            except Unavailable as error:
                log.warning("subscriber_waits_for_database", app_id=str(self.app_id), error=error.detail)
                await anyio.sleep(_RETRY_S)

    async def _read(self, key: Key, after: int, up_to: int) -> Chunk:
        kind = KINDS[key.kind]
        only = kind.only(key)
        narrowed = (only.prefix, only.topics, only.stream, only.actor, only.correlation_id)
        rows = await self.reader.fetch(_SQL["places"], self.app_id, after, up_to, _PAGE_EVENTS, _PAGE_BYTES, *narrowed)
        places = [row["position"] for row in rows]
        events = await self.log.read_positions([(self.app_id, position) for position in places]) if places else {}
        frames = [await self._frame(kind, events[self.app_id, position], key) for position in places]
        wanted = [frame for frame in frames if frame is not None]
        is_whole = not places or len(places) == rows[0]["found"] < _PAGE_EVENTS
        return Chunk(b"".join(wanted), up_to if is_whole else places[-1], len(wanted))

    async def _frame(self, kind: LiveKind, recorded: Recorded, key: Key) -> bytes | None:
        how = kind.how(recorded.event, await self._facts(kind, recorded) if key.filter else None, key.filter)
        return None if how is None else kind.frame(recorded, how)

    async def _dispatch(self, recorded: Recorded) -> None:
        """Give an event to its channels. Nothing is awaited between the first of them and `seen`: a channel that begins meanwhile would miss it."""
        event = recorded.event
        kind = KIND_OF.get(type(event))
        if kind is not None:
            place: tuple[LiveName, str] = (kind.kind, kind.name_of(event))
            facts = await self._facts(kind, recorded) if any(key.filter for key in self._channels.get(place, ())) else None
            self._push(kind, recorded, facts, self._channels.get(place, {}).values())
        elif isinstance(event, TopicSaved | TopicDeleted | SubscriberKeyRevoked):
            self.epoch += 1
            self._judge(event)
        for tail, events in _TAILS:
            channels = self._channels.get((tail.kind, ""))
            if channels and type(event) in events:
                self._push(tail, recorded, recorded, channels.values())
        self.seen = recorded.position

    async def _facts(self, kind: LiveKind, recorded: Recorded) -> Any:
        """What filters judge an event by."""
        before = await self._before(recorded) if kind.asks_before(recorded.event) else None
        size = sum(map(json_bytes, (recorded.event, before)))
        return await off_loop(size, lambda: kind.facts(recorded, before))

    async def _before(self, recorded: Recorded) -> Event | None:
        """The event before in the stream."""
        while True:
            try:
                found = await self.log.read_version(self.app_id, recorded.stream, recorded.version - 1)
            except Unavailable as error:
                log.warning("feed_waits_for_database", app_id=str(self.app_id), error=error.detail)
                await anyio.sleep(_RETRY_S)
            else:
                return None if found is None else found.event

    def _push(self, kind: LiveKind, recorded: Recorded, facts: Any, channels: Iterable[Channel]) -> None:
        """A frame for each way in which the event is shown, however many channels and subscribers there are."""
        frames: dict[str, bytes] = {}
        for channel in channels:
            how = kind.how(recorded.event, facts if channel.key.filter else None, channel.key.filter)
            if how is not None:
                if how not in frames:
                    frames[how] = kind.frame(recorded, how)
                channel.push(recorded.position, frames[how])
        self.metrics.encoded(len(frames))

    def _judge(self, event: TopicSaved | TopicDeleted | SubscriberKeyRevoked) -> None:
        """End the streams of those who may no longer listen."""
        if isinstance(event, SubscriberKeyRevoked):
            for subscription in self.subscriptions():
                if subscription.access.kid == event.kid:
                    subscription.end("key_revoked")
            return
        place = (event.kind, event.name) if isinstance(event, TopicDeleted) else (event.topic.kind, event.topic.name)
        for channel in self._channels.get(place, {}).values():
            for subscription in list(channel.subscribers):
                reason = None if subscription.access.is_admin else _reason(event, subscription)
                if reason is not None:
                    subscription.end(reason)


def _reason(event: TopicSaved | TopicDeleted, subscription: Subscription) -> str | None:
    if isinstance(event, TopicDeleted):
        return "unregistered"
    if not event.topic.external_subscribable:
        return "internal"
    return "token_required" if event.topic.auth_mode == "token" and subscription.access.kid is None else None
