"""API keys as credentials: made, and recognised.

A token is `pic_` and 32 random bytes. What is stored is its HMAC-SHA256 under a key of the instance, not an argon2 hash: those are slow so that passwords,
which people choose from few, cannot be tried out; nobody tries out 2^256. The hash is keyed so that whoever can write or read the table alone can
neither make a key nor recognise one.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final
from uuid import UUID

import anyio
import msgspec
import structlog

from adapters.postgres.api_keys import ApiKeyVault
from adapters.postgres.keys import Keys
from adapters.postgres.vault import User
from domain.api_keys import SECRET_BYTES, TOKEN_PREFIX, prefix_of
from domain.errors import Unavailable
from domain.principals import key_principal
from runtime.access.identity import Identity

_HASH_KEY: Final = "api_keys"
_NOTE_USE_AFTER_S: Final = 60.0
_SWEEP_AFTER_S: Final = 600.0
_NO_HASH: Final = bytes(32)

log = structlog.get_logger(__name__)


class Minted(msgspec.Struct, frozen=True):
    """A token whose hash is in the vault. Its repr does not show it."""

    token: str
    prefix: str

    def __repr__(self) -> str:
        return f"Minted(prefix={self.prefix!r})"


class ApiKeys:
    """The keys of all users. `run` notes their uses."""

    def __init__(self, vault: ApiKeyVault, keys: Keys) -> None:
        self._vault = vault
        self._keys = keys
        self._used: set[UUID] = set()
        self._was_used = anyio.Event()

    async def authenticate(self, token: str) -> Identity | None:
        """Whose token this is (one in form: `is_token`), by one query; None when it is nobody's (any more), whether or not a key has its prefix."""
        token_hash = await self._hash(token)
        row = await self._vault.find(prefix_of(token), token_hash, _NOTE_USE_AFTER_S)
        if not hmac.compare_digest(token_hash, _NO_HASH if row is None else row["hash"]) or row is None:
            return None
        if row["unseen"]:
            self._note(row["key_id"])
        user = User(id=row["user_id"], username=row["username"], email=row["email"], instance_role=row["instance_role"])
        return Identity(principal=key_principal(row), user=user, session_id=None, expires_at=row["expires_at"], extended=False)

    async def mint(self, key_id: UUID) -> Minted:
        """A new token, which opens nothing until its key is in the log."""
        while True:
            token = TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
            if await self._vault.put(key_id, prefix_of(token), await self._hash(token)):
                return Minted(token, prefix_of(token))

    async def run(self) -> None:
        """Note uses behind the requests that they were, at most once a minute for each key, until cancelled."""
        while True:
            await self._was_used.wait()
            self._was_used = anyio.Event()
            used = list(self._used)
            try:
                await self._vault.note_uses(used)
            except Unavailable as error:
                log.warning("key_uses_not_noted", keys=len(used), error=str(error))
            self._used.difference_update(used)

    async def sweep(self) -> None:
        """Remove what is left of keys that have ended: for a periodic job."""
        await self._vault.sweep(_SWEEP_AFTER_S)

    def _note(self, key_id: UUID) -> None:
        if key_id not in self._used:
            self._used.add(key_id)
            self._was_used.set()

    async def _hash(self, token: str) -> bytes:
        return hmac.digest(await self._keys.instance_key(_HASH_KEY), token.encode(), "sha256")
