"""Hashes of API keys in the vault, and the keys as they stand. Which of them open anything is what the read model `api_keys` says.

All times are the database's, so that every process agrees on what has expired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.authz import Scope
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("adapters.postgres", "api_keys.sql")


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key as its owner sees it. `prefix` is how its token begins; `last_used_at` is right to the minute, None for never."""

    id: UUID
    name: str
    prefix: str
    scopes: tuple[Scope, ...]
    app_id: UUID | None
    expires_at: datetime | None
    created_at: datetime
    last_used_at: datetime | None


class Room(msgspec.Struct, frozen=True):
    """How many live keys a user has, and whether a time that was asked about is over."""

    live: int
    is_past: bool


class ApiKeyVault:
    """The table `vault_api_keys`. Everything raises Unavailable when the database is away."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def find(self, prefix: str, token_hash: bytes, unseen_after_s: float) -> Mapping[str, Any] | None:
        """The key of a token: its `hash`, and the row of `key_principal` with `email`, `expires_at` and `unseen`.

        None when no key that opens anything has this prefix and hash. `unseen`: its last use was noted so long ago that it is time to note this one.
        """
        rows = await self._reader.fetch(_SQL["find"], prefix, unseen_after_s, token_hash)
        return rows[0] if rows else None

    async def put(self, key_id: UUID, prefix: str, token_hash: bytes) -> bool:
        """Store the hash of a key that nobody has yet. False when another key has this prefix."""
        return bool(await self._reader.fetch(_SQL["put"], key_id, prefix, token_hash))

    async def drop(self, key_id: UUID) -> None:
        """Forget a key that opens nothing any more. Idempotent."""
        await self._reader.fetch(_SQL["drop"], key_id)

    async def note_uses(self, key_ids: Sequence[UUID]) -> None:
        """Note that these keys were used just now."""
        await self._reader.fetch(_SQL["note_uses"], list(key_ids))

    async def page(self, user_id: UUID, after: UUID | None, limit: int) -> list[KeyView]:
        """A user's keys in the order of their creation, expired ones too."""
        rows = await self._reader.fetch(_SQL["page"], user_id, after, limit)
        return [KeyView(**{field: row[field] for field in KeyView.__struct_fields__}) for row in rows]

    async def owner_of(self, key_id: UUID) -> UUID | None:
        """Whose key it is; None when it has ended."""
        rows = await self._reader.fetch(_SQL["owner_of"], key_id)
        return rows[0]["user_id"] if rows else None

    async def room(self, user_id: UUID, until: datetime | None) -> Room:
        """How many keys of a user have not expired, and whether `until` is over (None never is)."""
        row = (await self._reader.fetch(_SQL["room"], user_id, until))[0]
        return Room(row["live"], row["is_past"])

    async def sweep(self, older_than_s: float) -> None:
        """Remove the hashes of keys that have ended, unless they are so new that their keys may be about to begin."""
        await self._reader.fetch(_SQL["sweep"], older_than_s)
