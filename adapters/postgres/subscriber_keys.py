"""The keys that sign subscribers' tokens, in the vault: one active per app, made at first use."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from domain.errors import LogClosed
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("adapters.postgres", "subscriber_keys.sql")
_KEY_BYTES: Final = 32


class SigningKey(msgspec.Struct, frozen=True):
    """A key and the id that tokens name it by."""

    kid: str
    key: bytes

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"


class KeyState(msgspec.Struct, frozen=True, kw_only=True):
    """A key as people see it. The active one is neither retired nor revoked."""

    kid: str
    created_at: datetime
    retired_at: datetime | None
    revoked_at: datetime | None


class SubscriberKeys:
    """The keys of all apps. A retired key stays good for `lifetime_s`, the longest that a token may live."""

    def __init__(self, reader: Reader, lifetime_s: float) -> None:
        self._reader = reader
        self._lifetime_s = lifetime_s

    async def active(self, app_id: UUID) -> SigningKey:
        """The key to sign by; whoever asks first makes it. Raises LogClosed for an app that was deleted."""
        while True:
            rows = await self._reader.fetch(_SQL["active"], app_id)
            if rows:
                return SigningKey(rows[0]["kid"], rows[0]["key"])
            await self._make(app_id)

    async def good(self, app_id: UUID, kid: str) -> bytes | None:
        """The key that a token names, unless it is unknown, revoked, or was retired too long ago."""
        rows = await self._reader.fetch(_SQL["good"], app_id, kid, self._lifetime_s)
        return rows[0]["key"] if rows else None

    async def list(self, app_id: UUID) -> list[KeyState]:
        """The newest 200 keys, newest first."""
        rows = await self._reader.fetch(_SQL["list"], app_id)
        return [KeyState(**{field: row[field] for field in KeyState.__struct_fields__}) for row in rows]

    async def rotate(self, app_id: UUID) -> tuple[str, str | None]:
        """Sign by a new key from here on: its id, and that of the one before. Keys whose tokens have all expired are forgotten."""
        retired = await self._reader.fetch(_SQL["rotate"], app_id)
        await self._reader.fetch(_SQL["forget"], app_id, self._lifetime_s)
        return (await self.active(app_id)).kid, retired[0]["kid"] if retired else None

    async def revoke(self, app_id: UUID, kid: str) -> bool:
        """No token of this key is good from here on. False when there is no such key."""
        return bool(await self._reader.fetch(_SQL["revoke"], app_id, kid))

    async def remove(self, app_id: UUID, kid: str) -> None:
        """Forget a revoked key."""
        await self._reader.fetch(_SQL["remove"], app_id, kid)

    async def _make(self, app_id: UUID) -> None:
        rows = await self._reader.fetch(_SQL["make_first"], app_id, str(uuid7()), secrets.token_bytes(_KEY_BYTES))
        if rows[0]["closed"]:
            raise LogClosed
