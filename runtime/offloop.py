"""Work that may be long goes to a thread: the loop parses, validates and encodes no more than 64 KiB at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

MAX_ON_LOOP_BYTES: Final = 64 * 1024


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """The result of `work`, which goes over about `size` bytes; here when they are few, in a thread otherwise."""
    return work() if size <= MAX_ON_LOOP_BYTES else await anyio.to_thread.run_sync(work)


def weigh(value: object, most: int) -> int:
    """About how many bytes a value of plain types holds; counting stops soon after `most`, so a huge one costs no more than that."""
    size = 0
    todo = [value]
    while todo and size <= most:
        item = todo.pop()
        size += 8
        if isinstance(item, str | bytes):
            size += len(item)
        elif isinstance(item, dict):
            todo.extend(item)
            todo.extend(item.values())
        elif isinstance(item, list | tuple):
            todo.extend(item)
        elif isinstance(item, int):
            size += item.bit_length() // 8
    return size
