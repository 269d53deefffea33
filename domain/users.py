"""Users of the instance, in its own log. Password hashes are not here: they live in the vault."""

from __future__ import annotations

import re
from typing import Final, Literal
from uuid import UUID

from domain.aggregates import Aggregate
from domain.errors import Invalid
from domain.events import Event
from domain.ids import stream
from domain.values import check_text

MIN_PASSWORD_CHARS: Final = 8
MAX_PASSWORD_CHARS: Final = 1024
_USERNAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")

InstanceRole = Literal["owner", "admin", "member"]


class UserCreated(Event, frozen=True, kw_only=True):
    """A user exists."""

    TOPIC = "users.UserCreated"
    user_id: UUID
    username: str
    email: str | None = None
    instance_role: InstanceRole = "admin"
    active: bool = True


class UserChanged(Event, frozen=True, kw_only=True):
    """A user is now as this says. `credential_id` names his password's hash in the vault; sessions of an older `session_epoch` have ended."""

    TOPIC = "users.UserChanged"
    user_id: UUID
    username: str
    email: str | None
    instance_role: InstanceRole
    active: bool
    session_epoch: int = 0
    credential_id: UUID | None = None


class UserDeleted(Event, frozen=True, kw_only=True):
    """A user is gone."""

    TOPIC = "users.UserDeleted"
    user_id: UUID
    username: str


def user_stream(user_id: UUID) -> str:
    """The stream of a user, in the nil log."""
    return stream("user", user_id)


def check_username(username: str, field: str = "username") -> str:
    """1 to 64 characters, a letter or digit first, then also `. _ @ + -`; raises Invalid."""
    if not _USERNAME.fullmatch(username):
        raise Invalid(f"{field}: 1 to 64 letters, digits or any of . _ @ + -, beginning with a letter or digit", field=field)
    return username


def check_password(password: str, field: str = "password") -> str:
    """8 to 1024 characters; raises Invalid."""
    check_text(password, field)
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise Invalid(f"{field}: {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters", field=field)
    return password


AGGREGATES: Final = (
    Aggregate(kind="user", events=(UserCreated, UserChanged, UserDeleted), deciders={}, exists=lambda last, _: isinstance(last, UserCreated | UserChanged)),
)
