"""What administration reads of members."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from domain.authz import AppRole
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("projections.control", "member_reads.sql")


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A user with a role in an app. One who is not `active` can do nothing with it."""

    user_id: UUID
    username: str
    email: str | None
    active: bool
    role: AppRole
    created_at: datetime


async def page_members(reader: Reader, app_id: UUID, after: UUID | None, limit: int) -> list[Member]:
    """An app's members by user id, after one."""
    rows = await reader.fetch(_SQL["page"], app_id, after, limit)
    return [Member(**{field: row[field] for field in Member.__struct_fields__}) for row in rows]


async def read_member(reader: Reader, app_id: UUID, user_id: UUID) -> Member | None:
    """One member."""
    rows = await reader.fetch(_SQL["one"], app_id, user_id)
    return Member(**{field: rows[0][field] for field in Member.__struct_fields__}) if rows else None
