"""An HTTP protocol that sends what one step of the loop has written with one system call.

uvicorn writes an answer's head and its body separately, and on a small answer the second system call costs as much as everything that the answer took to make.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class CorkedProtocol(HttpToolsProtocol):
    """uvicorn's protocol over a corked transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own stub says the same of asyncio's
        """See `asyncio.Protocol`."""
        super().connection_made(_CorkedTransport(transport, self.loop))  # type: ignore[arg-type]  # a transport in all that uvicorn uses


class _CorkedTransport:
    """Gathers writes until the loop's next step. Everything else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._gathered: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Gather; the first write of a step schedules the sending."""
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.append(data)

    def close(self) -> None:
        """Send what was gathered, then close."""
        self._flush()
        self._transport.close()

    def write_eof(self) -> None:
        """As `close`."""
        self._flush()
        self._transport.write_eof()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._transport.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))
