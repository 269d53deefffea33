"""What administration reads of scripts: one, pages of them, their versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.ports import Reader
from domain.sandbox import Limits, ScriptKind
from domain.statements import load_sql

_SQL: Final = load_sql("projections.control", "reads.sql")


class StoredScript(msgspec.Struct, frozen=True, kw_only=True):
    """A script as it is. `version` is its stream's, `source_version` counts its sources."""

    app_id: UUID
    id: UUID
    name: str
    kind: ScriptKind
    source: str
    source_version: int
    timeout_s: float
    limits: Limits
    version: int
    created_at: datetime
    updated_at: datetime


class ScriptText(msgspec.Struct, frozen=True):
    """What the module graph is made of."""

    id: UUID
    name: str
    kind: ScriptKind
    source: str


class SourceVersion(msgspec.Struct, frozen=True):
    """One source that a script had, since `position` in its app's log."""

    version: int
    source: str
    position: int
    created_at: datetime


async def read_script(reader: Reader, app_id: UUID, script_id: UUID) -> StoredScript | None:
    """A script of this app."""
    rows = await reader.fetch(_SQL["script"], app_id, script_id)
    return _script(rows[0]) if rows else None


async def page_scripts(reader: Reader, app_ids: Sequence[UUID] | None, after: UUID | None, limit: int) -> list[StoredScript]:
    """Scripts of these apps (None: of all) in the order of their creation."""
    return [_script(row) for row in await reader.fetch(_SQL["scripts"], app_ids, after, limit)]


async def read_texts(reader: Reader, app_id: UUID) -> list[ScriptText]:
    """All scripts of an app with their sources."""
    return [ScriptText(row["script_id"], row["name"], row["kind"], row["source"]) for row in await reader.fetch(_SQL["all_scripts"], app_id)]


async def page_versions(reader: Reader, app_id: UUID, script_id: UUID, before: int | None, limit: int) -> list[SourceVersion]:
    """A script's sources, newest first."""
    return [_version(row) for row in await reader.fetch(_SQL["versions"], app_id, script_id, before, limit)]


async def read_version(reader: Reader, app_id: UUID, script_id: UUID, version: int) -> SourceVersion | None:
    """One of a script's sources."""
    rows = await reader.fetch(_SQL["version"], app_id, script_id, version)
    return _version(rows[0]) if rows else None


def _script(row: Mapping[str, Any]) -> StoredScript:
    return StoredScript(
        app_id=row["app_id"],
        id=row["script_id"],
        name=row["name"],
        kind=row["kind"],
        source=row["source"],
        source_version=row["source_version"],
        timeout_s=row["timeout_s"],
        limits=msgspec.json.decode(row["limits"], type=Limits),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _version(row: Mapping[str, Any]) -> SourceVersion:
    return SourceVersion(row["source_version"], row["source"], row["position"], row["created_at"])
