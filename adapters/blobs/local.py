"""Blobs in a directory: `<root>/<first two digits>/<checksum>`. Several processes may share it, on one machine or a file system with locks.

A blob is written to a temporary file, synced, renamed, and its directory synced: whatever moment power fails, a blob is there whole or not at all. Saving
holds `<root>/lock` shared while it renames, discarding holds it exclusively while it looks and removes, so a blob that somebody has just saved again stays.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Final

from adapters.blobs.spool import PIECE_BYTES, Disk, discard_old, is_older, spooled
from domain.blobs import Blob, is_checksum
from domain.errors import Damaged

_OWNER: Final = "owner"


class LocalBlobs:
    """Implements `domain.blobs.BlobStore`. Nothing is made before the first blob is saved."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unfinished = root / "unfinished"
        self._disk = Disk()

    async def save(self, chunks: AsyncIterable[bytes], max_bytes: int) -> Blob:
        """See `BlobStore.save`."""
        async with spooled(self._disk, self._unfinished, chunks, max_bytes) as (path, blob):
            await self._disk.run(lambda: self._place(path, blob.checksum))
        return blob

    async def read(self, checksum: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """See `BlobStore.read`."""
        file = await self._disk.run(lambda: self._open(checksum, start))
        try:
            while start < stop and (piece := await self._disk.run(lambda: file.read(min(PIECE_BYTES, stop - start)))):  # noqa: B023  # run at once
                start += len(piece)
                yield piece
        finally:
            file.close()

    async def older(self, before: datetime) -> AsyncIterator[list[str]]:
        """See `BlobStore.older`. One directory at once."""
        for folder in await self._disk.run(self._folders):
            yield await self._disk.run(lambda: _older(folder, before))  # noqa: B023  # run at once

    async def discard(self, checksum: str, before: datetime) -> bool:
        """See `BlobStore.discard`."""
        return await self._disk.run(lambda: self._remove(checksum, before))

    async def discard_unfinished(self, before: datetime) -> int:
        """See `BlobStore.discard_unfinished`."""
        return await self._disk.run(lambda: discard_old(self._unfinished, before))

    async def claim(self, owner: str) -> str:
        """See `BlobStore.claim`."""
        return await self._disk.run(lambda: self._claim(owner))

    async def owner(self) -> str | None:
        """See `BlobStore.owner`."""
        return await self._disk.run(self._owner)

    def _path(self, checksum: str) -> Path:
        assert is_checksum(checksum), checksum
        return self._root / checksum[:2] / checksum

    def _place(self, temporary: Path, checksum: str) -> None:
        target = self._path(checksum)
        with self._locked(fcntl.LOCK_SH):
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True, mode=0o700)
                _sync(self._root)
            # Also over the same bytes: it makes them young, and whole again if they were damaged.
            now_ns = time.time_ns()
            os.utime(temporary, ns=(now_ns, now_ns))
            temporary.replace(target)
            _sync(target.parent)

    def _open(self, checksum: str, start: int) -> FileIO:
        try:
            file = FileIO(self._path(checksum))
        except FileNotFoundError:
            raise Damaged("the bytes of this file are lost", code="blob_missing", checksum=checksum) from None
        file.seek(start)
        return file

    def _folders(self) -> list[Path]:
        return sorted(self._root.glob("[0-9a-f][0-9a-f]"))

    def _remove(self, checksum: str, before: datetime) -> bool:
        path = self._path(checksum)
        with self._locked(fcntl.LOCK_EX):
            if not is_older(path, before):
                return False
            path.unlink()
            return True

    def _claim(self, owner: str) -> str:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked(fcntl.LOCK_EX):
            path = self._root / _OWNER
            if not path.exists():
                path.write_text(owner)
            return path.read_text()

    def _owner(self) -> str | None:
        if not (self._root / _OWNER).exists():  # and perhaps no store at all, which looking must not make
            return None
        with self._locked(fcntl.LOCK_SH):
            return (self._root / _OWNER).read_text()

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """The lock ends with its descriptor, so a dead process holds nothing up."""
        descriptor = os.open(self._root / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)


def _older(folder: Path, before: datetime) -> list[str]:
    return [path.name for path in folder.iterdir() if is_checksum(path.name) and is_older(path, before)]


def _sync(folder: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
