"""Blobs: immutable bytes under their SHA-256, outside the log. Events name them; what no event names is swept away after a while.

A blob is stored before the event that names it is appended, so an event never names bytes that were not there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime
from typing import Final, Protocol

import msgspec

_CHECKSUM: Final = re.compile(r"[0-9a-f]{64}")


class Blob(msgspec.Struct, frozen=True):
    """Bytes by what they are: SHA-256 in hexadecimal, and how many."""

    checksum: str
    size: int


class BlobStore(Protocol):
    """Keeps blobs. Raises Unavailable when the disk or the service behind it fails."""

    async def save(self, chunks: AsyncIterable[bytes], max_bytes: int) -> Blob:
        """Store what comes, however long that takes, durable on return. Raises TooLarge as soon as it is; whatever is raised, nothing is stored.

        A blob that is there already is stored again, and is young again.
        """
        ...

    def read(self, checksum: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `stop`, in pieces, unchecked; they may end too early. Raises Damaged when there is no such blob."""
        ...

    def older(self, before: datetime) -> AsyncIterator[list[str]]:
        """Checksums of all blobs that were last saved before a time, some at once. What else somebody has put there is none of ours."""
        ...

    async def discard(self, checksum: str, before: datetime) -> bool:
        """Remove a blob, unless it was saved again since `before`; whether it was removed."""
        ...

    async def discard_unfinished(self, before: datetime) -> int:
        """Remove what saving that was broken off before a time has left; how many."""
        ...

    async def claim(self, owner: str) -> str:
        """Whose store this is: `owner` from now on, if nobody's yet. Nobody else's blobs may be swept."""
        ...

    async def owner(self) -> str | None:
        """Whose store this is; None when it is nobody's."""
        ...


def is_checksum(name: str) -> bool:
    """Whether a name can be a blob's."""
    return _CHECKSUM.fullmatch(name) is not None
