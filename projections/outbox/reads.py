"""What administration reads of triggers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.ports import Reader
from domain.statements import load_sql
from domain.triggers import Trigger

_SQL: Final = load_sql("projections.outbox", "reads.sql")


class StoredTrigger(msgspec.Struct, frozen=True):
    """A trigger and since when it stands."""

    app_id: UUID
    trigger: Trigger
    created_at: datetime


async def read_trigger(reader: Reader, app_id: UUID, trigger_id: UUID) -> StoredTrigger | None:
    """A trigger of this app."""
    rows = await reader.fetch(_SQL["trigger"], app_id, trigger_id)
    return _trigger(rows[0]) if rows else None


async def page_triggers(reader: Reader, app_id: UUID, after: UUID | None, limit: int) -> list[StoredTrigger]:
    """An app's triggers in the order of their creation."""
    return [_trigger(row) for row in await reader.fetch(_SQL["triggers"], app_id, after, limit)]


async def page_triggers_of_script(reader: Reader, app_id: UUID, script_id: UUID, limit: int) -> list[StoredTrigger]:
    """A script's triggers in the order of their creation."""
    return [_trigger(row) for row in await reader.fetch(_SQL["triggers_of_script"], app_id, script_id, limit)]


def _trigger(row: Mapping[str, Any]) -> StoredTrigger:
    return StoredTrigger(row["app_id"], msgspec.json.decode(row["trigger"], type=Trigger), row["created_at"])
