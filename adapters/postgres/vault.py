"""The vault: password hashes, sessions and failed logins. Never in the log, not a projection; rebuild leaves it alone.

Tokens are stored as their SHA-256: whoever reads the table cannot use what stands there. All times are the database's, so that every process agrees.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from adapters.postgres.connect import LOST, unavailable
from domain.authz import Principal
from domain.principals import user_principal
from domain.statements import load_sql
from domain.users import InstanceRole

_SQL: Final = load_sql("adapters.postgres", "vault.sql")
_BOOTSTRAP_LOCK: Final = 0x70696301
_LOGIN_LOCK: Final = 0x70696302


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user as answers show one."""

    id: UUID
    username: str
    email: str | None
    instance_role: InstanceRole


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a user name belongs to, and the hash of the password that counts. Who is not active cannot log in."""

    user: User
    active: bool
    credential_id: UUID
    password_hash: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A live session of an active user. `unseen`: its last use was noted so long ago that it is time to note this one."""

    id: UUID
    user: User
    principal: Principal
    epoch: int
    expires_at: datetime
    unseen: bool


class Attempt:
    """One attempt to log in. Others of the same user and address, in whatever process, wait until it has ended."""

    def __init__(self, connection: Any, username_key: str, address: str) -> None:
        self._connection = connection
        self._who = (username_key, address)

    async def throttled_s(self, window_s: float, failures: int) -> float | None:
        """How long to wait when there were this many failures within the window; None when there were fewer."""
        row = await self._connection.fetchrow(_SQL["recent_failures"], *self._who, window_s, failures)
        return float(row["retry_after_s"]) if row["failures"] >= failures else None

    async def find_login(self, user_id: UUID | None = None) -> Login | None:
        """The user of that name; or of this id, who may have been given another name meanwhile."""
        by_name = user_id is None
        row = await self._connection.fetchrow(_SQL["find_login" if by_name else "find_login_of"], self._who[0] if by_name else user_id)
        return None if row is None else Login(user=_user(row), active=row["active"], credential_id=row["credential_id"], password_hash=row["hash"])

    async def failed(self) -> None:
        """Count this failure."""
        await self._connection.execute(_SQL["note_failure"], *self._who)

    async def succeeded(self) -> None:
        """Forget earlier failures."""
        await self._connection.execute(_SQL["forget_failures"], *self._who)


class Bootstrap:
    """The making of the first user."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def is_due(self) -> bool:
        """Whether there is no user yet. Leftovers of a bootstrap that never ended are removed then."""
        if await self._connection.fetchval(_SQL["any_user"]):
            return False
        await self._connection.execute(_SQL["delete_stray_passwords"])
        return True

    async def put_password(self, user_id: UUID, password_hash: str) -> None:
        """Store the hash of a user who is about to exist; durable when this returns."""
        await self._connection.execute(_SQL["put_password"], user_id, user_id, password_hash)


class PgVault:
    """The vault in PostgreSQL. Everything raises Unavailable when the database is away."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def bootstrapping(self) -> AsyncIterator[Bootstrap]:
        """The right to make the first user; nobody else has it until the context ends."""
        async with self._connection() as connection:
            await connection.execute(_SQL["lock_bootstrap"], _BOOTSTRAP_LOCK)
            yield Bootstrap(connection)
            await connection.execute(_SQL["unlock_bootstrap"], _BOOTSTRAP_LOCK)

    @asynccontextmanager
    async def attempt(self, username_key: str, address: str) -> AsyncIterator[Attempt]:
        """An attempt to log in. What it has noted counts once the context ends without an error."""
        async with self._connection() as connection, connection.transaction():
            await connection.execute(_SQL["lock_login"], _LOGIN_LOCK, f"{username_key}\n{address}")
            yield Attempt(connection, username_key, address)

    async def put_password(self, user_id: UUID, credential_id: UUID, password_hash: str) -> None:
        """Store the hash of a password that a user is about to have."""
        await self._fetch(_SQL["put_password"], user_id, credential_id, password_hash)

    async def drop_passwords(self, user_id: UUID, credential_id: UUID | None) -> None:
        """Remove a hash that does not count any more, or all of a user who is gone. Idempotent."""
        await self._fetch(_SQL["drop_passwords"], user_id, credential_id)

    async def replace_password(self, user_id: UUID, old_hash: str, new_hash: str) -> None:
        """Store another hash of the same password, unless the password was changed meanwhile."""
        await self._fetch(_SQL["replace_password"], user_id, old_hash, new_hash)

    async def create_session(  # the columns of a row
        self, token_hash: bytes, session_id: UUID, user_id: UUID, epoch: int, ttl_s: float, address: str, user_agent: str
    ) -> datetime:
        """Begin a session in an epoch of its user; returns when it expires."""
        rows = await self._fetch(_SQL["create_session"], token_hash, session_id, user_id, epoch, ttl_s, address, user_agent)
        expires_at: datetime = rows[0]["expires_at"]
        return expires_at

    async def find_session(self, token_hash: bytes, unseen_after_s: float) -> Session | None:
        """The live session of a token, if its user is active and still in the epoch in which it began."""
        rows = await self._fetch(_SQL["find_session"], token_hash, unseen_after_s)
        if not rows:
            return None
        row = rows[0]
        return Session(
            id=row["session_id"],
            user=_user(row),
            principal=user_principal(dict(row)),
            epoch=row["epoch"],
            expires_at=row["expires_at"],
            unseen=row["unseen"],
        )

    async def extend_session(self, token_hash: bytes, ttl_s: float) -> datetime | None:
        """Note a use; returns when the session expires now, None when it has ended meanwhile."""
        rows = await self._fetch(_SQL["extend_session"], token_hash, ttl_s)
        return rows[0]["expires_at"] if rows else None

    async def delete_session(self, token_hash: bytes) -> tuple[UUID, UUID] | None:
        """End a session; its id and its user's, None when there is none (any more)."""
        rows = await self._fetch(_SQL["delete_session"], token_hash)
        return (rows[0]["session_id"], rows[0]["user_id"]) if rows else None

    async def sweep(self, failures_older_than_s: float, passwords_older_than_s: float) -> None:
        """Remove what has no effect any more: sessions that expired or were ended, old failures, hashes that are not of a user's password."""
        await self._fetch(_SQL["sweep_sessions"])
        await self._fetch(_SQL["sweep_failures"], failures_older_than_s)
        await self._fetch(_SQL["sweep_passwords"], passwords_older_than_s)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        """A connection for more than one statement. After an error or a cancellation it is thrown away, and with it whatever lock or transaction it was in."""
        try:
            async with self._pool.acquire() as connection:
                try:
                    yield connection
                except BaseException:
                    connection.terminate()
                    raise
        except LOST as error:
            raise unavailable(error) from error

    async def _fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        try:
            return await self._pool.fetch(sql, *args)
        except LOST as error:
            raise unavailable(error) from error


def _user(row: Any) -> User:
    return User(id=row["user_id"], username=row["username"], email=row["email"], instance_role=row["instance_role"])
