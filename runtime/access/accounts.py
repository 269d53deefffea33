"""Who may log in, logins and sessions.

A session's token is 32 random bytes; its SHA-256 is what is stored and looked up. A session lives for `ttl_s` after its last use, and ends at once when its
user is deleted, deactivated or gets another password, because each look-up joins the users and their session epochs.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
import structlog
from uuid_utils.compat import uuid7

from adapters.postgres.vault import PgVault, User
from domain.clock import Clock
from domain.errors import AlreadyExists, Unauthenticated
from domain.events import Metadata
from domain.ids import NIL_APP
from domain.ports import Appender, Reader
from domain.units import Unit
from domain.user_decisions import Standing, decide_creation
from domain.users import UserState, check_password, check_username
from projections.control.user_reads import read_user
from runtime.access.credentials import FAILURE_WINDOW_S, Credentials
from runtime.access.identity import Identity
from runtime.access.log import MAX_USER_AGENT_CHARS, AccessLog
from runtime.admin.writing import retried
from runtime.settings import Admin
from runtime.settings import Session as SessionSettings

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_NOTE_USE_AFTER_S: Final = 60.0
_STRAY_AFTER_S: Final = 3600.0

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

    def __init__(  # what it stands on
        self, vault: PgVault, reader: Reader, credentials: Credentials, access: AccessLog, log: Appender, settings: SessionSettings, clock: Clock
    ) -> None:
        self._vault = vault
        self._reader = reader
        self._credentials = credentials
        self._access = access
        self._log = log
        self._settings = settings
        self._clock = clock
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
            await bootstrap.put_password(owner.user_id, await self._credentials.hash(password))
            announce(owner)
            return await self._append_owner(owner)

    async def log_in(self, username: str, password: str, *, address: str, user_agent: str, request_id: str | None = None) -> LoggedIn:
        """Begin a session. Raises Unauthenticated, or Throttled after five failures of this user and address within a minute, or Overloaded."""
        login = await self._credentials.prove(username, password, address)
        return await self._begin(login.user, address, user_agent, credential_id=login.credential_id, request_id=request_id)

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
            session_epoch=session.epoch,
            expires_at=expires_at,
            extended=session.unseen,
        )

    async def log_out(self, token: str, request_id: str | None = None) -> None:
        """End a token's session. Idempotent."""
        ended = await self._vault.delete_session(_digest(token))
        if ended is not None:
            session_id, user_id = ended
            await self._access.logged_out(user_id, session_id, request_id)

    async def sweep(self) -> None:
        """Remove ended sessions, old failures and hashes of no password: for a periodic job."""
        await self._vault.sweep(FAILURE_WINDOW_S, _STRAY_AFTER_S)

    async def _append_owner(self, owner: FirstOwner) -> FirstOwner | None:
        user = UserState(
            id=owner.user_id,
            username=owner.username,
            email=None,
            instance_role="owner",
            active=True,
            credential_id=owner.user_id,
            session_epoch=0,
        )
        decided = decide_creation(Standing(actor=None, target=None, guard=0, other_owners=0), user)
        unit_id = uuid7()
        metadata = Metadata(unit_id=unit_id, correlation_id=unit_id)
        try:
            await self._log.append(Unit(app_id=NIL_APP, metadata=metadata, now=self._clock(), changes=decided.changes))
        except AlreadyExists:
            return None
        log.info("first_owner_created", user_id=str(owner.user_id), username=owner.username)
        return owner

    async def _begin(self, user: User, address: str, user_agent: str, *, credential_id: UUID | None = None, request_id: str | None = None) -> LoggedIn:
        """A session of a user who has proven who he is, by this credential. Raises Unauthenticated when he may no longer log in, or not by that.

        The log comes first and refuses a login of whom it has changed since; the session bears the epoch that he had, so that it is none in another one.
        """
        session_id, token, agent = uuid7(), secrets.token_urlsafe(32), user_agent[:MAX_USER_AGENT_CHARS]

        async def attempt() -> int:
            found = await read_user(self._reader, user.id)
            if found is None or not found.state.active or credential_id not in {None, found.state.credential_id}:
                raise Unauthenticated("wrong username or password", code="wrong_credentials")
            await self._access.logged_in(user.id, found.version, session_id, address, agent, request_id)
            return found.state.session_epoch

        epoch = await retried(attempt)
        expires_at = await self._vault.create_session(_digest(token), session_id, user.id, epoch, self._settings.ttl_s, address, agent)
        return LoggedIn(token=token, expires_at=expires_at, user=user)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
