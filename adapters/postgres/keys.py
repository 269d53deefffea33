"""The instance's own keys, made at first use and kept in the vault."""

from __future__ import annotations

import secrets
from typing import Final

from domain.ports import Reader

_MAKE: Final = """
INSERT INTO vault_keys (name, key) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING key"""
_KEY_BYTES: Final = 32


class Keys:
    """Random 32-byte keys by name, the same for every process of the instance."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[str, bytes] = {}

    async def instance_key(self, name: str) -> bytes:
        """The key of this name; whoever asks first makes it."""
        if name not in self._known:
            rows = await self._reader.fetch(_MAKE, name, secrets.token_bytes(_KEY_BYTES))
            self._known[name] = rows[0]["key"]
        return self._known[name]
