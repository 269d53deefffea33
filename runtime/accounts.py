"""Who may log in, logins and sessions.

A session's token is 32 random bytes; its SHA-256 is what is stored and looked up. A session lives for `ttl_s` after its last use, and ends at once when its
user is deleted or deactivated, because each look-up joins the users.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from datetime import datetime
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal
from uuid import UUID

import msgspec
import structlog
from uuid_utils.compat import uuid7

from adapters.postgres.vault import Attempt, Login, PgVault, User
from domain.clock import Clock
from domain.errors import AlreadyExists, Throttled, Unauthenticated
from domain.events import Metadata
from domain.ids import NIL_APP
from domain.names import claim_name, move_guard
from domain.ports import Appender
from domain.units import ABSENT, Change, Record, Unit
from domain.users import UserCreated, check_password, check_username, user_stream
from runtime.identity import Identity
from runtime.passwords import Passwords
from runtime.settings import Admin
from runtime.settings import Session as SessionSettings

MAX_FAILURES: Final = 5
FAILURE_WINDOW_S: Final = 60.0
OWNERS_GUARD: Final = "owners"

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_NOTE_USE_AFTER_S: Final = 60.0
_MAX_USER_AGENT_CHARS: Final = 256

log = structlog.get_logger(__name__)


class FirstOwner(msgspec.Struct, frozen=True):
    """The first owner as bootstrapped. `password` is there when it was generated, to be shown to people once; None when it came from the settings."""

    user_id: UUID
    username: str
    password: str | None

    def __repr__(self) -> str:
        return f"FirstOwner(user_id={self.user_id}, username={self.username!r})"


class LoggedIn(msgspec.Struct, frozen=True, kw_only=True):
    """A new session. The token is known to its bearer alone from now on."""

    token: str
    expires_at: datetime
    user: User


class Accounts:
    """Logins and sessions over the vault."""

    def __init__(self, vault: PgVault, log: Appender, settings: SessionSettings, clock: Clock) -> None:
        self._vault = vault
        self._log = log
        self._settings = settings
        self._clock = clock
        self._passwords = Passwords()
        self._note_use_after_s = min(_NOTE_USE_AFTER_S, settings.ttl_s / 4)

    async def bootstrap(self, admin: Admin, announce: Callable[[FirstOwner], None]) -> FirstOwner | None:
        """Make the first owner if there is no user; None when there is one. `announce` shows a generated password.

        Nobody is locked out by a crash, because the user comes last: first the hash is stored under a new id that nobody has yet, then the password is
        announced, then the user is appended. Dying before the last step leaves no user, so the next start begins anew with another id (and, if generated,
        another password, announced again), and removes the stray hash. Processes that start together take turns; guard and name claim decide in the log.
        """
        async with self._vault.bootstrapping() as bootstrap:
            if not await bootstrap.is_due():
                return None
            check_username(admin.username, "PICLOUD_ADMIN_USERNAME")
            password = check_password(admin.password.value, "PICLOUD_ADMIN_PASSWORD") if admin.password else secrets.token_urlsafe(18)
            owner = FirstOwner(uuid7(), admin.username, None if admin.password else password)
            await bootstrap.put_password(owner.user_id, await self._passwords.hash(password))
            announce(owner)
            return await self._append_owner(owner)

    async def log_in(self, username: str, password: str, *, address: str, user_agent: str) -> LoggedIn:
        """Begin a session. Raises Unauthenticated, or Throttled after five failures of this user and address within a minute, or Overloaded."""
        username_key, network = username.casefold(), _network(address)
        async with self._passwords.turn(), self._vault.attempt(username_key, network) as attempt:
            verdict = await self._judge(attempt, password)
        if isinstance(verdict, float):
            log.warning("login_throttled", address=address)
            raise Throttled("too many failed logins; try again later", code="too_many_logins", retry_after_s=verdict)
        if verdict is None:
            log.warning("login_failed", address=address)
            raise Unauthenticated("wrong username or password", code="wrong_credentials")
        if self._passwords.is_outdated(verdict.password_hash):
            await self._vault.replace_password(verdict.user.id, verdict.password_hash, await self._passwords.hash(password))
        return await self._begin(verdict.user, address, user_agent)

    async def authenticate(self, token: str) -> Identity | None:
        """Whose token this is, by one query; None when it is nobody's (any more). Notes the use, at most once a minute."""
        if _TOKEN.fullmatch(token) is None:
            return None
        token_hash = _digest(token)
        session = await self._vault.find_session(token_hash, self._note_use_after_s)
        if session is None:
            return None
        expires_at = session.expires_at
        if session.unseen:
            moved = await self._vault.extend_session(token_hash, self._settings.ttl_s)
            if moved is None:
                return None
            expires_at = moved
        return Identity(
            principal=session.principal,
            user=session.user,
            session_id=session.id,
            expires_at=expires_at,
            extended=session.unseen,
        )

    async def log_out(self, token: str) -> None:
        """End a token's session. Idempotent."""
        await self._vault.delete_session(_digest(token))

    async def sweep(self) -> None:
        """Remove expired sessions and old failures: for a periodic job."""
        await self._vault.sweep(FAILURE_WINDOW_S)

    async def _append_owner(self, owner: FirstOwner) -> FirstOwner | None:
        role: Literal["owner"] = "owner"
        created = UserCreated(user_id=owner.user_id, username=owner.username, instance_role=role)
        unit_id = uuid7()
        unit = Unit(
            app_id=NIL_APP,
            metadata=Metadata(unit_id=unit_id, correlation_id=unit_id),
            now=self._clock(),
            changes=(
                move_guard(OWNERS_GUARD, 0),
                claim_name("user", owner.username, owner.user_id),
                Change(Record(name=user_stream(owner.user_id), event=created), ABSENT),
            ),
        )
        try:
            await self._log.append(unit)
        except AlreadyExists:
            return None
        log.info("first_owner_created", user_id=str(owner.user_id), username=owner.username)
        return owner

    async def _judge(self, attempt: Attempt, password: str) -> Login | float | None:
        """The login; or how many seconds to wait; or None for wrong credentials."""
        wait_s = await attempt.throttled_s(FAILURE_WINDOW_S, MAX_FAILURES)
        if wait_s is not None:
            return wait_s
        login = await attempt.find_login()
        if await self._passwords.verify(login.password_hash if login else None, password) and login is not None:
            await attempt.succeeded()
            return login
        await attempt.failed()
        return None

    async def _begin(self, user: User, address: str, user_agent: str) -> LoggedIn:
        token = secrets.token_urlsafe(32)
        agent = user_agent[:_MAX_USER_AGENT_CHARS]
        expires_at = await self._vault.create_session(_digest(token), uuid7(), user.id, self._settings.ttl_s, address, agent)
        return LoggedIn(token=token, expires_at=expires_at, user=user)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _network(address: str) -> str:
    """What failures are counted by: an IPv4 address, the /64 of an IPv6 one (its holder has all of it), else the text as it is."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return str(getattr(found, "ipv4_mapped", None) or found)
