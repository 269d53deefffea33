"""Live projections: how many events reach how many subscribers, how soon, and what a subscriber costs.

`fan-out` is what stands between an event that was read and the connections: 200 subscriptions of one channel, and nothing behind them. `subscribers` are
connections over the loopback to a server of its own, from this process; both share the machine. Each has to have every event, or there is no number. `latency`
is from the commit of one message until the last subscriber has it. `kB` is what the server's memory grows by for each idle subscriber, all of uvicorn's part
included.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec
import psutil

from benchmarks.common import Table, arguments, open_database, open_server, report
from benchmarks.load import Found, in_turns, percentile, run, spread, values
from benchmarks.sse_server import MESSAGE, TOPIC, Ready, publish, seeded
from domain.clock import utc_now
from domain.events import Metadata, Recorded
from domain.pubsub import Published
from runtime.live.channel import Key
from runtime.live.frames import message_frame
from runtime.live.subscription import Access, Subscription
from runtime.platform import Platform, open_platform
from runtime.settings import load_settings

_CONNECT_AT_ONCE = 200
_WITHIN_S = 120.0
_MARK = b"\ndata:"


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Events of a round for each number of subscribers; single messages for the latency; the fan-out's subscribers, events, and events at once."""

    subscribers: tuple[tuple[int, int], ...] = ((200, 4000), (1000, 1000), (5000, 200))
    singles: int = 20
    fan: tuple[int, int, int] = (200, 20_000, 100)


class Sink(asyncio.Protocol):
    """A subscriber that counts what it gets."""

    def __init__(self, host: str) -> None:
        self._request = f"GET /realtime/topics/{TOPIC} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
        self._tail = b""
        self.opened = asyncio.Event()
        self.reached = asyncio.Event()
        self.events = 0
        self.wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See the base class."""
        self.transport = cast("asyncio.WriteTransport", transport)  # uvloop's is one, but not by inheritance
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """See the base class. An event may be cut anywhere."""
        if not self.opened.is_set() and b": open" in data:
            self.opened.set()
        self.events += (self._tail + data).count(_MARK)
        self._tail = data[1 - len(_MARK) :]
        if self.events >= self.wanted:
            self.reached.set()

    def want(self, more: int) -> None:
        """Wait for so many more."""
        self.wanted = self.events + more
        self.reached.clear()


class Server(msgspec.Struct):
    """A running server and its subscribers."""

    popen: subprocess.Popen[bytes]
    process: psutil.Process
    ready: Ready
    sinks: list[Sink]

    async def publish(self, count: int) -> float:
        """Publish so many messages; returns when the last was committed."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write(b"%d\n" % count)
        self.popen.stdin.flush()
        return float(await anyio.to_thread.run_sync(self.popen.stdout.readline))

    async def connect(self, count: int) -> None:
        """So many more subscribers."""
        loop = asyncio.get_running_loop()
        for _ in range(0, count, _CONNECT_AT_ONCE):
            made = [loop.create_connection(partial(Sink, self.ready.host), "127.0.0.1", self.ready.port) for _ in range(min(_CONNECT_AT_ONCE, count))]
            sinks = [sink for _, sink in await asyncio.gather(*made)]
            with anyio.fail_after(_WITHIN_S):
                await asyncio.gather(*(sink.opened.wait() for sink in sinks))
            self.sinks += sinks


