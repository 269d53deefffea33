from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

import asyncpg
import psutil
import pytest

from adapters.postgres.embedded import kept_running, open_embedded
from adapters.postgres.faults import DatabaseUnusable
from tests.runtime.world import eventually

pytestmark = pytest.mark.anyio

USER = """
import sys
from pathlib import Path
from adapters.postgres.embedded import open_embedded
with open_embedded(Path(sys.argv[1])) as dsn:
    print(dsn, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not tmp_path: every pytest that starts takes others' search permission from the directory above it, which the server's account needs under root."""
    with TemporaryDirectory(prefix="picloud-tests-") as path:
        yield Path(path)


@contextmanager
def other_process(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that has the same server open until its stdin closes."""
    command = [sys.executable, "-c", USER, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, next(line.strip() for line in process.stdout if line.startswith("postgresql://"))


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "pg/data/postmaster.pid").read_text().split()[0])


def is_served(data_dir: Path) -> bool:
    return (data_dir / "pg/data/postmaster.pid").exists()


def ended(pid: int) -> bool:
    try:
        psutil.Process(pid).wait(30)
    except psutil.NoSuchProcess:
        return True
    return not psutil.pid_exists(pid)


async def run(dsn: str, *statements: str) -> object:
    """The first value that the last of the statements answers."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


async def answer(dsn: str, statement: str) -> object:
    """What a statement answers, None while there is no server."""
    try:
        return await run(dsn, statement)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None


@pytest.mark.alone
async def test_stops_and_starts_again_on_its_data_within_two_seconds(data_dir: Path) -> None:
    with open_embedded(data_dir) as dsn:
        assert await run(dsn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42) RETURNING n") == 42
        pid = server_pid(data_dir)
    assert ended(pid)
    assert not is_served(data_dir)
    began = time.monotonic()
    with open_embedded(data_dir) as dsn:
        assert time.monotonic() - began < 2
        assert await run(dsn, "SELECT n FROM kept") == 42


async def test_commits_are_durable_and_nothing_listens_on_tcp(data_dir: Path) -> None:
    with open_embedded(data_dir) as dsn:
        shown = {name: await run(dsn, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "jit", "listen_addresses", "unix_socket_permissions")}
        assert shown == {"fsync": "on", "synchronous_commit": "on", "jit": "off", "listen_addresses": "", "unix_socket_permissions": "0700"}
        assert await run(dsn, "SELECT datcollate || ' ' || datlocale FROM pg_database WHERE datname = 'picloud'") == "C C.UTF-8"


async def test_a_killed_server_recovers(data_dir: Path) -> None:
    with open_embedded(data_dir) as dsn:
        await run(dsn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42) RETURNING n")
        pid = server_pid(data_dir)
        os.kill(pid, signal.SIGKILL)
        assert ended(pid)
    assert not is_served(data_dir)
    with open_embedded(data_dir) as dsn:
        assert await run(dsn, "SELECT n FROM kept") == 42


async def test_a_killed_server_is_started_again_while_it_is_kept_running(data_dir: Path) -> None:
    with open_embedded(data_dir) as dsn, kept_running(data_dir, 0.05):
        await run(dsn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42) RETURNING n")
        for _ in range(2):
            os.kill(server_pid(data_dir), signal.SIGKILL)
            assert await eventually(lambda: answer(dsn, "SELECT n FROM kept"), lambda n: n == 42) == 42
        pid = server_pid(data_dir)
    assert ended(pid)
    assert not is_served(data_dir)


async def test_a_pid_file_that_names_another_process_is_stale(data_dir: Path) -> None:
    with open_embedded(data_dir):
        pid_file = (data_dir / "pg/data/postmaster.pid").read_text()
    stale = data_dir / "pg/data/postmaster.pid"
    stale.write_text(pid_file.replace(pid_file.split()[0], str(os.getpid()), 1))
    with open_embedded(data_dir) as dsn:
        assert server_pid(data_dir) != os.getpid()
        assert await run(dsn, "SELECT 1") == 1


async def test_two_processes_share_the_server_and_the_last_one_stops_it(data_dir: Path) -> None:
    with open_embedded(data_dir) as dsn:
        pid = server_pid(data_dir)
        with other_process(data_dir) as (_, other_dsn):
            assert other_dsn == dsn
            assert server_pid(data_dir) == pid
        assert await run(dsn, "SELECT 1") == 1
    assert ended(pid)


async def test_the_second_process_stops_the_server_when_it_is_the_last(data_dir: Path) -> None:
    with open_embedded(data_dir) as dsn:
        other = other_process(data_dir)
        process, _ = other.__enter__()
    try:
        pid = server_pid(data_dir)
        assert await run(dsn, "SELECT 1") == 1
        assert process.poll() is None
    finally:
        other.__exit__(None, None, None)
    assert ended(pid)


async def test_the_server_of_a_killed_process_is_found_shared_and_stopped(data_dir: Path) -> None:
    with other_process(data_dir) as (process, dsn):
        process.kill()
    pid = server_pid(data_dir)
    with open_embedded(data_dir) as shared:
        assert shared == dsn
        assert server_pid(data_dir) == pid
        assert await run(shared, "SELECT 1") == 1
    assert ended(pid)


async def test_ctrl_c_does_not_reach_the_server(data_dir: Path) -> None:
    with open_embedded(data_dir) as dsn:
        pid = server_pid(data_dir)
        assert os.getsid(pid) != os.getsid(0)
        assert os.getpgid(pid) != os.getpgid(0)
        assert await run(dsn, "SELECT 1") == 1


async def test_a_path_too_long_for_a_socket_works(data_dir: Path) -> None:
    long = data_dir / "a directory with spaces, a quote ' and a $(name) of some length" / ("long" * 20)
    with open_embedded(long) as dsn:
        assert dsn.partition("host=")[2].startswith("%2Ftmp%2Fpicloud-")
        socket_dir = Path(unquote(dsn.partition("host=")[2]))
        assert stat.S_IMODE(os.lstat(socket_dir).st_mode) == 0o700
        assert await run(dsn, "SELECT 1") == 1
    with pytest.raises(FileNotFoundError):
        os.lstat(socket_dir)


async def test_an_interrupted_first_start_leaves_nothing_half_made(data_dir: Path) -> None:
    with open_embedded(data_dir):
        pass
    data = data_dir / "pg/data"
    (data / "PG_VERSION").unlink()
    data.rename(data_dir / "pg/data.new")
    with open_embedded(data_dir) as dsn:
        assert await run(dsn, "SELECT 1") == 1
    assert not (data_dir / "pg/data.new").exists()


def test_refuses_data_of_another_major_version(data_dir: Path) -> None:
    with open_embedded(data_dir):
        pass
    (data_dir / "pg/data/PG_VERSION").write_text("14\n")
    with pytest.raises(DatabaseUnusable, match=r"was written by PostgreSQL 14 .* pg_upgrade"), open_embedded(data_dir):
        pass


def test_says_why_a_server_does_not_start(data_dir: Path) -> None:
    with open_embedded(data_dir):
        pass
    with (data_dir / "pg/data/postgresql.conf").open("a") as configuration:
        configuration.write("max_connections = many\n")
    with pytest.raises(DatabaseUnusable, match="max_connections"), open_embedded(data_dir):
        pass


def test_refuses_a_data_directory_that_is_a_file(data_dir: Path) -> None:
    (data_dir / "data").touch()
    with pytest.raises(DatabaseUnusable, match="cannot be used for the embedded PostgreSQL"), open_embedded(data_dir / "data"):
        pass


def test_keeps_five_logs(data_dir: Path) -> None:
    with open_embedded(data_dir):
        pass
    logs = data_dir / "pg/log"
    for hour in range(8):
        (logs / f"postgres-20200101T{hour:02d}0000.log").touch()
    with open_embedded(data_dir):
        assert (logs / "postgres-20200101T070000.log").exists()
        assert not (logs / "postgres-20200101T030000.log").exists()
