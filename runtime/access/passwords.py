"""Password hashes: argon2id, computed in threads, a few at one time."""

from __future__ import annotations

import os
from base64 import b64encode
from typing import Final

import anyio
import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from domain.errors import Overloaded

MAX_AT_ONCE: Final = 2
MAX_WAITING: Final = 64


class Passwords:
    """Hashes and verifies. A hash takes 64 MiB and some 50 ms of a core (RFC 9106, second recommended option), so only a few are computed at one time."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = anyio.Semaphore(MAX_AT_ONCE)
        self._dummy = _unmatchable(self._hasher)

    async def hash(self, password: str) -> str:
        """A new hash with its own salt. Raises Overloaded when too many are waiting."""
        async with self.turn():
            return await anyio.to_thread.run_sync(self._hasher.hash, password)

    def turn(self) -> anyio.Semaphore:
        """Hold this around `verify`. Raises Overloaded when too many are waiting."""
        if self._turns.statistics().tasks_waiting >= MAX_WAITING:
            raise Overloaded("too many logins are waiting", retry_after_s=1.0)
        return self._turns

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether a password is that of a stored hash. Without a hash it takes as long and is never right."""
        return await anyio.to_thread.run_sync(self._verify, stored or self._dummy, password)

    def is_outdated(self, stored: str) -> bool:
        """Whether a stored hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def _unmatchable(hasher: PasswordHasher) -> str:
    """A hash in today's parameters whose digest is random: no password has it."""
    salt, digest = (b64encode(os.urandom(size)).decode().rstrip("=") for size in (hasher.salt_len, hasher.hash_len))
    return f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}${salt}${digest}"
