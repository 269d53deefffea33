"""What is read of users: one, by id or name, and pages of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.ports import Reader
from domain.statements import load_sql
from domain.users import UserState

_SQL: Final = load_sql("projections.control", "user_reads.sql")


class StoredUser(msgspec.Struct, frozen=True):
    """A user, and the version of his stream."""

    state: UserState
    version: int
    created_at: datetime


async def read_user(reader: Reader, user_id: UUID) -> StoredUser | None:
    """One user."""
    rows = await reader.fetch(_SQL["user"], user_id)
    return _stored(rows[0]) if rows else None


async def read_user_of_name(reader: Reader, username: str) -> StoredUser | None:
    """The user of a name, whatever its letter case."""
    rows = await reader.fetch(_SQL["user_of_name"], username.casefold())
    return _stored(rows[0]) if rows else None


async def page_users(reader: Reader, after: UUID | None, limit: int) -> list[StoredUser]:
    """Users in the order of their creation."""
    return [_stored(row) for row in await reader.fetch(_SQL["users"], after, limit)]


def state_from(row: Mapping[str, Any]) -> UserState:
    """A user of his row."""
    return UserState(
        id=row["user_id"],
        username=row["username"],
        email=row["email"],
        instance_role=row["instance_role"],
        active=row["active"],
        credential_id=row["credential_id"],
        session_epoch=row["session_epoch"],
    )


def _stored(row: Mapping[str, Any]) -> StoredUser:
    return StoredUser(state_from(row), row["version"], row["created_at"])
