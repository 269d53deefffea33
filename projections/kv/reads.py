"""What administration reads of key-value data. Entries whose time is up at `now` are absent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("projections.kv", "reads.sql")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A key with its value (JSON text as stored)."""

    collection: str
    key: str
    value: msgspec.Raw
    version: int
    expires_at: datetime | None
    updated_at: datetime


class KvCollection(msgspec.Struct, frozen=True):
    """A collection and how many entries it has."""

    collection: str
    entries: int


async def read_entry(reader: Reader, app_id: UUID, collection: str, key: str, now: datetime) -> Entry | None:
    """One entry."""
    rows = await reader.fetch(_SQL["entry"], app_id, collection, key, now)
    return _entry(collection, rows[0]) if rows else None


async def page_entries(
    reader: Reader, app_id: UUID, collection: str, prefix: str, after: str | None, now: datetime, *, limit: int, max_bytes: int
) -> tuple[list[Entry], bool]:
    """Entries whose keys begin with `prefix`, by key in code-point order, after a key, and whether more follow.

    At most `limit`, and no more once their values have `max_bytes`.
    """
    rows = await reader.fetch(_SQL["entries"], app_id, collection, prefix, after, now, limit + 1, max_bytes)
    items = [_entry(collection, row) for row in rows[:limit]]
    return items, bool(rows) and rows[0]["found"] > len(items)


async def page_collections(reader: Reader, app_id: UUID, after: str | None, now: datetime, limit: int) -> list[KvCollection]:
    """Up to `limit` collections by name, after a name; one whose entries have all expired is there with none."""
    return [KvCollection(row["collection"], row["entries"]) for row in await reader.fetch(_SQL["collections"], app_id, after, now, limit)]


def _entry(collection: str, row: Mapping[str, Any]) -> Entry:
    value = msgspec.Raw(row["value"].encode())
    return Entry(collection=collection, key=row["key"], value=value, version=row["version"], expires_at=row["expires_at"], updated_at=row["updated_at"])
