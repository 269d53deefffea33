"""`picloud admin`, for whoever has the machine but cannot log in: a new owner, another password. Written to the log as the system's doing."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from adapters.postgres.connect import open_pool
from adapters.postgres.log import open_log
from adapters.postgres.mapper import StructMapper
from adapters.postgres.reader import PgReader
from adapters.postgres.vault import PgVault
from domain.clock import utc_now
from domain.errors import NotFound
from domain.registry import EVENTS, RULES
from projections.control.user_reads import read_user_of_name
from projections.project import projector
from projections.registry import PROJECTIONS
from runtime.access.credentials import Credentials
from runtime.access.log import AccessLog
from runtime.access.passwords import Passwords
from runtime.admin.users import NewUser, UserChange, Users
from runtime.admin.writing import Acting, AdminWriter
from runtime.database import prepare_database, require_prepared

_SYSTEM: Final = Acting("system")
_GENERATED_BYTES: Final = 18


class Management(msgspec.Struct, frozen=True):
    """An instance's users without the rest of it: other processes may serve it meanwhile."""

    reader: PgReader
    users: Users


async def create_owner(dsn: str, username: str, password: str | None) -> int:
    """Make an owner; None: with a generated password, which is printed once. Raises Invalid, or Conflict `username_taken`."""
    chosen = password or secrets.token_urlsafe(_GENERATED_BYTES)
    async with _opened(dsn) as opened:
        await opened.users.create(NewUser(username=username, password=chosen, instance_role="owner"), None, _SYSTEM)
    print(f"created the owner {username!r}")
    _show(chosen, password)
    return 0


async def reset_password(dsn: str, username: str, password: str | None) -> int:
    """Give a user another password, which ends his sessions; None: a generated one, which is printed once. Raises Invalid, NotFound.

    A user who is inactive stays so: whoever has deactivated him may not know of this.
    """
    chosen = password or secrets.token_urlsafe(_GENERATED_BYTES)
    async with _opened(dsn) as opened:
        found = await read_user_of_name(opened.reader, username)
        if found is None:
            raise NotFound(f"there is no user {username!r}; `picloud admin create-owner` makes one")
        changed = await opened.users.change(found.state.id, UserChange(password=chosen), None, _SYSTEM)
    print(f"the {changed.state.instance_role} {changed.state.username!r} has another password; all sessions have ended")
    _show(chosen, password)
    if not changed.state.active:
        print(f"NOTE: {changed.state.username!r} is inactive and cannot log in until an owner activates the account")
    return 0


@asynccontextmanager
async def _opened(dsn: str) -> AsyncIterator[Management]:
    """The users of an instance's database, which is brought to this program's version first, as serving would."""
    await require_prepared(dsn)
    await prepare_database(dsn)
    async with (
        open_pool(dsn, 2) as pool,
        open_log(dsn, pool, rules=RULES, codec=StructMapper(EVENTS), project=projector(PROJECTIONS)) as log,
    ):
        reader = PgReader(pool)
        credentials = Credentials(PgVault(pool), Passwords(), AccessLog(log, utc_now))
        yield Management(reader, Users(reader, AdminWriter(log, utc_now, _at_once), credentials))


async def _at_once(*_: object) -> None:
    """Users are asked for in the database by every process each time, so none is waited for."""


def _show(chosen: str, given: str | None) -> None:
    if given is None:
        print(f"password: {chosen}\nIt is shown this once.")
