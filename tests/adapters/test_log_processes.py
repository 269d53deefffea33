"""Several processes on one database: each `open_log` has its own connections, cache and writer, so it is a process as far as the others can tell."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import anyio
import asyncpg
import pytest
import structlog
from uuid_utils.compat import uuid7

from adapters.postgres.log import PgLog
from domain.errors import AlreadyExists, LogClosed, PiCloudError, ReadConflict, VersionConflict
from domain.events import Recorded
from domain.statements import Statement
from domain.units import ABSENT, Change, Read, Unit
from tests.adapters.log_support import appended, check_logs, delete_key, entry, increment, open_test_log, open_test_logs, set_key, stored_values, unit

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("apps_per_process", [0, 1, 3], ids=["one app", "own apps", "several apps each"])
async def test_every_acknowledged_unit_is_there_exactly_once(dsn: str, connection: asyncpg.Connection, apps_per_process: int) -> None:
    shared = uuid7()
    acknowledged: set[UUID] = set()
    async with open_test_logs(dsn, 3) as logs, anyio.create_task_group() as clients:

        async def client(process: int, number: int, apps: list[UUID]) -> None:
            for step in range(15):
                appending = unit(apps[step % len(apps)], increment("n"), set_key(f"own-{process}-{number}", step))
                assert len(await logs[process].append(appending)) == 2
                acknowledged.add(appending.unit_id)

        for process in range(3):
            apps = [uuid7() for _ in range(apps_per_process)] or [shared]
            for number in range(12):
                clients.start_soon(client, process, number, apps)
    heads = await check_logs(dsn)
    assert sum(heads.values()) == 3 * 12 * 15 * 2
    units = await connection.fetch("SELECT metadata ->> 'unit_id' AS unit_id, count(*) FROM events GROUP BY 1")
    assert {UUID(row["unit_id"]): row["count"] for row in units} == dict.fromkeys(acknowledged, 2)
    assert sum([(await stored_values(connection, app))["n"] for app in heads]) == 3 * 12 * 15


async def test_conflicting_writers_lose_no_update(dsn: str, connection: asyncpg.Connection) -> None:
    """Optimistic read-modify-write from two processes: each success is counted, each loser reads again."""
    app, succeeded = uuid7(), 0
    async with open_test_logs(dsn, 2) as logs:
        await logs[0].append(unit(app, set_key("n", 0)))

        async def client(process: int) -> None:
            nonlocal succeeded
            for _ in range(10):
                while True:
                    row = await connection_of[process].fetchrow("SELECT value::integer, version FROM kv_entries WHERE app_id = $1 AND key = 'n'", app)
                    assert row is not None
                    reads = [Read(entry("n"), row["version"])]
                    try:
                        await logs[process].append(unit(app, set_key("n", row["value"] + 1), reads=reads))
                    except ReadConflict:
                        continue
                    succeeded += 1
                    break

        connection_of = [await asyncpg.connect(dsn), await asyncpg.connect(dsn)]
        with anyio.fail_after(20):
            async with anyio.create_task_group() as clients:
                for process in range(2):
                    clients.start_soon(client, process)
        for opened in connection_of:
            await opened.close()
    assert succeeded == 20
    assert await stored_values(connection, app) == {"n": 20}
    await check_logs(dsn)


async def test_a_verdict_never_rests_on_what_another_process_made_stale(dsn: str) -> None:
    """Everything here is refused, or does nothing, by what the first process remembers."""
    app = uuid7()
    async with open_test_logs(dsn, 2) as (one, other):
        await one.append(unit(app, set_key("k", 1)))
        await other.append(unit(app, set_key("k", 2)))
        # The version that the other one has written is expected here.
        await one.append(unit(app, set_key("k", 3), expect=2))
        with pytest.raises(VersionConflict):
            await other.append(unit(app, set_key("k", 4), expect=2))

        await other.append(unit(app, delete_key("k")))
        await one.append(unit(app, set_key("k", 5), expect=ABSENT))
        with pytest.raises(AlreadyExists):
            await other.append(unit(app, set_key("k", 6), expect=ABSENT))

        assert await one.append(unit(app, delete_key("x"))) == ()
        await other.append(unit(app, set_key("x")))
        assert len(await one.append(unit(app, delete_key("x")))) == 1

        await other.append(unit(app, set_key("y")))
        assert await one.append(unit(app, reads=[Read(entry("y"), 1)])) == ()
        with pytest.raises(ReadConflict):
            await one.append(unit(app, reads=[Read(entry("y"), ABSENT)]))

        await other.close_app(app)
        with pytest.raises(LogClosed):
            await one.append(unit(app, set_key("k")))
    await check_logs(dsn)


async def test_an_idempotency_key_holds_across_processes(dsn: str) -> None:
    app = uuid7()
    async with open_test_logs(dsn, 3) as logs:
        outcomes: list[tuple[int, ...]] = []

        async def client(process: int) -> None:
            key_unit = unit(app, Change(set_key("once"), ABSENT), idempotency_key="key")
            outcomes.append(tuple(recorded.position for recorded in await logs[process].append(key_unit)))

        async with anyio.create_task_group() as clients:
            for number in range(12):
                clients.start_soon(client, number % 3)
        assert outcomes == [(1,)] * 12
    assert await check_logs(dsn) == {app: 1}


async def test_a_stream_taken_for_new_that_is_not(dsn: str) -> None:
    """After many new streams the writer takes unknown ones for new; the insert tells it when one is not."""
    app = uuid7()
    async with open_test_log(dsn) as first:
        await first.append(unit(app, set_key("old", 1)))
    async with open_test_log(dsn) as log:
        for number in range(3):
            assert await appended(log, *(unit(app, set_key(f"new-{number}-{n}")) for n in range(50))) == ["appended"] * 50
        units = [unit(app, set_key("brand new")), unit(app, set_key("old", 2)), unit(app, set_key("as new"))]
        assert await appended(log, *units) == ["appended"] * 3
        with pytest.raises(AlreadyExists):
            await log.append(unit(app, set_key("old", 3), expect=ABSENT))
        events = await log.read_stream(app, entry("old"))
        assert [recorded.version for recorded in events] == [1, 2]
    assert await check_logs(dsn) == {app: 1 + 150 + 3}


async def test_a_guess_is_not_believed_where_nothing_is_appended(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as first:
        await first.append(unit(app, set_key("old", 1), set_key("text", "x")))
    async with open_test_log(dsn) as log:
        assert await appended(log, *(unit(app, set_key(f"new-{n}")) for n in range(100))) == ["appended"] * 100
        assert len(await log.append(unit(app, delete_key("old")))) == 1
        assert await appended(log, *(unit(app, set_key(f"newer-{n}")) for n in range(100))) == ["appended"] * 100
        assert await appended(log, unit(app, increment("text")), unit(app, set_key("x"))) == ["not_a_number", "appended"]
    await check_logs(dsn)


async def test_many_apps_in_one_batch_while_others_move(dsn: str) -> None:
    """A batch of many apps of which some have been moved: those are finished on their own, the rest at once."""
    apps = [uuid7() for _ in range(20)]
    async with open_test_logs(dsn, 2) as logs:
        for round_ in range(4):
            units = [unit(app, increment("n"), set_key(f"k{round_}")) for app in apps]
            outcomes: list[list[str]] = []
            async with anyio.create_task_group() as clients:
                for process in range(2):
                    clients.start_soon(_append_all, logs[process], units, outcomes)
            assert outcomes == [["appended"] * 20] * 2
    assert set((await check_logs(dsn)).values()) == {4 * 2 * 2}


async def _append_all(log: PgLog, units: Sequence[Unit], outcomes: list[list[str]]) -> None:
    outcomes.append(await appended(log, *units))


async def test_several_stages_in_a_batch(dsn: str, connection: asyncpg.Connection) -> None:
    """What a later stage of a projection writes is committed with the batch, and undone with it."""
    app = uuid7()
    await connection.execute("CREATE TABLE later (position bigint PRIMARY KEY, key text)")

    def project(events: Sequence[Recorded]) -> list[list[Statement]]:
        positions = [recorded.position for recorded in events]
        first = Statement("INSERT INTO later SELECT unnest($1::bigint[]) RETURNING 1", (positions,), counted="first")
        then = Statement("UPDATE later SET key = 'x' || 1 / (position - 3) WHERE position = ANY ($1::bigint[]) RETURNING 1", (positions,), counted="then")
        return [[first], [then]]

    counts: list[dict[str, int]] = []
    with structlog.testing.capture_logs():
        async with open_test_log(dsn, project=project) as log:
            log.on_commit(lambda _, found: counts.append(found))
            await log.append(unit(app, set_key("a"), set_key("b")))
            # Position 3 divides by zero.
            with pytest.raises(PiCloudError):
                await log.append(unit(app, set_key("c")))
            assert await log.head(app) == 2
    assert counts == [{"first": 2, "then": 2}]
    assert [row["position"] for row in await connection.fetch("SELECT position FROM later ORDER BY 1")] == [1, 2]
