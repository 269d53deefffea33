"""A client of server-sent events on a bare socket, light enough for thousands at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec


class Shown(msgspec.Struct, frozen=True):
    """One event: its name (empty for a message), id and data; `comment` for a block that is only one."""

    name: str = ""
    id: int | None = None
    data: Any = None
    comment: str = ""


class Stream:
    """An answer to a subscriber: its status, headers, and events as they come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
        self._reader = reader
        self._writer = writer
        self._rest = b""
        self.status = status
        self.headers = headers

    async def blocks(self) -> AsyncIterator[Shown]:
        """Every block until the answer ends; ConnectionError or IncompleteReadError when it breaks off."""
        while True:
            head, found, rest = self._rest.partition(b"\n\n")
            if found:
                self._rest = rest
                yield _shown(head.decode())
                continue
            chunk = await self._chunk()
            if not chunk:
                return
            self._rest += chunk

    async def events(self) -> AsyncIterator[Shown]:
        """Blocks that are events."""
        async for block in self.blocks():
            if block.data is not None:
                yield block

    async def take(self, count: int, within_s: float = 20) -> list[Shown]:
        """The next events."""
        taken: list[Shown] = []
        async with asyncio.timeout(within_s):
            async for event in self.events():
                taken.append(event)
                if len(taken) == count:
                    break
        return taken

    async def body(self) -> Any:
        """The JSON of an answer that is no stream."""
        return json.loads(await self._reader.readexactly(int(self.headers["content-length"])))

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def _chunk(self) -> bytes:
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(size + 2))[:-2]


@asynccontextmanager
async def subscribed(url: str, host: str, path: str, **headers: str) -> AsyncIterator[Stream]:
    """Ask for a stream; hangs up at the end."""
    stream = await subscribe(url, host, path, **headers)
    try:
        yield stream
    finally:
        stream.close()


async def subscribe(url: str, host: str, path: str, **headers: str) -> Stream:
    """Ask for a stream."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    lines = [f"GET {path} HTTP/1.1", f"host: {host}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    answered = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return Stream(reader, writer, int(head[0].split()[1]), answered)


def _shown(text: str) -> Shown:
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        name, _, value = line.partition(": ")
        fields[name] = value
    data = None
    with suppress(KeyError):
        data = json.loads(fields["data"])
    return Shown(fields.get("event", ""), int(fields["id"]) if "id" in fields else None, data, fields.get("", ""))
