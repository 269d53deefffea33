"""Reading `kv_entries` as of a clock: entries whose time is up are absent, whether or not their `KvExpired` has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("projections.kv", "live.sql")


class LiveEntry(msgspec.Struct, frozen=True):
    """An entry that exists; `value` is JSON text."""

    key: str
    value: str
    version: int
    updated_at: datetime


async def get_entry(reader: Reader, app_id: UUID, collection: str, key: str, now: datetime) -> LiveEntry | None:
    """One entry, None when it is absent at `now`."""
    rows = await reader.fetch(_SQL["get"], app_id, collection, key, now)
    return LiveEntry(key, rows[0]["value"], rows[0]["version"], rows[0]["updated_at"]) if rows else None


async def page_entries(
    reader: Reader, app_id: UUID, collection: str, prefix: str, after: str | None, now: datetime, *, limit: int, max_bytes: int
) -> list[LiveEntry]:
    """Entries that exist at `now`, by key in code-point order, after a key.

    At most `limit`, and no more once their values have `max_bytes`: a page that is short may have a next one, an empty one has none.
    """
    rows: Sequence[Mapping[str, Any]] = await reader.fetch(_SQL["page"], app_id, collection, prefix, after, now, limit, max_bytes)
    return [LiveEntry(row["key"], row["value"], row["version"], row["updated_at"]) for row in rows]


async def due_entries(reader: Reader, now: datetime, limit: int) -> Sequence[Mapping[str, Any]]:
    """Entries whose time is up, of all apps, closed logs left out, longest first: `app_id`, `collection`, `key`."""
    return await reader.fetch(_SQL["due"], now, limit)
