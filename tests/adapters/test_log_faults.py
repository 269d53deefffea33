"""Faults: connections cut in the middle of a commit, backends terminated under load, the server killed. Nothing acknowledged is lost, nothing happens twice."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import anyio
import asyncpg
import pytest
import structlog
from uuid_utils.compat import uuid7

from adapters.postgres import lane, postmaster, turns, writer
from adapters.postgres.account import server_account
from adapters.postgres.batch import Batch, EventColumns, HeadMove
from adapters.postgres.embedded import open_embedded
from adapters.postgres.lane import Lane, NotCommitted
from adapters.postgres.log import PgLog
from domain.clock import utc_now
from domain.errors import PiCloudError
from runtime.database import prepare_database
from tests.adapters.log_support import check_logs, increment, open_test_log, set_key, stored_values, unit
from tests.adapters.proxy import Proxy, open_proxy

pytestmark = pytest.mark.anyio


@pytest.fixture
async def cut_log(dsn: str) -> AsyncIterator[tuple[Proxy, PgLog]]:
    """A log behind a proxy, with a connection that has committed already."""
    with tempfile.TemporaryDirectory() as directory:
        async with open_proxy(dsn, Path(directory)) as (proxy, through), open_test_log(through) as log:
            yield proxy, log


async def _warm(log: PgLog, app: UUID) -> None:
    await log.append(unit(app, increment("n")))
    await log.append(unit(app, increment("n")))


async def test_a_commit_whose_answer_is_lost_is_looked_up(dsn: str, connection: asyncpg.Connection, cut_log: tuple[Proxy, PgLog]) -> None:
    proxy, log = cut_log
    app = uuid7()
    await _warm(log, app)
    seen: list[int] = []
    log.on_commit(lambda events, _: seen.extend(recorded.position for recorded in events))
    proxy.cut("answer")
    (recorded,) = await log.append(unit(app, increment("n")))
    assert (recorded.position, proxy.cuts, log.looked_up) == (3, 1, 1)
    assert await log.read(app, 2) == [recorded]
    assert seen == [3]
    # Its caches are good for more, and so is the next connection.
    await log.append(unit(app, increment("n")))
    assert await stored_values(connection, app) == {"n": 4}
    assert await check_logs(dsn) == {app: 4}


async def test_a_commit_that_never_arrived_is_made_again(dsn: str, connection: asyncpg.Connection, cut_log: tuple[Proxy, PgLog]) -> None:
    proxy, log = cut_log
    app = uuid7()
    await _warm(log, app)
    proxy.cut("request")
    (recorded,) = await log.append(unit(app, increment("n")))
    assert (recorded.position, proxy.cuts, log.looked_up) == (3, 1, 1)
    assert await stored_values(connection, app) == {"n": 3}
    assert await check_logs(dsn) == {app: 3}


async def test_a_commit_that_arrives_late_finds_its_head_burnt(dsn: str, connection: asyncpg.Connection) -> None:
    app = uuid7()
    await connection.execute("INSERT INTO log_head (app_id) VALUES ($1)", app)
    with tempfile.TemporaryDirectory() as directory:
        async with open_proxy(dsn, Path(directory)) as (proxy, through):
            cut_lane = Lane(through)
            await cut_lane.commit(_batch(app, 0))
            proxy.cut("late")
            with pytest.raises(NotCommitted):
                await cut_lane.commit(_batch(app, 1))
            proxy.deliver()
            with anyio.fail_after(5):
                assert b"head moved" in await proxy.late_said
            await cut_lane.close()
    assert await check_logs(dsn) == {app: 1}


async def test_an_answer_lost_while_apps_take_turns(dsn: str, connection: asyncpg.Connection, cut_log: tuple[Proxy, PgLog]) -> None:
    """Another process writes too; with the connection goes the turn."""
    proxy, log = cut_log
    app = uuid7()
    async with open_test_log(dsn) as other:
        for _ in range(3):
            await log.append(unit(app, increment("n")))
            await other.append(unit(app, increment("n")))
        assert log._writer._turns.has(app)
        for what in ("answer", "request"):
            proxy.cut(what)
            await log.append(unit(app, increment("n")))
            await other.append(unit(app, increment("n")))
    assert proxy.cuts == 2
    assert await stored_values(connection, app) == {"n": 10}
    assert await check_logs(dsn) == {app: 10}


async def test_every_commit_cut_under_load(dsn: str, connection: asyncpg.Connection, cut_log: tuple[Proxy, PgLog]) -> None:
    proxy, log = cut_log
    app = uuid7()
    await _warm(log, app)
    proxy.cut("answer", times=5)
    async with anyio.create_task_group() as clients:
        for number in range(20):
            clients.start_soon(_increments, log, app, number, 10)
    assert proxy.cuts == 5
    assert (await stored_values(connection, app))["n"] == 202
    await check_logs(dsn)


async def test_backends_terminated_under_load(dsn: str, connection: asyncpg.Connection) -> None:
    """Two processes on two apps; a backend in the middle of something is terminated whenever some more units have come through."""
    apps = [uuid7(), uuid7()]
    acknowledged = _Acknowledged()
    with structlog.testing.capture_logs():
        async with open_test_log(dsn) as one, open_test_log(dsn) as other, anyio.create_task_group() as clients:
            for number in range(24):
                clients.start_soon(_increments, (one, other)[number % 2], apps[number % 3 % 2], number, 25, acknowledged)
            for _ in range(10):
                await acknowledged.more(40)
                await connection.execute(_TERMINATE_ONE)
    values = [await stored_values(connection, app) for app in apps]
    assert values[0]["n"] + values[1]["n"] == 24 * 25
    assert {f"own-{number}": 24 for number in range(24)} == {key: value for found in values for key, value in found.items() if key != "n"}
    await check_logs(dsn)


async def test_server_killed_under_load() -> None:
    """A server of the test's own goes down in immediate mode, twice, and comes back."""
    app = uuid7()
    acknowledged = _Acknowledged()
    with tempfile.TemporaryDirectory() as directory, open_embedded(Path(directory)) as dsn, structlog.testing.capture_logs():
        await prepare_database(dsn)
        async with open_test_log(dsn) as log:
            await _warm(log, app)
            async with anyio.create_task_group() as tasks:
                for number in range(16):
                    tasks.start_soon(_write_own_keys, log, app, number, acknowledged)
                for _ in range(2):
                    await acknowledged.more(200)
                    await anyio.to_thread.run_sync(_restart, Path(directory) / "pg")
                await acknowledged.more(200)
                tasks.cancel_scope.cancel()
        heads = await check_logs(dsn)
        connection = await asyncpg.connect(dsn)
        stored = await stored_values(connection, app)
        events = await connection.fetchval("SELECT count(DISTINCT metadata ->> 'unit_id') FROM events")
        await connection.close()
    assert set(acknowledged.keys) <= set(stored)
    assert events == heads[app]


