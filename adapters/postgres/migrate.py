"""The schema's migrations: `NNNN_verb_object.sql` from 0001 without a gap, forward only, each applied once.

Each runs in one transaction together with its row in `schema_migrations`, under an advisory lock, so concurrent starters apply it once between them and
a killed one leaves nothing half done. The lock is the transaction's, not the session's: it works through a transaction pooler and ends with its holder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

import asyncpg
import msgspec

from adapters.postgres.faults import DatabaseUnusable

OLDEST_SERVER: Final = 15

_FILE_NAME: Final = re.compile(r"(\d{4})_[a-z0-9]+(?:_[a-z0-9]+)+\.sql")
_LOCK: Final = 0x7069636C  # "picl"
_LOCK_WAIT: Final = "300s"  # for another starter, who may have much to migrate
_LOCK_TIMEOUT: Final = "5s"  # for tables: a migration must not queue behind a long reader and everybody else behind the migration
_STATEMENT_TIMEOUT: Final = "300s"

_CREATE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number     integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


# Not to_regclass: it looks into a cache, which does not yet know of the table that another starter committed while we waited for the lock.
_EXISTS: Final = "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'schema_migrations' AND pg_table_is_visible(oid))"


class Migration(msgspec.Struct, frozen=True):
    """One file: `name` is `0001_create_log.sql`, `checksum` the SHA-256 of its bytes in hex."""

    number: int
    name: str
    checksum: str
    sql: str


def load_migrations(directory: Traversable | None = None) -> tuple[Migration, ...]:
    """Read the shipped migrations (or those of `directory`) in order. Raises ValueError for a misnamed file and for a gap."""
    files = sorted((directory or resources.files("migrations")).iterdir(), key=lambda file: file.name)
    found = tuple(_load(file) for file in files if file.name.endswith(".sql"))
    for expected, migration in enumerate(found, start=1):
        if migration.number != expected:
            raise ValueError(f"{migration.name} stands where migration {expected:04d} is expected")
    return found


async def migrate(database: str | asyncpg.Connection, directory: Traversable | None = None) -> int:
    """Bring a database (a DSN or an idle connection) to the newest schema; returns its version.

    Raises DatabaseUnusable when there is no server or it is too old, when an applied migration was edited, when one fails, and when the database is newer
    than this program. What was applied before a failing one stays.
    """
    known = load_migrations(directory)
    async with _connected(database) as connection:
        _check_server(connection)
        while _pending(known, await _applied(connection)):
            await _apply_next(connection, known)
        return len(known)


async def schema_version(connection: asyncpg.Connection) -> int:
    """The number of the last applied migration; 0 for an empty database."""
    return max(await _applied(connection), default=0)


def _load(file: Traversable) -> Migration:
    match = _FILE_NAME.fullmatch(file.name)
    if match is None:
        raise ValueError(f"{file.name} is not named NNNN_verb_object.sql")
    content = file.read_bytes()
    return Migration(int(match[1]), file.name, hashlib.sha256(content).hexdigest(), content.decode())


@asynccontextmanager
async def _connected(database: str | asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    if not isinstance(database, str):
        yield database
        return
    try:
        connection = await asyncpg.connect(database, server_settings={"application_name": "picloud-migrate"})
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnusable(f"no connection to the database: {type(error).__name__}") from error
    try:
        yield connection
    finally:
        await connection.close()


def _check_server(connection: asyncpg.Connection) -> None:
    server = connection.get_server_version()
    if server.major < OLDEST_SERVER:
        raise DatabaseUnusable(f"the database server is PostgreSQL {server.major}.{server.minor}; PiCloud needs {OLDEST_SERVER} or newer")


async def _applied(connection: asyncpg.Connection) -> dict[int, tuple[str, str]]:
    """Name and checksum of what was applied, by number."""
    if not await connection.fetchval(_EXISTS):
        return {}
    return {number: (name, checksum) for number, name, checksum in await connection.fetch("SELECT number, name, checksum FROM schema_migrations")}


def _pending(known: Sequence[Migration], applied: Mapping[int, tuple[str, str]]) -> Sequence[Migration]:
    """What is left to apply. Raises DatabaseUnusable when what was applied is not the beginning of what is known."""
    newest = max(applied, default=0)
    if newest > len(known):
        theirs, ours = applied[newest][0], known[-1].name if known else "none"
        raise DatabaseUnusable(f"the database has schema {newest} ({theirs}), newer than this PiCloud's {len(known)} ({ours}): start a newer PiCloud")
    for migration in known[:newest]:
        name, checksum = applied.get(migration.number, ("nothing", ""))
        if name != migration.name:
            raise DatabaseUnusable(f"migration {migration.number:04d} of the database is {name} and not {migration.name}: it belongs to another program")
        if checksum != migration.checksum:
            digests = f"SHA-256 {checksum[:12]} then, {migration.checksum[:12]} now"
            raise DatabaseUnusable(f"{migration.name} was edited after it had been applied ({digests}): restore it")
    return known[newest:]


async def _apply_next(connection: asyncpg.Connection, known: Sequence[Migration]) -> None:
    """Apply the first pending migration, unless another starter was faster."""
    try:
        async with connection.transaction():
            await _lock(connection)
            pending = _pending(known, await _applied(connection))
            if pending:
                await _apply(connection, pending[0])
    except asyncpg.LockNotAvailableError as error:
        raise DatabaseUnusable(f"a lock that a migration needs was not free in time: {error}") from error


async def _lock(connection: asyncpg.Connection) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'; SET LOCAL statement_timeout = '{_STATEMENT_TIMEOUT}'")
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    try:
        await connection.execute(_CREATE)
        await connection.execute(migration.sql)
        row = (migration.number, migration.name, migration.checksum)
        await connection.execute("INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)", *row)
    except asyncpg.LockNotAvailableError:
        raise
    except asyncpg.PostgresError as error:
        raise DatabaseUnusable(f"{migration.name} failed and was rolled back: {error}") from error
