"""Users of the instance, in its own log. Password hashes are not here: they live in the vault.

A hash is written to the vault first, under a credential id of its own. The event that names this id makes it the one that logs in, so that both happen or
neither does. A session remembers the `session_epoch` that it began in and is valid in that one alone: an event that raises it ends all of a user's sessions.
"""

from __future__ import annotations

import re
from typing import Final, Literal
from uuid import UUID

import msgspec

from domain.aggregates import Aggregate
from domain.errors import Invalid
from domain.events import Event
from domain.ids import stream
from domain.values import check_text

MIN_PASSWORD_CHARS: Final = 8
MAX_PASSWORD_CHARS: Final = 1024
MAX_EMAIL_CHARS: Final = 254
USER_NAME: Final = "user"
"""Kind of names: a user name belongs to one user."""
OWNERS_GUARD: Final = "owners"
"""Guard of the set of active owners."""

_USERNAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_EMAIL: Final = re.compile(r"[^\s@\x00-\x1f\x7f]+@[^\s@\x00-\x1f\x7f]+")

InstanceRole = Literal["owner", "admin", "member"]

_RANK: Final[dict[InstanceRole, int]] = {"member": 1, "admin": 2, "owner": 3}


class UserSaved(Event, frozen=True, kw_only=True):
    """What both events of a living user carry: all of him. Without a `credential_id`, as in the first logs, it is the user's id."""

    user_id: UUID
    username: str
    email: str | None = None
    instance_role: InstanceRole = "admin"
    active: bool = True
    credential_id: UUID | None = None
    session_epoch: int = 0


class UserCreated(UserSaved, frozen=True, kw_only=True):
    """A user exists."""

    TOPIC = "users.UserCreated"


class UserChanged(UserSaved, frozen=True, kw_only=True):
    """A user is like this now."""

    TOPIC = "users.UserChanged"


class UserDeleted(Event, frozen=True, kw_only=True):
    """A user is gone."""

    TOPIC = "users.UserDeleted"
    user_id: UUID
    username: str


class UserState(msgspec.Struct, frozen=True, kw_only=True):
    """A user as he is."""

    id: UUID
    username: str
    email: str | None
    instance_role: InstanceRole
    active: bool
    credential_id: UUID
    session_epoch: int

    @property
    def is_active_owner(self) -> bool:
        """Whether he is of the set that must not become empty."""
        return self.active and self.instance_role == "owner"


def state_of(event: Event | None) -> UserState | None:
    """The user after the last event of his stream; None when there is none (any more)."""
    if not isinstance(event, UserSaved):
        return None
    return UserState(
        id=event.user_id,
        username=event.username,
        email=event.email,
        instance_role=event.instance_role,
        active=event.active,
        credential_id=event.credential_id or event.user_id,
        session_epoch=event.session_epoch,
    )


def user_stream(user_id: UUID) -> str:
    """The stream of a user, in the nil log."""
    return stream("user", user_id)


def is_above(role: InstanceRole, other: InstanceRole) -> bool:
    """Whether a role is above another: owner over admin over member."""
    return _RANK[role] > _RANK[other]


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


def check_email(email: str, field: str = "email") -> str:
    """Something before and after one `@`, at most 254 characters without spaces (RFC 5321, 4.5.3.1.3); raises Invalid. Whether it arrives is not known."""
    check_text(email, field)
    if len(email) > MAX_EMAIL_CHARS or not _EMAIL.fullmatch(email):
        raise Invalid(f"{field}: expected an address like ada@example.com, at most {MAX_EMAIL_CHARS} characters", field=field)
    return email


AGGREGATES: Final = (Aggregate(kind="user", events=(UserCreated, UserChanged, UserDeleted), deciders={}, exists=lambda last, _: isinstance(last, UserSaved)),)
