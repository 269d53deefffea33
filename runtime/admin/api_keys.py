"""A user's API keys: made, listed, revoked."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from adapters.postgres.api_keys import ApiKeyVault, KeyView
from domain.api_keys import (
    MAX_KEYS,
    ApiKeyCreated,
    ApiKeyRevoked,
    api_key_stream,
    check_key_name,
    check_scopes,
    keys_guard,
    refuse_wider,
)
from domain.apps import app_stream
from domain.authz import Scope, sees
from domain.cursors import parse_time
from domain.errors import Conflict, Invalid, NotFound, PiCloudError
from domain.ids import NIL_APP
from domain.names import move_guard
from domain.ports import Reader
from domain.principals import authority
from domain.units import ABSENT, Change, Read, Record
from projections.control.app_reads import read_app
from runtime.access.api_keys import ApiKeys
from runtime.access.identity import Identity
from runtime.admin.streams import read_guards, read_heads
from runtime.admin.writing import Acting, AdminWriter, retried

FIRST_VERSION: Final = 1
"""Of a key's stream, while the key is good."""


class WantedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that somebody wants."""

    name: str
    scopes: list[Scope]
    app_id: UUID | None = None
    expires_at: str | None = None


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that has just been made, with its token, which is never shown again. Its repr does not show it."""

    id: UUID
    token: str
    prefix: str
    name: str
    scopes: tuple[Scope, ...]
    app_id: UUID | None
    expires_at: datetime | None
    created_at: datetime

    def __repr__(self) -> str:
        return f"NewKey(id={self.id}, prefix={self.prefix!r})"


class OwnKeys:
    """The keys of whoever asks: of the user, also when he asks through one of them."""

    def __init__(self, reader: Reader, vault: ApiKeyVault, keys: ApiKeys, writer: AdminWriter, identity: Identity) -> None:
        self._reader = reader
        self._vault = vault
        self._keys = keys
        self._writer = writer
        self._identity = identity
        self._user_id = identity.user.id

    async def page(self, after: UUID | None, limit: int) -> list[KeyView]:
        """Keys in the order of their creation."""
        return await self._vault.page(self._user_id, after, limit)

    async def create(self, wanted: WantedKey, acting: Acting) -> NewKey:
        """Make a key. Raises Invalid (`cannot_escalate` for one that is wider than the key that asks), or Conflict `too_many_keys`.

        The token's hash comes first, then the event, without which it opens nothing.
        """
        key = _created(uuid7(), self._user_id, wanted)
        refuse_wider(self._identity.principal, self._identity.expires_at, key)
        minted = await self._keys.mint(key.key_id)
        key = msgspec.structs.replace(key, prefix=minted.prefix)
        try:
            created_at = await retried(lambda: self._append(key, acting))
        except PiCloudError:
            await self._vault.drop(key.key_id)
            raise
        return _new_key(key, minted.token, created_at)

    async def revoke(self, key_id: UUID, acting: Acting) -> None:
        """End a key. Raises NotFound for one that has ended, and for somebody else's."""

        async def attempt() -> None:
            if await self._vault.owner_of(key_id) != self._user_id:
                raise NotFound("there is no such API key", code="key_not_found")
            revoked = Record(name=api_key_stream(key_id), event=ApiKeyRevoked(key_id=key_id, user_id=self._user_id))
            await self._writer.append(NIL_APP, acting, [Change(revoked, FIRST_VERSION)])

        await retried(attempt)
        await self._vault.drop(key_id)

    async def _append(self, key: ApiKeyCreated, acting: Acting) -> datetime:
        guard = keys_guard(self._user_id)
        (moves,) = await read_guards(self._reader, NIL_APP, guard)
        await self._check_room(key)
        apps = [] if key.app_id is None else [key.app_id]
        reads = [await self._seen(app_id) for app_id in apps]
        acting = msgspec.structs.replace(acting, reads=authority(self._identity.principal, *apps))
        changes = [move_guard(guard, moves), Change(Record(name=api_key_stream(key.key_id), event=key), ABSENT)]
        return (await self._writer.append(NIL_APP, acting, changes, reads=reads))[-1].recorded_at

    async def _check_room(self, key: ApiKeyCreated) -> None:
        room = await self._vault.room(self._user_id, key.expires_at)
        if room.is_past:
            raise Invalid("expires_at: this time is over", field="expires_at")
        if room.live >= MAX_KEYS:
            raise Conflict(f"a user has at most {MAX_KEYS} API keys: delete one first", code="too_many_keys")

    async def _seen(self, app_id: UUID) -> Read:
        """An app that whoever asks sees, as it must still stand. Raises Invalid for any other: what one cannot see is not there."""
        stream = app_stream(app_id)
        (head,) = await read_heads(self._reader, NIL_APP, stream)
        if await read_app(self._reader, app_id) is None or not sees(self._identity.principal, app_id):
            raise Invalid("app_id: there is no such app", code="unknown_app", field="app_id")
        return Read(stream, head.version)


def _created(key_id: UUID, user_id: UUID, wanted: WantedKey) -> ApiKeyCreated:
    """A key as its event tells of it, but for its prefix. Raises Invalid."""
    return ApiKeyCreated(
        key_id=key_id,
        user_id=user_id,
        name=check_key_name(wanted.name),
        prefix="",
        scopes=check_scopes(wanted.scopes, wanted.app_id),
        app_id=wanted.app_id,
        expires_at=None if wanted.expires_at is None else parse_time(wanted.expires_at, "expires_at"),
    )


def _new_key(key: ApiKeyCreated, token: str, created_at: datetime) -> NewKey:
    return NewKey(
        id=key.key_id,
        token=token,
        prefix=key.prefix,
        name=key.name,
        scopes=key.scopes,
        app_id=key.app_id,
        expires_at=key.expires_at,
        created_at=created_at,
    )
