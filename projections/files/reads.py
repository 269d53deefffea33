"""What is read of files, by scripts and by people alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.blobs import Blob
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("projections.files", "reads.sql")


class FileMeta(msgspec.Struct, frozen=True, kw_only=True):
    """A file without its bytes; `checksum` is their SHA-256 in hexadecimal."""

    collection: str
    id: UUID
    name: str
    content_type: str
    size: int
    checksum: str
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def blob(self) -> Blob:
        """Its bytes."""
        return Blob(self.checksum, self.size)


class FileCollection(msgspec.Struct, frozen=True):
    """A collection and how many files it has."""

    collection: str
    files: int


async def read_file(reader: Reader, app_id: UUID, collection: str, file_id: UUID) -> FileMeta | None:
    """One file, None when it is absent."""
    rows = await reader.fetch(_SQL["file"], app_id, collection, file_id)
    return _meta(collection, rows[0]) if rows else None


async def page_files(reader: Reader, app_id: UUID, collection: str, after: UUID | None, limit: int) -> list[FileMeta]:
    """Up to `limit` files by id, which is the order in which they were created, after an id."""
    return [_meta(collection, row) for row in await reader.fetch(_SQL["page"], app_id, collection, after, limit)]


async def page_collections(reader: Reader, app_id: UUID, after: str | None, limit: int) -> list[FileCollection]:
    """Up to `limit` collections by name, after a name."""
    return [FileCollection(row["collection"], row["files"]) for row in await reader.fetch(_SQL["collections"], app_id, after, limit)]


async def named_blobs(reader: Reader, checksums: Sequence[str]) -> frozenset[str]:
    """Which of these blobs any event of any app has ever named."""
    return frozenset(row["checksum"] for row in await reader.fetch(_SQL["named"], list(checksums)))


async def names_any_blob(reader: Reader) -> bool:
    """Whether any event has ever named any blob."""
    return bool((await reader.fetch(_SQL["any_named"]))[0]["any_named"])


def _meta(collection: str, row: Mapping[str, Any]) -> FileMeta:
    return FileMeta(
        collection=collection, **{name: row[name] for name in ("id", "name", "content_type", "size", "checksum", "version", "created_at", "updated_at")}
    )
