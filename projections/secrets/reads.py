"""Reading which secrets there are; never a value."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("projections.secrets", "reads.sql")


class SecretView(msgspec.Struct, frozen=True, kw_only=True):
    """A secret as people see it. `version` is that of its stream when its value was set last."""

    name: str
    version: int
    updated_at: datetime


async def page_secrets(reader: Reader, app_id: UUID, after: str | None, limit: int) -> list[SecretView]:
    """An app's secrets by name, after a name."""
    rows = await reader.fetch(_SQL["page"], app_id, after, limit)
    return [SecretView(name=row["name"], version=row["version"], updated_at=row["updated_at"]) for row in rows]


async def count_others(reader: Reader, app_id: UUID, name: str) -> int:
    """How many secrets an app has beside this one."""
    found: int = (await reader.fetch(_SQL["count"], app_id, name))[0]["secrets"]
    return found
