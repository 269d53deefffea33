"""Who came in, who was turned away and who left: events of the instance's log that change nothing and are there to be asked for.

What concerns a user stands in his stream `access:<user id>`, what concerns nobody who is known in `access:unknown`; a key's first use of a day from one
address is the stream `access-key:<key id>:<address>`, whose last event says whether there is anything to tell.

Never here: passwords, tokens, hashes. Of a failed login whose name is nobody's, not even that name, because people type their password there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final, Literal
from uuid import UUID

from domain.aggregates import Aggregate, always
from domain.events import Event
from domain.ids import stream
from domain.units import Effect

Reason = Literal["bad_credential", "forbidden", "not_visible"]
"""Why a call was refused: 401 with a credential that is none, 403, or a 404 for something that is there."""
Part = Literal["logins", "calls"]
"""What one originator is told of apart, so that noise in one does not hide what he does in the other."""


class LoggedIn(Event, frozen=True, kw_only=True):
    """A session began."""

    TOPIC = "access.LoggedIn"
    user_id: UUID
    session_id: UUID
    address: str
    user_agent: str


class LoggedOut(Event, frozen=True, kw_only=True):
    """A session was ended by whoever was in it."""

    TOPIC = "access.LoggedOut"
    user_id: UUID
    session_id: UUID


class SessionsRevoked(Event, frozen=True, kw_only=True):
    """`count` sessions of a user were ended from outside of them; `session_ids` are the first of them."""

    TOPIC = "access.SessionsRevoked"
    user_id: UUID
    session_ids: tuple[UUID, ...]
    count: int


class PasswordChanged(Event, frozen=True, kw_only=True):
    """A user has another password, which ended all his sessions but `kept_session_id`."""

    TOPIC = "access.PasswordChanged"
    user_id: UUID
    kept_session_id: UUID | None = None


class Repeated(Event, frozen=True, kw_only=True):
    """What can happen often, and is told as one: `count` times from `first_at` to `last_at`."""

    count: int
    first_at: datetime
    last_at: datetime


class LoginFailed(Repeated, frozen=True, kw_only=True):
    """Wrong credentials. `user_id` is whose name was given, None for nobody's."""

    TOPIC = "access.LoginFailed"
    user_id: UUID | None
    address: str


class LoginThrottled(Repeated, frozen=True, kw_only=True):
    """Credentials that were not even looked at, after too many wrong ones."""

    TOPIC = "access.LoginThrottled"
    user_id: UUID | None
    address: str


class Refused(Repeated, frozen=True, kw_only=True):
    """A call of the control plane was refused.

    `route` is its template, `capability` what was missing, `app_id` where; `request_id` is that of the first one.
    """

    TOPIC = "access.Refused"
    reason: Reason
    code: str
    user_id: UUID | None
    address: str
    method: str
    route: str
    capability: str | None = None
    app_id: UUID | None = None
    request_id: str | None = None


class Suppressed(Repeated, frozen=True, kw_only=True):
    """More kinds of events than are told in a minute, of one originator: logins that failed, or calls that were refused."""

    TOPIC = "access.Suppressed"
    part: Part = "calls"


class KeyUsed(Event, frozen=True, kw_only=True):
    """The first use of an API key on a day (UTC) from an address."""

    TOPIC = "access.KeyUsed"
    key_id: UUID
    user_id: UUID
    address: str
    day: date


class NoteKeyUse(Effect, frozen=True, kw_only=True):
    """Record that a key was used, unless that stands there for this day."""

    key_id: UUID
    user_id: UUID
    address: str
    day: date

    @property
    def stream(self) -> str:
        return stream("access-key", self.key_id, self.address)


def access_stream(user_id: UUID | None) -> str:
    """The stream of what concerns a user, or nobody who is known."""
    return stream("access", "unknown" if user_id is None else user_id)


def decide_key_use(effect: NoteKeyUse, last: Event | None, now: datetime) -> Sequence[Event]:
    """Once a day. A clock that lags behind another process's tells nothing new."""
    del now
    if isinstance(last, KeyUsed) and last.day >= effect.day:
        return ()
    return (KeyUsed(key_id=effect.key_id, user_id=effect.user_id, address=effect.address, day=effect.day),)


AGGREGATES: Final = (
    Aggregate(
        kind="access",
        events=(LoggedIn, LoggedOut, SessionsRevoked, PasswordChanged, LoginFailed, LoginThrottled, Refused, Suppressed),
        deciders={},
        exists=always,
    ),
    Aggregate(kind="access-key", events=(KeyUsed,), deciders={NoteKeyUse: decide_key_use}, exists=always),
)
