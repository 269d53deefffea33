"""What administration reads of apps and the hosts they claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("projections.control", "reads.sql")


class StoredApp(msgspec.Struct, frozen=True):
    """An app. `old_slugs` are still its own, the oldest first."""

    id: UUID
    name: str
    slug: str
    created_at: datetime
    old_slugs: tuple[str, ...] = ()


class StoredDomain(msgspec.Struct, frozen=True):
    """A host pattern that an app has claimed, in canonical form."""

    id: UUID
    pattern: str
    created_at: datetime


class HostClaim(msgspec.Struct, frozen=True):
    """Whose a host pattern is."""

    app_id: UUID
    domain_id: UUID
    pattern: str


class DeletedApp(msgspec.Struct, frozen=True):
    """An app that was."""

    id: UUID
    name: str
    slug: str
    deleted_at: datetime


async def read_app(reader: Reader, app_id: UUID) -> StoredApp | None:
    """The app of an id."""
    rows = await reader.fetch(_SQL["app"], app_id)
    return _app(rows[0]) if rows else None


async def page_apps(reader: Reader, only: Sequence[UUID] | None, after: UUID | None, limit: int) -> list[StoredApp]:
    """Apps in the order of their creation: all, or those among `only`."""
    return [_app(row) for row in await reader.fetch(_SQL["apps"], None if only is None else list(only), after, limit)]


async def read_deleted_app(reader: Reader, app_id: UUID) -> DeletedApp | None:
    """The app that had an id."""
    rows = await reader.fetch(_SQL["deleted_app"], app_id)
    return DeletedApp(rows[0]["deleted_id"], rows[0]["name"], rows[0]["slug"], rows[0]["deleted_at"]) if rows else None


async def count_scripts(reader: Reader, app_id: UUID) -> int:
    """How many scripts an app has."""
    return int((await reader.fetch(_SQL["count_scripts"], app_id))[0]["scripts"])


async def read_claims(reader: Reader, app_id: UUID) -> list[str]:
    """The host patterns that an app has claimed, beside its own `<slug>.localhost`."""
    return [row["pattern"] for row in await reader.fetch(_SQL["patterns"], app_id)]


async def read_all_claims(reader: Reader) -> list[HostClaim]:
    """The host patterns of all apps."""
    return [HostClaim(row["app_id"], row["domain_id"], row["pattern"]) for row in await reader.fetch(_SQL["claims"])]


async def read_domain(reader: Reader, app_id: UUID, domain_id: UUID) -> StoredDomain | None:
    """One claim of an app."""
    rows = await reader.fetch(_SQL["domain"], app_id, domain_id)
    return _domain(rows[0]) if rows else None


async def page_domains(reader: Reader, app_id: UUID, after: UUID | None, limit: int) -> list[StoredDomain]:
    """An app's claims in their order."""
    return [_domain(row) for row in await reader.fetch(_SQL["domains"], app_id, after, limit)]


def _app(row: Mapping[str, Any]) -> StoredApp:
    return StoredApp(row["app_id"], row["name"], row["slug"], row["created_at"], tuple(row["old_slugs"]))


def _domain(row: Mapping[str, Any]) -> StoredDomain:
    return StoredDomain(row["domain_id"], row["pattern"], row["created_at"])
