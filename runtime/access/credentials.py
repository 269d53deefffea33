"""Passwords: who has proven to know one, and how a user gets another.

A hash is stored before the event that makes it count (see `domain.users`). Attempts of one user and address, in whatever process, take turns and are counted.
"""

from __future__ import annotations

import math
from typing import Final
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from adapters.postgres.vault import Attempt, Login, PgVault
from domain.errors import Throttled, Unauthenticated
from runtime.access.log import AccessLog
from runtime.access.networks import network_of
from runtime.access.passwords import Passwords

MAX_FAILURES: Final = 5
FAILURE_WINDOW_S: Final = 60.0

log = structlog.get_logger(__name__)


class Credentials:
    """The passwords of all users."""

    def __init__(self, vault: PgVault, passwords: Passwords, access: AccessLog) -> None:
        self._vault = vault
        self._passwords = passwords
        self._access = access

    async def prove(self, username: str, password: str, address: str, *, user_id: UUID | None = None) -> Login:
        """The active user whose name and password these are. With `user_id` it is that user's password, whatever he is called by now.

        Raises Unauthenticated, or Throttled after five failures of this name and address within a minute, or Overloaded.
        """
        async with self._passwords.turn(), self._vault.attempt(username.casefold(), network_of(address)) as attempt:
            wait_s, login, is_right = await self._judge(attempt, password, user_id)
        whose = None if login is None else login.user.id
        if wait_s is not None:
            log.warning("login_throttled", address=address)
            self._access.login_throttled(whose, address)
            raise Throttled(f"too many failed logins; try again in {max(1, math.ceil(wait_s))} s", code="too_many_logins", retry_after_s=wait_s)
        if login is None or not is_right:
            log.warning("login_failed", address=address)
            self._access.login_failed(whose, address)
            raise Unauthenticated("wrong username or password", code="wrong_credentials")
        if self._passwords.is_outdated(login.password_hash):
            await self._vault.replace_password(login.user.id, login.password_hash, await self._passwords.hash(password))
        return login

    async def hash(self, password: str) -> str:
        """A hash to store. Raises Overloaded."""
        return await self._passwords.hash(password)

    async def store(self, user_id: UUID, password: str) -> UUID:
        """Store the hash of a password that a user is about to have; the id for the event that makes it count. Raises Overloaded."""
        credential_id: UUID = uuid7()
        await self._vault.put_password(user_id, credential_id, await self._passwords.hash(password))
        return credential_id

    async def forget(self, user_id: UUID, credential_id: UUID | None) -> None:
        """Remove the hash of a password that a user does not have (any more); None: he is gone, with all of them."""
        await self._vault.drop_passwords(user_id, credential_id)

    async def _judge(self, attempt: Attempt, password: str, user_id: UUID | None) -> tuple[float | None, Login | None, bool]:
        """How long to wait, if that is so; whose name it is, if anybody's; whether the password is his and he may log in."""
        login = await attempt.find_login(user_id)
        wait_s = await attempt.throttled_s(FAILURE_WINDOW_S, MAX_FAILURES)
        if wait_s is not None:
            return wait_s, login, False
        is_right = await self._passwords.verify(login.password_hash if login else None, password) and login is not None and login.active
        await (attempt.succeeded() if is_right else attempt.failed())
        return None, login, is_right