@contextmanager
def start(dsn: str) -> Iterator[Server]:
    with subprocess.Popen([sys.executable, "-m", "benchmarks.sse_server", dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        line = popen.stdout.readline()
        assert line, "the server did not start"
        yield Server(popen, psutil.Process(popen.pid), msgspec.json.decode(line, type=Ready), [])
        popen.communicate()
    assert popen.returncode == 0


async def ask(dsn: str, subscribers: int, events: int, singles: int) -> dict[str, float]:
    """Connect everybody, publish one by one, then all at once."""
    with start(dsn) as server:
        await server.connect(min(subscribers, 50))
        at_rest = server.process.memory_info().rss
        more = subscribers - len(server.sinks)
        await server.connect(more)
        grown = server.process.memory_info().rss - at_rest
        waits = [await _spread(server, 1) for _ in range(singles)]
        began = time.monotonic()
        await _spread(server, events)
        seconds = time.monotonic() - began
        assert all(sink.events == singles + events for sink in server.sinks)
        for sink in server.sinks:
            sink.transport.abort()
    return {
        "events/s": events / seconds,
        "deliveries/s": events * subscribers / seconds,
        "p50": percentile(waits, 50),
        "p95": percentile(waits, 95),
        "kB": grown / 1024 / more if more else 0.0,
    }


async def _spread(server: Server, count: int) -> float:
    """Publish, and wait until everybody has it; milliseconds since the commit."""
    for sink in server.sinks:
        sink.want(count)
    with anyio.fail_after(_WITHIN_S):
        committed = await server.publish(count)
        for sink in server.sinks:
            await sink.reached.wait()
    return (time.monotonic() - committed) * 1000


async def fan_out(platform: Platform, app_id: UUID, size: tuple[int, int, int]) -> dict[str, float]:
    """Encode every event once and hand it to every subscription: first made here, then read from the log."""
    subscribers, events, burst = size
    received = [0] * subscribers

    async def judge() -> Access:
        return Access()

    async def take(number: int, data: bytes) -> None:
        received[number] += 0 if data.startswith(b": heartbeat") else len(data)

    subscriptions = [await platform.live.subscribe(app_id, Key("topic", TOPIC), judge, None) for _ in range(subscribers)]
    async with anyio.create_task_group() as tasks:
        for number, subscription in enumerate(subscriptions):
            tasks.start_soon(subscription.deliver, partial(take, number))
        begun = time.perf_counter()
        await publish(platform, app_id, events // 10)
        await _reach(subscriptions, await platform.log.head(app_id))
        from_log = subscribers * (events // 10) / (time.perf_counter() - begun)
        begun = time.perf_counter()
        last = subscriptions[0].after
        for start_at in range(0, events, burst):
            for position in range(last + start_at + 1, last + start_at + burst + 1):
                subscriptions[0].channel.push(position, message_frame(_message(app_id, position)))
            await _reach(subscriptions[-1:], last + start_at + burst)  # an invented position cannot be read from the log
        await _reach(subscriptions, last + events)
        alone = subscribers * events / (time.perf_counter() - begun)
        for subscription in subscriptions:
            subscription.end("done")
    for subscription in subscriptions:
        platform.live.leave(subscription)
    assert len(set(received)) == 1
    platform.live.forget(app_id)  # its positions are invented
    return {"fan-out deliveries/s": alone, "log and fan-out deliveries/s": from_log}


async def _reach(subscriptions: list[Subscription], position: int) -> None:
    with anyio.fail_after(_WITHIN_S):
        while any(subscription.after < position for subscription in subscriptions):  # noqa: ASYNC110  # the loop is what is measured
            await asyncio.sleep(0)


def _message(app_id: UUID, position: int) -> Recorded:
    now = utc_now()
    event = Published(topic=TOPIC, message=MESSAGE, published_at=now)
    return Recorded(app_id=app_id, position=position, stream=f"pubsub:{TOPIC}", version=1, event=event, metadata=Metadata(unit_id=app_id), recorded_at=now)


async def measure(server_dsn: str, rounds: int, size: Size) -> list[Table]:
    async with open_database(server_dsn) as dsn, open_platform(dsn, load_settings({})) as platform:
        seeder = await seeded(platform)
        fan = await in_turns(rounds, {f"{size.fan[0]} subscriptions": partial(fan_out, platform, seeder.app_id, size.fan)})
    async with open_database(server_dsn) as dsn:
        cells = {f"{subscribers:,} subscribers": partial(ask, dsn, subscribers, events, size.singles) for subscribers, events in size.subscribers}
        found = await in_turns(rounds, cells)
    return [_fan_table(fan), _table(found)]


def _fan_table(found: Found) -> Table:
    rows = [[name, *(str(series[part]) for part in ("fan-out deliveries/s", "log and fan-out deliveries/s"))] for name, series in found.items()]
    return Table("sse: fan-out without connections", ["", "deliveries/s", "from the log, deliveries/s"], rows, values(found))


def _table(found: Found) -> Table:
    rows = [
        [name, str(series["events/s"]), str(series["deliveries/s"]), spread(series["p50"]), spread(series["p95"]), spread(series["kB"], 1)]
        for name, series in found.items()
    ]
    columns = ["", "events/s", "deliveries/s", "latency p50 ms", "p95 ms", "kB a subscriber"]
    return Table("sse: subscribers over the loopback; latency from the commit to the last one", columns, rows, values(found))


def main() -> None:
    asked = arguments(__doc__ or "")
    with open_server() as server:
        report("sse", run(measure, server, asked.rounds, Size()), asked.json)


if __name__ == "__main__":
    main()
