"""Files' bytes as PiCloud uses them: bounded when they are saved, checked against their checksum when they are read, swept when nothing names them.

How reading is checked: up to 1 MiB, and for a part of a larger file, before the first byte is given (a part costs one reading of the whole, remembered for ten
minutes); a larger file as a whole while it is given, its last piece only once the sum is right. So nobody ever gets damaged bytes that look complete.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from hashlib import sha256
from typing import Final

import anyio
import structlog
from anyio import to_thread

from domain.blobs import Blob, BlobStore
from domain.errors import Damaged
from runtime.metrics import Metrics

CHECKED_FIRST_BYTES: Final = 1024 * 1024
_TRUSTED_FOR_S: Final = 600.0
_TRUSTED_KEPT: Final = 10_000
_THREADS: Final = 8

log = structlog.get_logger(__name__)


class Blobs:
    """The blobs of all apps."""

    def __init__(self, store: BlobStore, metrics: Metrics, *, max_file_bytes: int, max_run_bytes: int) -> None:
        self.store = store
        self.max_file_bytes = max_file_bytes
        self.max_run_bytes = max_run_bytes
        self._metrics = metrics
        self._hashing = anyio.CapacityLimiter(_THREADS)
        self._trusted: dict[str, float] = {}

    async def save(self, chunks: AsyncIterable[bytes]) -> Blob:
        """Store what comes. Raises TooLarge or Unavailable."""
        return await self.store.save(chunks, self.max_file_bytes)

    async def save_bytes(self, data: bytes) -> Blob:
        """Store these bytes."""
        return await self.save(_once(data))

    async def load(self, blob: Blob) -> bytes:
        """All bytes of a blob, checked. Raises Damaged or Unavailable."""
        data = b"".join([piece async for piece in self._pieces(blob, 0, blob.size)])
        if await self._sum_of(data) != blob.checksum:
            raise self._damaged(blob)
        return data

    async def stream(self, blob: Blob, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to before `stop`, checked as said above. Raises Damaged, also after some were given, or Unavailable."""
        if blob.size <= CHECKED_FIRST_BYTES:
            yield (await self.load(blob))[start:stop]
            return
        if (start, stop) == (0, blob.size):
            async with aclosing(self._checked(blob)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        await self._check(blob)
        async with aclosing(self._pieces(blob, start, stop)) as pieces:
            async for piece in pieces:
                yield piece

    async def _checked(self, blob: Blob) -> AsyncGenerator[bytes, None]:
        """All pieces, each given when the next is there, the last when the sum is right."""
        found = sha256()
        held: bytes | None = None
        async with aclosing(self._pieces(blob, 0, blob.size)) as pieces:
            async for piece in pieces:
                if held is not None:
                    yield held
                await to_thread.run_sync(found.update, piece, limiter=self._hashing)
                held = piece
        if found.hexdigest() != blob.checksum:
            raise self._damaged(blob)
        self._trust(blob)
        if held is not None:
            yield held

    async def _check(self, blob: Blob) -> None:
        """Read all of it, unless that was done a moment ago."""
        if self._trusted.get(blob.checksum, 0.0) < time.monotonic():
            async with aclosing(self._checked(blob)) as pieces:
                async for _ in pieces:
                    pass

    async def _pieces(self, blob: Blob, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Exactly the bytes from `start` to before `stop`. Raises Damaged when there are fewer."""
        missing = stop - start
        try:
            async for piece in self.store.read(blob.checksum, start, stop):
                missing -= len(piece)
                yield piece
        except Damaged:
            self._report(blob, "missing")
            raise
        if missing:
            raise self._damaged(blob)

    async def _sum_of(self, data: bytes) -> str:
        return await to_thread.run_sync(lambda: sha256(data).hexdigest(), limiter=self._hashing)

    def _trust(self, blob: Blob) -> None:
        if len(self._trusted) >= _TRUSTED_KEPT:
            self._trusted.clear()
        self._trusted[blob.checksum] = time.monotonic() + _TRUSTED_FOR_S

    def _damaged(self, blob: Blob) -> Damaged:
        self._trusted.pop(blob.checksum, None)
        self._report(blob, "damaged")
        return Damaged("the stored bytes of this file are damaged", code="blob_damaged", checksum=blob.checksum)

    def _report(self, blob: Blob, fault: str) -> None:
        self._metrics.blob_fault(fault)
        log.error("blob_fault", fault=fault, checksum=blob.checksum, size=blob.size)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
