"""What a request to a script costs, against a plain Litestar handler on asyncpg that does the same reads and writes.

`write` is a POST whose script reads a key, adds one and writes it; `read` a GET that reads one. Each client has keys of its own. Both servers run in processes
of their own on one PostgreSQL, take turns, and are asked by the same client process over real connections. Afterwards every key must hold as many visits
as were answered: the plain handler, which has no conflicts here, keeps no history, numbers no events and checks no versions.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial

import asyncpg
import msgspec
import psutil

from benchmarks.common import Table, arguments, open_database, open_server, report
from benchmarks.http_servers import Ready
from benchmarks.load import CPU_PARTS, Found, cpu, in_turns, percentile, postmaster_of, run, spread, values

_METHODS = {"write": "POST", "read": "GET"}
_COUNTS = {
    "picloud": "SELECT coalesce(sum(value::text::bigint), 0) FROM kv_entries WHERE collection = 'visits'",
    "plain": "SELECT coalesce(sum(value::text::bigint), 0) FROM plain_kv",
}


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Requests a round, how many clients send them, and keys of each client (and its requests to warm up)."""

    requests: int = 1200
    keys: int = 50
    clients: tuple[int, ...] = (1, 16)


class Server:
    """A server process, and how many writes it has answered."""

    def __init__(self, name: str, dsn: str, process: psutil.Process, ready: Ready) -> None:
        self.name = name
        self.dsn = dsn
        self.process = process
        self.ready = ready
        self.written = 0

    async def check(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            visits = await connection.fetchval(_COUNTS[self.name])
        finally:
            await connection.close()
        assert visits == self.written, (self.name, visits, self.written)


@contextmanager
def start(name: str, dsn: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "benchmarks.http_servers", name, dsn]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the server {name} did not start"
        yield Server(name, dsn, psutil.Process(process.pid), msgspec.json.decode(line, type=Ready))
        process.communicate()
    assert process.returncode == 0, name


async def ask(server: Server, kind: str, clients: int, size: Size, postmaster: psutil.Process) -> dict[str, float]:
    """All requests of a round, each client one after another on a connection of its own."""
    waits: list[float] = []
    each = size.requests // clients
    await asyncio.gather(*(_client(server, kind, number, size.keys, size.keys, []) for number in range(clients)))
    before, begun = cpu(server.process, postmaster), time.perf_counter()
    await asyncio.gather(*(_client(server, kind, number, size.keys, each, waits) for number in range(clients)))
    seconds = time.perf_counter() - begun
    used = cpu(server.process, postmaster).since(before).each_ms(each * clients)
    return {"requests/s": each * clients / seconds, "p50": statistics.median(waits), "p99": percentile(waits, 99), **used}


async def _client(server: Server, kind: str, number: int, keys: int, count: int, waits: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.ready.port)
    for index in range(count):
        begun = time.perf_counter()
        path = f"/{kind}?key={number}-{index % keys}"
        writer.write(f"{_METHODS[kind]} {path} HTTP/1.1\r\nhost: {server.ready.host}\r\ncontent-length: 0\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200 "), head
        body = await reader.readexactly(int(head.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0]))
        waits.append((time.perf_counter() - begun) * 1000)
        assert isinstance(msgspec.json.decode(body)["n"], int), body
        server.written += kind == "write"
    writer.close()
    await writer.wait_closed()


async def measure(server_dsn: str, rounds: int, size: Size) -> list[Table]:
    postmaster = postmaster_of(server_dsn)
    async with AsyncExitStack() as stack:
        servers = []
        for name in _COUNTS:
            dsn = await stack.enter_async_context(open_database(server_dsn))
            servers.append(stack.enter_context(start(name, dsn)))
        tables = []
        for kind in _METHODS:
            for clients in size.clients:
                found = await in_turns(rounds, {one.name: partial(ask, one, kind, clients, size, postmaster) for one in servers})
                tables.append(_table(kind, clients, found))
        for one in servers:
            await one.check()
    return tables


def _table(kind: str, clients: int, found: Found) -> Table:
    plain = found["plain"]
    rows = [
        [
            name,
            str(series["requests/s"]),
            f"{series['requests/s'].over(plain['requests/s']):.2f}",
            spread(series["p50"]),
            f"{series['p50'].over(plain['p50']):.2f}",
            spread(series["p99"]),
            *(f"{series[part].median:.2f}" for part in CPU_PARTS),
        ]
        for name, series in found.items()
    ]
    columns = ["", "requests/s", "ratio", "p50 ms", "ratio", "p99 ms", "CPU ms a request", "server", "workers", "PostgreSQL"]
    return Table(f"http, {kind}, {clients} client{'s' if clients > 1 else ''}; ratio to the plain handler", columns, rows, values(found))


def main() -> None:
    asked = arguments(__doc__ or "")
    with open_server() as server:
        report("http", run(measure, server, asked.rounds, Size()), asked.json)


if __name__ == "__main__":
    main()
