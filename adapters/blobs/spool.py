"""Temporary files that bytes go into while they are hashed: nobody knows a blob's name before its last byte."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

import anyio
from anyio import to_thread

from domain.blobs import Blob
from domain.errors import TooLarge, Unavailable

PIECE_BYTES: Final = 1024 * 1024
"""What is read, written and hashed at once, in a thread."""
_THREADS: Final = 8
_RETRY_AFTER_S: Final = 5.0

T = TypeVar("T")


class Disk:
    """Blocking work on files, so many calls at once. Errors of the operating system become Unavailable."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(_THREADS)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, in a thread."""
        with translated():
            return await to_thread.run_sync(work, limiter=self._limiter)


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the operating system in terms of ours; paths stay here."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"files cannot be stored or read: {error.strerror}", retry_after_s=_RETRY_AFTER_S) from error


class Spool:
    """One temporary file. Its methods block."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / uuid4().hex
        self._max_bytes = max_bytes
        self._size = 0
        self._hash = sha256()
        self._file = os.fdopen(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb", buffering=0)

    def write(self, pieces: list[bytes]) -> None:
        """Append, and hash on the way. Raises TooLarge."""
        self._size += sum(map(len, pieces))
        if self._size > self._max_bytes:
            raise TooLarge(f"a file may have at most {self._max_bytes} bytes", max_file_bytes=self._max_bytes)
        for piece in pieces:
            rest = memoryview(piece)
            self._hash.update(rest)
            while rest:
                rest = rest[self._file.write(rest) :]

    def finish(self) -> Blob:
        """Make it durable, and say what it is."""
        os.fsync(self._file.fileno())
        self._file.close()
        return Blob(self._hash.hexdigest(), self._size)

    def discard(self) -> None:
        """Remove what is left of it."""
        self._file.close()
        self.path.unlink(missing_ok=True)


@asynccontextmanager
async def spooled(disk: Disk, folder: Path, chunks: AsyncIterable[bytes], max_bytes: int) -> AsyncIterator[tuple[Path, Blob]]:
    """A durable temporary file of these chunks, and what it is; at the end it is removed unless it was moved. Raises TooLarge."""
    spool = await disk.run(lambda: Spool(folder, max_bytes))
    try:
        async for pieces in _gathered(chunks):
            await disk.run(lambda pieces=pieces: spool.write(pieces))  # type: ignore[misc]  # a default binds the loop's variable
        yield spool.path, await disk.run(spool.finish)
    finally:
        with anyio.CancelScope(shield=True):
            await disk.run(spool.discard)


async def _gathered(chunks: AsyncIterable[bytes]) -> AsyncIterator[list[bytes]]:
    """Chunks in lists of about a piece: a thread is not worth its while for less."""
    pieces: list[bytes] = []
    size = 0
    async for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size >= PIECE_BYTES:
            yield pieces
            pieces, size = [], 0
    if pieces:
        yield pieces


def discard_old(folder: Path, before: datetime) -> int:
    """Remove the temporary files that nobody has written to since a time."""
    removed = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_older(path, before):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def is_older(path: Path, before: datetime) -> bool:
    """Whether there is such a file, last written to before a time."""
    try:
        return path.stat().st_mtime < before.timestamp()
    except FileNotFoundError:
        return False
