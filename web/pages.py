"""Lists: `{items, next_cursor}`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page; `next_cursor` goes back as `?cursor=` for the next one, None after the last."""

    items: Sequence[T]
    next_cursor: str | None = None


def page(found: Sequence[T], limit: int, cursor_of: Callable[[T], str]) -> Page[T]:
    """Make a page of up to `limit` items of a query that asked for `limit + 1`: whatever is over says that there is more."""
    items = found[:limit]
    return Page(items, cursor_of(items[-1]) if len(found) > limit else None)


def cut_page(more: bool, items: Sequence[T], cursor_of: Callable[[T], str]) -> Page[T]:  # noqa: FBT001  # what the query said
    """Make a page of items that were bounded by their bytes too, so that only the query knows whether `more` follow."""
    return Page(items, cursor_of(items[-1]) if more else None)
