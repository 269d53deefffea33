"""When a stored `KvSet` expires, read from the end of its state: the expiry is its last field, so the value before it need not be decoded."""

from __future__ import annotations

import re
import zlib
from datetime import datetime
from typing import Final

import msgspec

_CHARS: Final = 64
_STEP: Final = 64 * 1024
_EXPIRY: Final = re.compile(rb'"expires_at":(null|"[^"]+")\}\Z')


def tail_of(state: bytes) -> bytes:
    """The last 64 bytes of a compressed state, which is unpacked a piece at a time."""
    unpacking = zlib.decompressobj()
    tail, left = b"", state
    while left:
        tail = (tail + unpacking.decompress(left, _STEP))[-_CHARS:]
        left = unpacking.unconsumed_tail
    return (tail + unpacking.flush())[-_CHARS:]


def lives(tail: bytes, time: datetime) -> bool:
    """Whether the entry whose state ends so exists at a time."""
    found = _EXPIRY.search(tail)
    assert found is not None, "the expiry is the last field of a KvSet"
    expires_at = msgspec.json.decode(found[1], type=datetime | None)
    return expires_at is None or expires_at > time
