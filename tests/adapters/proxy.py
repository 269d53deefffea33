"""A proxy before PostgreSQL's socket that cuts a connection in the middle of a batch, on this or that side of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

import anyio

_SOCKET: Final = ".s.PGSQL.5432"
_BATCH: Final = b"INSERT INTO events"

Cut = Literal["request", "answer", "late"]


class Proxy:
    """Cuts once each time it is told to, on a connection that commits batches (it has sent the text of one).

    `request`: the next batch never reaches the server. `answer`: it is executed, and what the server says to it is lost. `late`: the connection is cut, the
    batch reaches the server only when `deliver` is called, and `late_said` is the answer. With `times` the same happens to the next ones too.
    """

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._cut: Cut | None = None
        self._times = 0
        self._delivered = asyncio.Event()
        self.cuts = 0
        self.late_said: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def cut(self, what: Cut, times: int = 1) -> None:
        """Arm."""
        self._cut, self._times = what, times

    def deliver(self) -> None:
        """Let the late batch through to the server."""
        self._delivered.set()

    async def deliver_late(self, data: bytes, server: asyncio.StreamWriter) -> None:
        """Wait for `deliver`, then let the server have the batch and say what it says to it."""
        await self._delivered.wait()
        server.write(data)
        await server.drain()
        await asyncio.wait([self.late_said])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        server_reader, server_writer = await asyncio.open_unix_connection(str(self._upstream / _SOCKET))
        session = _Session(self, reader, writer, server_reader, server_writer)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.requests, tasks.cancel_scope)
                tasks.start_soon(session.answers, tasks.cancel_scope)
        finally:
            for side in (writer, server_writer):
                side.close()

    def take(self) -> Cut | None:
        """What to do with the batch that has just come."""
        if self._cut is None:
            return None
        what = self._cut
        self.cuts += 1
        self._times -= 1
        if self._times == 0:
            self._cut = None
        return what


class _Session:
    def __init__(
        self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server_reader: asyncio.StreamReader, server_writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._server_reader, self._server_writer = server_reader, server_writer
        self._commits = False
        self._lose_answer = False
        self._is_late = False

    async def requests(self, scope: anyio.CancelScope) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(1 << 20):
                what = self._proxy.take() if self._is_batch(data) else None
                if what == "request":
                    break
                if what == "late":
                    self._is_late = True
                    self._writer.close()
                    await self._proxy.deliver_late(data, self._server_writer)
                    break
                self._lose_answer = what == "answer"
                self._server_writer.write(data)
                await self._server_writer.drain()
        scope.cancel()

    async def answers(self, scope: anyio.CancelScope) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._server_reader.read(1 << 20):
                if self._is_late:
                    self._proxy.late_said.set_result(data)
                    break
                if self._lose_answer:
                    break
                self._writer.write(data)
                await self._writer.drain()
        scope.cancel()

    def _is_batch(self, data: bytes) -> bool:
        """A Bind on a connection that has prepared a batch, or the COMMIT of one that was begun."""
        self._commits = self._commits or _BATCH in data
        return self._commits and (data[:1] == b"B" or data.startswith(b"Q\0\0\0\x0bCOMMIT"))


@asynccontextmanager
async def open_proxy(dsn: str, directory: Path) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the server of `dsn` (on a Unix socket), and the DSN that goes through it."""
    parts = urlsplit(dsn)
    proxy = Proxy(Path(parse_qs(parts.query)["host"][0]))
    server = await asyncio.start_unix_server(proxy.serve, str(directory / _SOCKET))
    try:
        yield proxy, urlunsplit(parts._replace(query=f"host={quote(str(directory), safe='')}"))
    finally:
        server.close()