async def test_callers_are_told_when_the_database_stays_away(dsn: str, server_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GIVE_UP_AFTER_S", 0.5)
    monkeypatch.setattr(lane, "LOOK_UP_FOR_S", 0.5)
    app = uuid7()
    with structlog.testing.capture_logs():
        async with open_test_log(dsn) as log:
            await _warm(log, app)
            await _allow_connections(server_dsn, dsn, allowed=False)
            codes = set()
            for _ in range(2):
                with anyio.fail_after(5), pytest.raises(PiCloudError) as away:
                    await log.append(unit(app, increment("n")))
                codes.add(away.value.code)
            # The first may have been sent before the connection was seen to be gone.
            assert {"unavailable"} <= codes <= {"unavailable", "outcome_unknown"}
            await _allow_connections(server_dsn, dsn, allowed=True)
            with anyio.fail_after(5):
                await log.append(unit(app, increment("n")))
    assert await check_logs(dsn) == {app: 3}


@pytest.mark.alone
async def test_a_head_locked_by_somebody_else_stalls_its_own_app_alone(dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GIVE_UP_AFTER_S", 1.0)
    stuck, free = uuid7(), uuid7()
    outcomes: list[str] = []
    async with open_test_log(dsn) as log:
        for app in (stuck, free):
            await log.append(unit(app, increment("n")))
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT FROM log_head WHERE app_id = $1 FOR UPDATE", stuck)

        async def client() -> None:
            try:
                await log.append(unit(stuck, increment("n")))
            except PiCloudError as error:
                outcomes.append(error.code)

        async with anyio.create_task_group() as clients:
            clients.start_soon(client)
            with anyio.fail_after(1):
                for _ in range(50):
                    await log.append(unit(free, increment("n")))
            assert outcomes == []
        assert outcomes == ["contention"]
        await transaction.rollback()
        await log.append(unit(stuck, increment("n")))
    assert await check_logs(dsn) == {stuck: 2, free: 51}


async def test_a_locked_table_ends_in_an_answer(dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GIVE_UP_AFTER_S", 0.5)
    app = uuid7()
    async with open_test_log(dsn) as log:
        await log.append(unit(app, increment("n")))
        async with connection.transaction():
            await connection.execute("LOCK TABLE kv_entries IN ACCESS EXCLUSIVE MODE")
            with anyio.fail_after(8), pytest.raises(PiCloudError) as locked:
                await log.append(unit(app, increment("n")))
        assert locked.value.code == "contention"
        await log.append(unit(app, increment("n")))
    assert await check_logs(dsn) == {app: 2}


def test_waits_are_bounded() -> None:
    """What the module docstring of `writer` promises, in numbers."""
    assert turns.MAX_BATCH_UNITS <= writer.MAX_BATCH_UNITS
    assert writer.CLOSE_WITHIN_S <= writer.GIVE_UP_AFTER_S <= 30


def _batch(app: UUID, position: int) -> Batch:
    now, unit_id = utc_now(), uuid7()
    return Batch(
        heads=[HeadMove(app, position, 0, position + 1, now)],
        events=EventColumns([1], [position + 1], ["raw:x"], [position + 1], ["raw"], [b"{}"], [f'{{"unit_id": "{unit_id}"}}']),
        first_unit=unit_id,
    )


async def _increments(log: PgLog, app: UUID, number: int, times: int, acknowledged: _Acknowledged | None = None) -> None:
    """Increment a shared counter `times` times, each unit together with a key of this client's own."""
    for step in range(times):
        await log.append(unit(app, increment("n"), set_key(f"own-{number}", step)))
        if acknowledged is not None:
            acknowledged.add(f"{number}-{step}")


async def _write_own_keys(log: PgLog, app: UUID, number: int, acknowledged: _Acknowledged) -> None:
    """Write new keys for ever. A unit that is given up or whose outcome is unknown is just not acknowledged."""
    step = 0
    while True:
        step += 1
        key = f"{number}-{step}"
        try:
            await log.append(unit(app, set_key(key)))
        except PiCloudError:
            continue
        acknowledged.add(key)


class _Acknowledged:
    """Keys whose units were acknowledged."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._event = anyio.Event()

    def add(self, key: str) -> None:
        self.keys.append(key)
        self._event.set()

    async def more(self, count: int) -> None:
        """Wait for this many more."""
        until = len(self.keys) + count
        with anyio.fail_after(30):
            while len(self.keys) < until:
                self._event = anyio.Event()
                await self._event.wait()


_TERMINATE_ONE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'picloud' AND pid <> pg_backend_pid()
ORDER BY state = 'active' DESC, random() LIMIT 1
"""


async def _allow_connections(server_dsn: str, dsn: str, *, allowed: bool) -> None:
    name = dsn.partition("@/")[2].partition("?")[0]
    connection = await asyncpg.connect(server_dsn)
    await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")
    if not allowed:
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'picloud'", name)
    await connection.close()


def _restart(home: Path) -> None:
    running = postmaster.find(home / "data")
    assert running is not None
    running.process.send_signal(signal.SIGQUIT)
    running.process.wait(30)
    postmaster.start(home / "data", running.socket_dir, server_account())
