"""Telling followers that there is more to read. A wake-up is a hint: whoever gets one reads the log.

Three sources, each enough alone: this process's own commits, other processes' NOTIFY, and a jittered poll of changed heads for when a NOTIFY was lost. The
poll asks for heads by their last event's time, with some overlap; a head that another process's slow commit or slow clock hides from that is found by the
sweep of all heads that every so many polls are.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import anyio
import asyncpg
import structlog

from adapters.postgres.connect import LOST, connect
from adapters.postgres.hints import NOTIFY_CHANNEL, TAIL_NAME, decode_hint, encode_hint
from domain.statements import load_sql

_SQL: Final = load_sql("adapters.postgres", "log.sql")
_OVERLAP: Final = timedelta(seconds=5)
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SWEEP_EVERY: Final = 20

log = structlog.get_logger(__name__)

Foreign = Callable[[UUID, int], None]


class Wakeups:
    """The newest known position of each app, and those who wait for it to pass theirs.

    `sender` is this process in hints. `alone`: no other process listens now, so nobody needs any; whoever begins to listen says so with a hint of its own.
    """

    def __init__(self, sender: str) -> None:
        self.alone = False
        self._sender = sender
        self._heard = 0
        self._positions: dict[UUID, int] = {}
        self._waiters: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._foreign: list[Foreign] = []

    def on_foreign(self, callback: Foreign) -> None:
        """Call `callback(app_id, position)` when another process has moved an app's head."""
        self._foreign.append(callback)

    def position(self, app_id: UUID) -> int:
        """How far the app's log is known to reach; 0 when nothing is known."""
        return self._positions.get(app_id, 0)

    def advance(self, app_id: UUID, position: int) -> bool:
        """Note that the app's log reaches `position`. True when that is news."""
        if position <= self._positions.get(app_id, 0):
            return False
        self._positions[app_id] = position
        for event in self._waiters.get(app_id, ()):
            event.set()
        return True

    async def wait(self, app_id: UUID, after: int) -> int:
        """Return once the app's log is known to go on after `after`: to where."""
        if self._positions.get(app_id, 0) <= after:
            event = asyncio.Event()
            waiters = self._waiters[app_id]
            waiters.add(event)
            try:
                while self._positions.get(app_id, 0) <= after:
                    event.clear()
                    await event.wait()
            finally:
                waiters.discard(event)
                if not waiters:
                    self._waiters.pop(app_id, None)
        return self._positions[app_id]

    async def run(self, dsn: str, poll_s: float) -> None:
        """Follow other processes until cancelled; survives lost connections."""
        while True:
            try:
                await self._follow(dsn, poll_s)
            except (*LOST, asyncpg.PostgresError) as error:
                log.warning("tail_lost_connection", error=str(error))
                await anyio.sleep(poll_s)

    async def _follow(self, dsn: str, poll_s: float) -> None:
        self.alone = False
        connection = await connect(dsn, application_name=TAIL_NAME)
        try:
            await connection.add_listener(NOTIFY_CHANNEL, self._hinted)
            await connection.execute(_SQL["notify"], NOTIFY_CHANNEL, encode_hint(self._sender, ()))
            while True:
                since = _EVER
                for _ in range(_SWEEP_EVERY):
                    since = await self._poll(connection, since)
                    await anyio.sleep(poll_s * (0.75 + 0.5 * random.random()))  # noqa: S311  # jitter, so that processes do not poll in step
        finally:
            self.alone = False
            connection.terminate()

    async def _poll(self, connection: asyncpg.Connection, since: datetime) -> datetime:
        """Take note of heads with events since a time, and of whether there are other processes; returns the time to ask for next."""
        heard = self._heard
        row = await connection.fetchrow(_SQL["tails"], TAIL_NAME)
        assert row is not None
        for changed in await connection.fetch(_SQL["changed_heads"], since):
            self._seen(changed["app_id"], changed["position"])
        self.alone = row["tails"] == 1 and heard == self._heard
        now: datetime = row["now"]
        return now - _OVERLAP

    def _hinted(self, connection: Any, pid: int, channel: str, payload: Any) -> None:
        del connection, pid, channel
        sender, heads = decode_hint(payload)
        if sender == self._sender:
            return  # our own commits are known when they are settled
        self._heard += 1
        self.alone = False
        for app_id, position in heads:
            self._seen(app_id, position)

    def _seen(self, app_id: UUID, position: int) -> None:
        if self.advance(app_id, position):
            for callback in self._foreign:
                callback(app_id, position)
