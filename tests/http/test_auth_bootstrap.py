from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from uuid_utils.compat import uuid7

from adapters.postgres.migrate import migrate
from domain.errors import Invalid, Unauthenticated
from domain.ids import NIL_APP
from runtime.access.accounts import FirstOwner
from runtime.access.passwords import Passwords
from runtime.database import prepare_database
from runtime.platform import open_platform
from runtime.settings import Admin, Settings
from tests.postgres import cloned
from tests.served import ROOT

pytestmark = pytest.mark.anyio

WHERE: Any = {"address": "127.0.0.1", "user_agent": "test"}


class PrinterOnFireError(Exception):
    pass


@pytest.fixture
async def dsn(server_dsn: str, template: str) -> AsyncIterator[str]:
    """A database of this test's own, without an owner yet."""
    async with cloned(server_dsn, template) as own:
        yield own


async def test_a_generated_password_is_announced_before_the_user_exists(dsn: str, connection: asyncpg.Connection) -> None:
    announced: list[FirstOwner] = []
    async with open_platform(dsn, Settings()) as core:
        owner = await core.accounts.bootstrap(Admin(), announced.append)
        assert announced == [owner]
        assert owner is not None
        assert owner.password is not None
        assert owner.password not in repr(owner)
        session = await core.accounts.log_in("admin", owner.password, **WHERE)
        assert session.user.instance_role == "owner"
        assert await core.accounts.bootstrap(Admin(), announced.append) is None, "inert once a user exists"
    assert len(announced) == 1
    assert await connection.fetchval("SELECT count(*) FROM users") == 1


async def test_dying_before_the_user_is_appended_locks_nobody_out(dsn: str, connection: asyncpg.Connection) -> None:
    lost: list[FirstOwner] = []

    def die(owner: FirstOwner) -> None:
        lost.append(owner)
        raise PrinterOnFireError

    async with open_platform(dsn, Settings()) as core:
        with pytest.raises(PrinterOnFireError):
            await core.accounts.bootstrap(Admin(), die)
        assert await connection.fetchval("SELECT count(*) FROM vault_passwords") == 1
        assert await connection.fetchval("SELECT count(*) FROM users") == 0
        owner = await core.accounts.bootstrap(Admin(), lambda _: None)
        assert owner is not None
        assert owner.password is not None
        await core.accounts.log_in("admin", owner.password, **WHERE)
        assert lost[0].password is not None
        with pytest.raises(Unauthenticated):
            await core.accounts.log_in("admin", lost[0].password, **WHERE)
    assert await connection.fetchval("SELECT count(*) FROM vault_passwords") == 1


async def test_starters_at_the_same_time_make_one_owner(dsn: str, connection: asyncpg.Connection) -> None:
    made: list[FirstOwner | None] = []
    announced: list[FirstOwner] = []
    async with open_platform(dsn, Settings()) as one, open_platform(dsn, Settings()) as other, anyio.create_task_group() as tasks:
        for core in (one, other, one, other):

            async def start(core: Any = core) -> None:
                made.append(await core.accounts.bootstrap(Admin(), announced.append))

            tasks.start_soon(start)
    assert sum(owner is not None for owner in made) == 1
    assert len(announced) == 1
    assert await connection.fetchval("SELECT count(*) FROM users") == 1


async def test_a_name_that_cannot_be_a_users_is_refused_by_its_variable(dsn: str) -> None:
    async with open_platform(dsn, Settings()) as core:
        with pytest.raises(Invalid) as refused:
            await core.accounts.bootstrap(Admin(username="not a name"), lambda _: None)
    assert refused.value.field == "PICLOUD_ADMIN_USERNAME"


async def test_sweeping_removes_only_what_has_no_effect(dsn: str, connection: asyncpg.Connection) -> None:
    async with open_platform(dsn, Settings()) as core:
        owner = await core.accounts.bootstrap(Admin(), lambda _: None)
        assert owner is not None
        assert owner.password is not None
        for _ in range(2):
            await core.accounts.log_in("admin", owner.password, **WHERE)
        with pytest.raises(Unauthenticated):
            await core.accounts.log_in("nobody", "whatever", **WHERE)
        await connection.execute("UPDATE vault_sessions SET expires_at = now() WHERE session_id = (SELECT min(session_id::text)::uuid FROM vault_sessions)")
        await connection.execute("INSERT INTO login_failures SELECT username, address, failed_at - interval '2 minutes' FROM login_failures")
        await core.accounts.sweep()
    assert await connection.fetchval("SELECT count(*) FROM vault_sessions") == 1
    assert await connection.fetchval("SELECT count(*) FROM login_failures") == 1


@pytest.fixture
def old_migrations(tmp_path: Path) -> Path:
    """Those before users had credentials."""
    for file in itertools.takewhile(lambda file: not file.name.endswith("_extend_vault.sql"), sorted((ROOT / "migrations").glob("*.sql"))):
        shutil.copy(file, tmp_path)
    return tmp_path


async def test_users_and_sessions_from_before_there_were_credentials_go_on(empty_dsn: str, old_migrations: Path) -> None:
    """Hashes were known by their user alone, and events named neither credential nor epoch."""
    await migrate(empty_dsn, old_migrations)
    user_id, token = uuid7(), "A" * 43
    state = json.dumps({"user_id": str(user_id), "username": "old", "email": None, "instance_role": "owner", "active": True}).encode()
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute("INSERT INTO log_head (app_id, position, last_recorded_at) VALUES ($1, 1, now())", NIL_APP)
    insert = "INSERT INTO events VALUES ($1, 1, $2, 1, 'users.UserCreated', $3, $4, now())"
    await connection.execute(insert, NIL_APP, f"user:{user_id}", state, json.dumps({"unit_id": str(uuid7())}))
    await connection.execute("INSERT INTO vault_passwords (user_id, hash) VALUES ($1, $2)", user_id, await Passwords().hash("a password of old"))
    session = "INSERT INTO vault_sessions VALUES ($1, $2, $3, now(), now(), now() + interval '1 hour', '', '')"
    await connection.execute(session, hashlib.sha256(token.encode()).digest(), uuid7(), user_id)
    await connection.close()

    await prepare_database(empty_dsn)
    async with open_platform(empty_dsn, Settings()) as core:
        identity = await core.accounts.authenticate(token)
        assert identity is not None
        assert identity.user.username == "old"
        assert (await core.accounts.log_in("old", "a password of old", **WHERE)).user.id == user_id
        await core.accounts.sweep()
        assert (await core.accounts.log_in("old", "a password of old", **WHERE)).user.id == user_id


async def test_what_was_noted_of_access_is_written_when_a_process_ends(dsn: str, connection: asyncpg.Connection) -> None:
    async with open_platform(dsn, Settings()) as core:
        with pytest.raises(Unauthenticated):
            await core.accounts.log_in("nobody", "whatever", **WHERE)
        core.access.key_used(uuid7(), uuid7(), "10.0.0.1")
    found = await connection.fetch("SELECT topic FROM events ORDER BY topic")
    assert [row["topic"] for row in found] == ["access.KeyUsed", "access.LoginFailed"]
