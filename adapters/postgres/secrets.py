"""Values of secrets in the vault, as they are stored: encrypted. Which of them count is what the read model `secrets` says."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from adapters.keyring import Sealed
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("adapters.postgres", "secrets.sql")


class StoredValue(msgspec.Struct, frozen=True):
    """An encrypted value and where it belongs."""

    app_id: UUID
    value_id: UUID
    name: str
    sealed: Sealed


class SecretValues:
    """The table `vault_secrets`. Everything raises Unavailable when the database is away."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def put(self, value: StoredValue) -> None:
        """Store a value that no secret has yet."""
        sealed = value.sealed
        await self._reader.fetch(_SQL["put"], value.app_id, value.value_id, value.name, sealed.key_id, sealed.nonce, sealed.cipher)

    async def read(self, app_id: UUID, name: str) -> StoredValue | None:
        """The value that a secret has now."""
        rows = await self._reader.fetch(_SQL["read"], app_id, name)
        return None if not rows else _stored(app_id, name, rows[0])

    async def drop(self, app_id: UUID, value_id: UUID) -> None:
        """Remove a value that its secret does not have any more. Idempotent."""
        await self._reader.fetch(_SQL["drop"], app_id, value_id)

    async def keys(self) -> dict[str, int]:
        """How many values that count are encrypted with each key."""
        return {row["key_id"]: row["secrets"] for row in await self._reader.fetch(_SQL["keys"])}

    async def of_other_keys(self, key_id: str) -> list[StoredValue]:
        """What is encrypted with another key."""
        return [_stored(row["app_id"], row["name"], row) for row in await self._reader.fetch(_SQL["of_other_keys"], key_id)]

    async def replace(self, value: StoredValue, sealed: Sealed) -> None:
        """Store the same value as encrypted with another key, unless somebody has done so."""
        await self._reader.fetch(_SQL["replace"], value.app_id, value.value_id, value.sealed.key_id, sealed.key_id, sealed.nonce, sealed.cipher)

    async def sweep(self, older_than_s: float) -> None:
        """Remove what no secret has, unless it is so new that it may be about to, and what deleted apps had."""
        await self._reader.fetch(_SQL["sweep"], older_than_s)


def _stored(app_id: UUID, name: str, row: Any) -> StoredValue:
    return StoredValue(app_id, row["value_id"], name, Sealed(row["key_id"], row["nonce"], row["cipher"]))
