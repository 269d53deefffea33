"""The file bytes of one run: stored under their checksum before the run is committed, so that its unit carries metadata alone.

A script may forge any argument. So it can make files only of bytes that it has staged itself, under ids that it was given, and read only blobs that it has
staged or whose metadata it was shown: a checksum alone, which anybody may know, opens nothing. What a failed run has staged is left to the sweeper.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from uuid_utils.compat import uuid7

from domain.blobs import Blob
from domain.errors import Damaged, TooLarge
from runtime.blobs import Blobs

_MIB: Final = 1024 * 1024


class Staging:
    """What a run has stored and may read. `memory_mib` is the run's memory, into which what it reads must fit."""

    def __init__(self, blobs: Blobs, memory_mib: int) -> None:
        self._blobs = blobs
        self._memory_mib = memory_mib
        self._left_bytes = blobs.max_run_bytes
        self._ids: set[UUID] = set()
        self._staged: dict[str, Blob] = {}
        self._shown: dict[str, Blob] = {}

    async def stage(self, data: bytes) -> Blob:
        """Store bytes. Raises ValueError when they are too many for a file, RuntimeError for all that this run may store."""
        if len(data) > self._left_bytes:
            raise RuntimeError(f"files: a run may store at most {self._blobs.max_run_bytes} bytes")
        try:
            blob = await self._blobs.save_bytes(data)
        except TooLarge as error:
            raise ValueError(f"files: {error.detail}") from error
        self._left_bytes -= len(data)
        self._staged[blob.checksum] = blob
        return blob

    def new_id(self) -> UUID:
        """An id for a file that this run may create."""
        made: UUID = uuid7()
        self._ids.add(made)
        return made

    def owns(self, file_id: UUID) -> bool:
        """Whether this run was given the id."""
        return file_id in self._ids

    def staged(self, checksum: object) -> Blob | None:
        """What this run has stored under a checksum."""
        return self._staged.get(checksum) if isinstance(checksum, str) else None

    def show(self, blob: Blob) -> None:
        """The run has been shown a file of its app that has these bytes."""
        self._shown[blob.checksum] = blob

    async def load(self, checksum: object) -> bytes | None:
        """Bytes that this run may read, None when it may not. Raises RuntimeError when they are damaged, or too many for its memory."""
        blob = self.staged(checksum) or (self._shown.get(checksum) if isinstance(checksum, str) else None)
        if blob is None:
            return None
        if blob.size > self._memory_mib * _MIB // 2:
            raise RuntimeError(f"files: this file has {blob.size} bytes, too many for a run with {self._memory_mib} MiB of memory")
        try:
            return await self._blobs.load(blob)
        except Damaged as error:
            raise RuntimeError(f"files: {error.detail}") from error
