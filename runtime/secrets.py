"""Secrets: their values in the vault, encrypted, and the events that say so. Values leave here for scripts alone."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from adapters.keyring import Keyring
from adapters.postgres.secrets import SecretValues, StoredValue
from domain.clock import Clock
from domain.events import Metadata
from domain.ports import Appender
from domain.secrets import KeyProblem, RotateSecret
from domain.units import Change, Unit
from runtime.settings import Settings

KEY_FILE: Final = "secrets.key"
_ORPHAN_AFTER_S: Final = 3600.0


class SecretsState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether all values can be decrypted; `problem` says why not, `key_id` which key is the current one, if there is one yet."""

    ok: bool
    key_id: str | None = None
    problem: str | None = None


class Secrets:
    """Implements `domain.secrets.SecretReader`."""

    def __init__(self, keyring: Keyring, values: SecretValues) -> None:
        self._keyring = keyring
        self._values = values

    async def read(self, app_id: UUID, name: str) -> str | None:
        """See `SecretReader.read`."""
        stored = await self._values.read(app_id, name)
        return None if stored is None else self._keyring.open(stored.sealed, _context(app_id, name, stored.value_id)).decode()

    async def store(self, app_id: UUID, name: str, value: str) -> UUID:
        """Encrypt a value that its secret is about to have; returns its id. Raises KeyProblem."""
        if self._keyring.current_id() is None and await self._values.keys():
            raise KeyProblem("there are values that a missing key has encrypted: bring it back, or set PICLOUD_SECRETS_KEY to another on purpose")
        value_id: UUID = uuid7()
        await self._values.put(StoredValue(app_id, value_id, name, self._keyring.seal(value.encode(), _context(app_id, name, value_id))))
        return value_id

    async def forget(self, app_id: UUID, value_id: UUID) -> None:
        """Remove a value that its secret does not have any more."""
        await self._values.drop(app_id, value_id)

    async def state(self) -> SecretsState:
        """Whether the keys fit what is stored."""
        try:
            current = self._keyring.current_id()
            unknown = {key: count for key, count in (await self._values.keys()).items() if not self._keyring.knows(key)}
        except KeyProblem as error:
            return SecretsState(ok=False, problem=str(error))
        if not unknown:
            return SecretsState(ok=True, key_id=current)
        problem = f"secrets whose keys are not here: {sum(unknown.values())} (keys {', '.join(unknown)})"
        return SecretsState(ok=False, key_id=current, problem=problem)

    async def rotate(self, log: Appender, clock: Clock) -> int:
        """Encrypt everything with the current key; returns how many values that took. Raises KeyProblem. What was done before that stays done."""
        current = self._keyring.current_id(make=True)
        assert current is not None
        others = await self._values.of_other_keys(current)
        for stored in others:
            context = _context(stored.app_id, stored.name, stored.value_id)
            sealed = self._keyring.seal(self._keyring.open(stored.sealed, context), context)
            await _record(log, clock, stored, current)
            await self._values.replace(stored, sealed)
        return len(others)

    async def sweep(self) -> None:
        """Remove values that no secret has."""
        await self._values.sweep(_ORPHAN_AFTER_S)


def keyring_of(settings: Settings) -> Keyring:
    """The keys that the settings name. Raises KeyProblem."""
    chosen = settings.secrets
    old = () if chosen.old_keys is None else [key for key in chosen.old_keys.value.split(",") if key.strip()]
    return Keyring(settings.data_dir / KEY_FILE, None if chosen.key is None else chosen.key.value, old)


def _context(app_id: UUID, name: str, value_id: UUID) -> bytes:
    """What a value is bound to: nobody can make it another app's, or another secret's."""
    return b"\x00".join((b"picloud secret", app_id.bytes, name.encode(), value_id.bytes))


async def _record(log: Appender, clock: Clock, stored: StoredValue, key_id: str) -> None:
    unit_id = uuid7()
    effect = RotateSecret(name=stored.name, value_id=stored.value_id, key_id=key_id)
    metadata = Metadata(unit_id=unit_id, actor="system", correlation_id=unit_id)
    await log.append(Unit(app_id=stored.app_id, metadata=metadata, now=clock(), changes=(Change(effect),)))
