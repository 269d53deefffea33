"""Sessions as their users see them: which there are, and how they are ended. Tokens and how one is looked up: `adapters.postgres.vault`."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("adapters.postgres", "sessions.sql")


class StoredSession(msgspec.Struct, frozen=True, kw_only=True):
    """A valid session: since when, last used when (to the minute), from where."""

    id: UUID
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    address: str
    user_agent: str


class StoredSessions:
    """The table `vault_sessions`, by user. Everything raises Unavailable when the database is away."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(self, user_id: UUID, after: UUID | None, limit: int) -> list[StoredSession]:
        """A user's sessions, newest first."""
        rows = await self._reader.fetch(_SQL["page"], user_id, after, limit)
        return [
            StoredSession(
                id=row["session_id"],
                created_at=row["created_at"],
                seen_at=row["seen_at"],
                expires_at=row["expires_at"],
                address=row["address"],
                user_agent=row["user_agent"],
            )
            for row in rows
        ]

    async def revoke(self, user_id: UUID, session_id: UUID) -> bool:
        """End one session of a user; False when he has no such session."""
        return bool(await self._reader.fetch(_SQL["revoke"], user_id, session_id))

    async def revoke_others(self, user_id: UUID, but: UUID | None) -> list[UUID]:
        """End all sessions of a user, or all but one; returns which."""
        return [row["session_id"] for row in await self._reader.fetch(_SQL["revoke_others"], user_id, but)]

    async def keep(self, session_id: UUID, epoch: int, next_epoch: int) -> None:
        """Move a session from the epoch that has just ended to the one that its user's event has begun."""
        await self._reader.fetch(_SQL["keep"], session_id, epoch, next_epoch)
