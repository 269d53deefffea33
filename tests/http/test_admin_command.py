"""`picloud admin`, as somebody types it who cannot log in."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from domain.errors import Unauthenticated
from runtime.platform import Platform, open_platform
from tests.http.conftest import OWNER, SETTINGS
from tests.http.users_support import make_user
from tests.served import READY_WITHIN_S, Served, command, environment, run, serve, workplace

PASSWORD = "correct horse battery"
OTHER = "staple of the horse"


@pytest.fixture
def empty() -> Iterator[Path]:
    with workplace() as directory:
        yield directory


def typed(*arguments: str, cwd: Path, text: str, **own: str) -> subprocess.CompletedProcess[str]:
    """Run `picloud` with something on its standard input."""
    line, where = command(*arguments), environment(own)
    return subprocess.run(line, cwd=cwd, env=where, input=text, capture_output=True, text=True, timeout=READY_WITHIN_S, check=False)


def log_in(served: Served, username: str, password: str) -> httpx.Response:
    return httpx.post(f"{served.url}/api/v1/admin/auth/login", json={"username": username, "password": password})


def me(served: Served, token: str) -> int:
    return httpx.get(f"{served.url}/api/v1/admin/auth/me", headers={"authorization": f"Bearer {token}"}).status_code


def test_whoever_has_lost_the_first_password_gets_in_again_served_or_not(empty: Path) -> None:
    with serve(empty, PICLOUD_ADMIN_PASSWORD=PASSWORD) as served:
        session = log_in(served, "admin", PASSWORD).json()["token"]
        ended = run("admin", "reset-password", "Admin", cwd=empty)
        assert ended.returncode == 0, ended.stderr
        generated = ended.stdout.partition("password: ")[2].split()[0]
        assert "It is shown this once." in ended.stdout
        assert generated not in ended.stderr
        assert me(served, session) == 401
        assert (log_in(served, "admin", PASSWORD).status_code, log_in(served, "admin", generated).status_code) == (401, 200)
        assert generated not in served.errors

        made = typed("admin", "create-owner", "second", "--password-stdin", cwd=empty, text=f"{OTHER}\nmore\n")
        assert (made.returncode, made.stdout) == (0, "created the owner 'second'\n"), made.stderr
        answer = log_in(served, "second", OTHER)
        assert answer.json()["user"]["instance_role"] == "owner"
        events = httpx.get(
            f"{served.url}/api/v1/admin/events", params={"actor": "system", "limit": 200}, headers={"authorization": f"Bearer {answer.json()['token']}"}
        )
        topics = [event["topic"] for event in events.json()["items"]]
        assert topics[-5:] == ["users.UserChanged", "access.PasswordChanged", "names.NameClaimed", "users.UserCreated", "guards.GuardMoved"]
        assert OTHER not in events.text
    ended = typed("admin", "reset-password", "second", "--password-stdin", cwd=empty, text=PASSWORD)
    assert ended.stdout == "the owner 'second' has another password; all sessions have ended\n", ended.stderr
    with serve(empty) as served:
        assert log_in(served, "second", PASSWORD).status_code == 200


@pytest.mark.anyio
async def test_on_a_server_of_ones_own(dsn: str, empty: Path) -> None:
    url = {"DATABASE_URL": dsn}
    made = typed("admin", "create-owner", "second", "--password-stdin", cwd=empty, text=f"{OTHER}\r\n", **url)
    assert made.returncode == 0, made.stderr
    assert run("admin", "reset-password", OWNER["username"], cwd=empty, **url).returncode == 0
    async with open_platform(dsn, SETTINGS) as core:
        await core.accounts.log_in("second", OTHER, address="", user_agent="")
        with pytest.raises(Unauthenticated):
            await core.accounts.log_in(**OWNER, address="", user_agent="")


@pytest.mark.parametrize(
    ("arguments", "text", "complaint"),
    [
        (("create-owner", "owner"), "", "username: owner belongs to another user"),
        (("create-owner", "not a name"), "", "username: 1 to 64 letters"),
        (("reset-password", "nobody"), "", "there is no user 'nobody'"),
        (("reset-password", "owner", "--password-stdin"), "short\n", "password: 8 to 1024 characters"),
        (("reset-password", "owner", "--password-stdin"), "", "password: 8 to 1024 characters"),
    ],
)
@pytest.mark.anyio
async def test_what_cannot_be_is_said_and_changes_nothing(
    dsn: str, empty: Path, connection: asyncpg.Connection, arguments: tuple[str, ...], text: str, complaint: str
) -> None:
    before = await connection.fetchval("SELECT count(*) FROM events")
    ended = typed("admin", *arguments, cwd=empty, text=text, DATABASE_URL=dsn)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"picloud: {complaint}"), ended.stderr
    assert ended.stdout == ""
    assert await connection.fetchval("SELECT count(*) FROM events") == before


@pytest.mark.anyio
async def test_an_inactive_user_stays_so_and_that_is_said(dsn: str, empty: Path, core: Platform, owner: httpx.AsyncClient) -> None:
    await make_user(owner, "ada", active=False)
    ended = typed("admin", "reset-password", "ada", "--password-stdin", cwd=empty, text=OTHER, DATABASE_URL=dsn)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "NOTE: 'ada' is inactive and cannot log in until an owner activates the account"
    with pytest.raises(Unauthenticated):
        await core.accounts.log_in("ada", OTHER, address="", user_agent="")


def test_where_there_is_no_instance_none_is_made(empty: Path) -> None:
    ended = run("admin", "create-owner", "ada", cwd=empty)
    assert (ended.returncode, ended.stderr) == (2, "picloud: PICLOUD_DATA_DIR: there is no instance in .picloud\n")
    assert list(empty.iterdir()) == []


@pytest.mark.anyio
async def test_a_database_of_something_else_is_left_alone(empty_dsn: str, empty: Path) -> None:
    ended = run("admin", "create-owner", "ada", cwd=empty, DATABASE_URL=empty_dsn)
    assert ended.returncode == 2
    assert ended.stderr == "picloud: this database holds no PiCloud instance; `picloud serve` makes one\n"
