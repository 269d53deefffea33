"""Reading `settings`. Who has never set anything has the defaults, at version 0."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Generic, TypeVar
from uuid import UUID

import msgspec

from domain.app_settings import AppSettings, InstanceSettings
from domain.ids import NIL_APP
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("projections.settings", "reads.sql")

T = TypeVar("T", AppSettings, InstanceSettings)


class Stored(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Settings with the version of their stream and when they were last changed."""

    settings: T
    version: int = 0
    updated_at: datetime | None = None


async def read_app_settings(reader: Reader, app_id: UUID) -> Stored[AppSettings]:
    """An app's."""
    return await _read(reader, app_id, AppSettings)


async def read_instance_settings(reader: Reader) -> Stored[InstanceSettings]:
    """The instance's."""
    return await _read(reader, NIL_APP, InstanceSettings)


async def _read(reader: Reader, app_id: UUID, shape: type[T]) -> Stored[T]:
    rows = await reader.fetch(_SQL["settings"], app_id)
    if not rows:
        return Stored(settings=shape())
    row = rows[0]
    return Stored(settings=msgspec.json.decode(row["settings"], type=shape), version=row["version"], updated_at=row["updated_at"])
