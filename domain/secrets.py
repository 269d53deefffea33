"""Secrets of an app: `secret:<name>` streams. The log says that one was set, deleted or rotated, and by whom; the value is in the vault, encrypted.

A value is written to the vault first, under an id of its own. The event that names this id makes it the secret's value, so that both happen or neither does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from domain.aggregates import Aggregate
from domain.errors import Invalid
from domain.events import Event
from domain.ids import stream
from domain.units import Effect
from domain.values import check_text

MAX_VALUE_BYTES: Final = 16 * 1024
MAX_SECRETS: Final = 200
"""Of an app."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


class SecretSet(Event, frozen=True, kw_only=True):
    """A secret has another value now, `value_id` in the vault. `replaces` is the one before, None when there was none."""

    TOPIC = "secrets.SecretSet"
    name: str
    value_id: UUID
    replaces: UUID | None = None


class SecretRotated(Event, frozen=True, kw_only=True):
    """The same value was encrypted with another key."""

    TOPIC = "secrets.SecretRotated"
    name: str
    value_id: UUID
    key_id: str


class SecretDeleted(Event, frozen=True, kw_only=True):
    """A secret is gone, and its value from the vault."""

    TOPIC = "secrets.SecretDeleted"
    name: str
    value_id: UUID


class SetSecret(Effect, frozen=True, kw_only=True):
    """Give a secret the value that stands in the vault under this id."""

    name: str
    value_id: UUID

    @property
    def stream(self) -> str:
        return secret_stream(self.name)


class RotateSecret(Effect, frozen=True, kw_only=True):
    """Record that a value is encrypted with another key; nothing happens when it is not the secret's value any more."""

    name: str
    value_id: UUID
    key_id: str

    @property
    def stream(self) -> str:
        return secret_stream(self.name)


class DeleteSecret(Effect, frozen=True, kw_only=True):
    """Delete a secret; nothing happens when it is absent."""

    name: str

    @property
    def stream(self) -> str:
        return secret_stream(self.name)


class KeyProblem(Exception):  # told to scripts and people in their own ways
    """A value cannot be encrypted or decrypted with the keys that are there. The message says why, and nothing of key or value."""


class SecretReader(Protocol):
    """Reads values, for scripts."""

    async def read(self, app_id: UUID, name: str) -> str | None:
        """A secret's value, None when there is no such secret. Raises KeyProblem."""
        ...


def secret_stream(name: str) -> str:
    """The stream of a secret."""
    return stream("secret", name)


def check_name(name: object) -> str:
    """A name: a letter or underscore, then letters, digits, `_`, `.` and `-`, 128 at most. Raises Invalid."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Invalid("secrets: name must be a letter or underscore, then at most 127 of letters, digits, _, . and -", field="name")
    return name


def check_value(value: str) -> str:
    """A value: 1 byte to 16 KiB of UTF-8 without NUL. Raises Invalid, which does not quote it."""
    check_text(value, "value")
    if not 0 < len(value.encode()) <= MAX_VALUE_BYTES:
        raise Invalid(f"value: 1 to {MAX_VALUE_BYTES} bytes", field="value")
    return value


def value_of(last: Event | None) -> UUID | None:
    """The id of the value that a secret has after this event."""
    return last.value_id if isinstance(last, SecretSet | SecretRotated) else None


def decide_set(effect: SetSecret, last: Event | None, now: datetime) -> Sequence[Event]:
    """Replace whatever is there."""
    del now
    return (SecretSet(name=effect.name, value_id=effect.value_id, replaces=value_of(last)),)


def decide_rotate(effect: RotateSecret, last: Event | None, now: datetime) -> Sequence[Event]:
    """Record it of the value that is there."""
    del now
    if value_of(last) != effect.value_id:
        return ()
    return (SecretRotated(name=effect.name, value_id=effect.value_id, key_id=effect.key_id),)


def decide_delete(effect: DeleteSecret, last: Event | None, now: datetime) -> Sequence[Event]:
    """Delete what is there."""
    del now
    value_id = value_of(last)
    return () if value_id is None else (SecretDeleted(name=effect.name, value_id=value_id),)


AGGREGATE: Final = Aggregate(
    kind="secret",
    events=(SecretSet, SecretRotated, SecretDeleted),
    deciders={SetSecret: decide_set, RotateSecret: decide_rotate, DeleteSecret: decide_delete},
    exists=lambda last, _: value_of(last) is not None,
)
