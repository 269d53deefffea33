"""One subscriber: the position up to which it has everything, and how it gets what follows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from runtime.live.channel import Channel, Chunk
from runtime.live.frames import heartbeat

if TYPE_CHECKING:
    from runtime.live.feed import Feed

END_GRACE_S: Final = 1.0
"""How long a subscriber that is being sent something may take it before an end breaks its connection off."""

MAX_ASIDE: Final = 200
"""Frames without a position that wait for one subscriber."""

Send = Callable[[bytes], Awaitable[None]]
"""Hands bytes to the subscriber; waits while it is slow."""
Recheck = Callable[[], Awaitable[bool]]
"""Whether a subscriber may still listen, asked every few seconds."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """By what right somebody listens: a token of the key `kid`, until it expires; an admin's credential, asked again by `recheck`; or a public topic's."""

    kid: str | None = None
    expires_at: datetime | None = None
    recheck: Recheck | None = None

    @property
    def is_admin(self) -> bool:
        """Whether registrations do not matter."""
        return self.recheck is not None


class Subscription:
    """`after` is where it stands; `is_fresh`: it began from here on, and has nothing yet.

    `ended` is why it is over, None while it is not; `is_stalled` that its reader takes nothing.
    """

    __slots__ = (
        "_aside",
        "_beats",
        "_broken_off",
        "_checks",
        "_is_sending",
        "_sent",
        "_sent_at_beat",
        "_timers",
        "_waiter",
        "access",
        "after",
        "channel",
        "ended",
        "feed",
        "is_fresh",
        "is_stalled",
    )

    def __init__(self, feed: Feed, channel: Channel, access: Access, after: int | None) -> None:
        self.feed = feed
        self.channel = channel
        self.access = access
        self.after = feed.seen if after is None else after
        self.is_fresh = after is None
        self.ended: str | None = None
        self.is_stalled = False
        self._sent_at_beat = -1
        self._waiter: asyncio.Future[None] | None = None
        self._beats = False
        self._checks = False
        self._aside: deque[bytes] = deque(maxlen=MAX_ASIDE)
        self._is_sending = False
        self._sent = 0
        self._broken_off: Callable[[], object] | None = None
        self._timers: list[asyncio.TimerHandle] = []

    async def deliver(self, send: Send) -> str:
        """Send everything after `after`, as it comes, and heartbeats; returns why it has ended."""
        is_live = self.after >= self.channel.floor
        while self.ended is None:
            if self._beats:  # also of who never catches up: its right to listen may have ended
                await self._beat(send)
                continue
            if self._checks:
                await self._check()
                continue
            if self._aside:
                await self._send_aside(send)
                continue
            if self.after < self.channel.floor:
                if is_live:
                    self.feed.metrics.fell_back()
                    is_live = False
                await self._take(await self.feed.read_page(self.channel, self.after), send)
                continue
            is_live = True
            chunk = self.channel.take(self.after)
            if chunk is not None:
                await self._take(chunk, send)
                await asyncio.sleep(0)  # sending waits only for a slow reader, and others want their turn
            else:
                await self._wait()
        return self.ended

    async def send(self, data: bytes, send: Send) -> None:
        """Send something beside the frames. A subscriber that takes nothing between two heartbeats is broken off."""
        self._is_sending = True
        await send(data)
        self._is_sending = False
        self._sent += 1

    def on_break(self, broken_off: Callable[[], object]) -> None:
        """How to break the connection off when its reader takes nothing."""
        self._broken_off = broken_off

    def end(self, reason: str) -> None:
        """End the stream; the first reason counts."""
        if self.ended is None:
            self.ended = reason
            self.wake()
            self.after_s(END_GRACE_S, self.break_off)

    def beat(self) -> None:
        """A heartbeat is due."""
        if self._is_sending and self._sent_at_beat == self._sent:
            self.break_off()
        self._sent_at_beat = self._sent
        self._beats = True
        self.wake()

    def check(self) -> None:
        """It is time to ask whether this one may still listen."""
        self._checks = True
        self.wake()

    def offer(self, frame: bytes) -> None:
        """Send something that has no position, soon. Of more than can be taken the oldest is dropped."""
        self._aside.append(frame)
        self.wake()

    def break_off(self) -> None:
        """Do not wait for the reader any longer."""
        self.ended = self.ended or "stalled"
        self.is_stalled = True
        if self._broken_off is not None:
            self._broken_off()

    def wake(self) -> None:
        """There may be something to do."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def after_s(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something later, unless the subscription is closed by then."""
        self._timers.append(asyncio.get_running_loop().call_later(seconds, action))

    def close(self) -> None:
        """Nothing more will happen."""
        for timer in self._timers:
            timer.cancel()
        self._broken_off = None

    async def _take(self, chunk: Chunk, send: Send) -> None:
        if chunk.data:
            await self.send(chunk.data, send)
            self.feed.metrics.delivered(chunk.frames)
        self.after = chunk.last

    async def _beat(self, send: Send) -> None:
        self._beats = False
        await self._check()
        if self.ended is not None:
            return
        if self.after >= self.channel.floor and self.channel.take(self.after) is None:
            self.after = max(self.after, self.feed.seen)  # nothing up to there is for this one
        await self.send(heartbeat(self.after), send)

    async def _check(self) -> None:
        self._checks = False
        if self.access.recheck is not None and not await self.access.recheck():
            self.end("credential_ended")

    async def _send_aside(self, send: Send) -> None:
        data = b"".join(self._aside)
        self._aside.clear()
        await self.send(data, send)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        self.channel.wait(self)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self.channel.wait_no_more(self)
