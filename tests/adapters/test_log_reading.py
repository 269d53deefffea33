"""Reading and following."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import anyio
import asyncpg
import pytest
import structlog
from uuid_utils.compat import uuid7

from adapters.postgres import log as log_module
from adapters.postgres.filters import EventFilter, filtered_read
from adapters.postgres.hints import MAX_APPS, decode_hint, encode_hint
from adapters.postgres.log import Cause, PgLog
from domain.errors import PiCloudError
from domain.events import Metadata, Recorded
from tests.adapters.log_support import check_logs, delete_key, entry, increment, open_test_log, open_test_logs, set_key, unit

pytestmark = pytest.mark.anyio

APP = UUID(int=1)


async def test_read_pages(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        events = [recorded for n in range(10) for recorded in await log.append(unit(app, set_key(f"k{n % 3}", n)))]
        await log.append(unit(uuid7(), set_key("another app's")))
        assert await log.read(app, 0) == events
        assert await log.read(app, 3, 4) == events[3:7]
        assert await log.read(app, 3, up_to=5) == events[3:5]
        assert await log.read(app, 10) == []
        assert await log.read(uuid7(), 0) == []
        assert await log.read_stream(app, entry("k1")) == [events[1], events[4], events[7]]
        assert await log.read_stream(app, entry("k1"), up_to=5) == [events[1], events[4]]
        assert await log.read_version(app, entry("k1"), 2) == events[4]
        assert await log.read_version(app, entry("k1"), 4) is None
        assert await log.read_positions([(app, 2), (app, 9), (app, 11), (uuid7(), 2)]) == {(app, 2): events[1], (app, 9): events[8]}


async def test_read_causes(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app, other = uuid7(), uuid7()
    async with open_test_log(dsn) as log:
        first, second = [recorded for n in (1, 2) for recorded in await log.append(unit(app, set_key("k", n)))]
        (third,) = await log.append(unit(other, set_key("k", "x" * 2000)))
        known = {(app, 1): Cause(first, None), (app, 2): Cause(second, first.event), (other, 1): Cause(third, None)}
        assert await log.read_causes([(app, 1), (app, 2), (other, 1), (app, 9)]) == known
        monkeypatch.setattr(log_module, "_PAGE_BYTES", 1000)
        assert await log.read_causes([(other, 1), (app, 1)]) == {(other, 1): Cause(third, None), (app, 1): None}
        assert await log.read_causes([(app, 1), (other, 1)]) == {(app, 1): Cause(first, None), (other, 1): Cause(third, None)}


async def test_what_the_system_does_is_found_by_its_name(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        await log.append(unit(app, set_key("a"), metadata=Metadata(unit_id=uuid7(), actor="system")))
        await log.append(unit(app, set_key("b"), metadata=Metadata(unit_id=uuid7(), actor="public")))
        assert [recorded.position for recorded in await log.read_filtered(app, 0, 10, EventFilter(actor="system"))] == [1]


async def test_read_filtered(dsn: str) -> None:
    app, root = uuid7(), uuid7()
    async with open_test_log(dsn) as log:
        events: list[Recorded] = []
        for number in range(6):
            metadata = Metadata(unit_id=uuid7(), actor=f"user:{number % 2}", correlation_id=root if number < 2 else uuid7())
            events.extend(await log.append(unit(app, set_key(f"k{number % 3}", number), metadata=metadata)))
        events.extend(await log.append(unit(app, delete_key("k0"))))

        async def positions(only: EventFilter, after: int = 0, limit: int = 100) -> list[int]:
            return [recorded.position for recorded in await log.read_filtered(app, after, limit, only)]

        assert await positions(EventFilter()) == [1, 2, 3, 4, 5, 6, 7]
        assert await positions(EventFilter(), after=2, limit=2) == [3, 4]
        assert await positions(EventFilter(topics=("kv.KvDeleted",))) == [7]
        assert await positions(EventFilter(topics=())) == []
        assert await positions(EventFilter(stream=entry("k0"))) == [1, 4, 7]
        assert await positions(EventFilter(actor="user:1"), after=2) == [4, 6]
        assert await positions(EventFilter(correlation_id=str(root))) == [1, 2]
        assert await positions(EventFilter(since=events[3].recorded_at)) == [4, 5, 6, 7]
        assert await positions(EventFilter(until=events[3].recorded_at)) == [1, 2, 3]
        assert await positions(EventFilter(since=events[1].recorded_at, until=events[4].recorded_at, actor="user:0")) == [3]
        assert await positions(EventFilter(since=datetime.now(UTC) + timedelta(hours=1))) == []


async def test_position_at(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        assert await log.position_at(app, datetime.now(UTC)) == 0
        events = [recorded for n in range(33) for recorded in await log.append(unit(app, set_key("k", n)))]
        for recorded in events:
            assert await log.position_at(app, recorded.recorded_at) == recorded.position
            assert await log.position_at(app, recorded.recorded_at - timedelta(microseconds=1)) == recorded.position - 1
        assert await log.position_at(app, datetime.now(UTC) + timedelta(hours=1)) == 33


async def _plan(connection: asyncpg.Connection, sql: str, *args: object) -> str:
    return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sql}", *args))


async def test_filters_use_their_indexes(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        INSERT INTO events SELECT $1, n, 'kv:c:' || n / 4, n % 4 + 1, 'kv.KvSet', '{}', jsonb_build_object('correlation_id', n / 4, 'actor', n % 9), now()
        FROM generate_series(0, 19999) AS n
        """,
        APP,
    )
    await connection.execute("ANALYZE events")
    for only, index in {
        EventFilter(): "events_pkey",
        EventFilter(actor="a"): "events_pkey",
        EventFilter(stream="s"): "events_stream_version",
        EventFilter(correlation_id="c"): "events_correlation",
    }.items():
        statement = filtered_read(APP, 0, 10, only, above=None, up_to=None)
        assert index in await _plan(connection, statement.sql, *statement.args)


async def test_follow_catches_up_and_goes_on(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log, anyio.create_task_group() as tasks:
        for number in range(5):
            await log.append(unit(app, set_key("k", number)))
        followed: list[int] = []
        caught_up, done = anyio.Event(), anyio.Event()

        async def follow() -> None:
            async for recorded in log.follow(app, 2):
                followed.append(recorded.position)
                if recorded.position == 5:
                    caught_up.set()
                if recorded.position == 8:
                    done.set()

        tasks.start_soon(follow)
        with anyio.fail_after(5):
            await caught_up.wait()
            for number in range(3):
                await log.append(unit(app, set_key("k", number)))
            await done.wait()
        assert followed == [3, 4, 5, 6, 7, 8]
        tasks.cancel_scope.cancel()


async def _follow(log: PgLog, app: UUID, until: int, followed: list[int]) -> None:
    async for recorded in log.follow(app, 0):
        followed.append(recorded.position)
        if recorded.position == until:
            return


@pytest.mark.parametrize("notifies", [True, False], ids=["notified", "every NOTIFY lost"])
async def test_followers_in_every_process_miss_nothing(dsn: str, notifies: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    if not notifies:
        monkeypatch.setattr("adapters.postgres.wakeups.Wakeups._hinted", lambda *_: None)
    apps = [uuid7(), uuid7()]
    async with open_test_logs(dsn, 2) as logs, anyio.create_task_group() as tasks:
        followed: list[list[int]] = [[] for _ in range(4)]
        with anyio.fail_after(15):
            async with anyio.create_task_group() as followers:
                for number in range(4):
                    followers.start_soon(_follow, logs[number % 2], apps[number // 2], 200, followed[number])
                for number in range(20):
                    for process in range(2):
                        tasks.start_soon(_append_ten, logs[process], apps[number % 2])
        assert followed == [list(range(1, 201))] * 4
    await check_logs(dsn)


async def _append_ten(log: PgLog, app: UUID) -> None:
    for _ in range(10):
        await log.append(unit(app, increment("n")))


async def test_a_notify_wakes_faster_than_the_poll(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn, poll_s=60) as one, open_test_log(dsn, poll_s=60) as other:
        await _tail_ready(dsn, 2)
        seen: list[tuple[UUID, int]] = []
        own: list[tuple[UUID, int]] = []
        other.wakeups.on_foreign(lambda app_id, position: seen.append((app_id, position)))
        one.wakeups.on_foreign(lambda app_id, position: own.append((app_id, position)))
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_follow, other, app, 1, [])
                await one.append(unit(app, set_key("k")))
        assert seen == [(app, 1)]
        assert own == []


async def _tail_ready(dsn: str, count: int) -> None:
    """Wait until this many tails listen."""
    connection = await asyncpg.connect(dsn)
    listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%changed%' OR query LIKE '%last_recorded_at >=%'"
    with anyio.fail_after(5):
        while await connection.fetchval(listening) < count + 1:  # this very query is one
            await anyio.lowlevel.checkpoint()
    await connection.close()


async def test_the_tail_survives_a_lost_connection(dsn: str, connection: asyncpg.Connection) -> None:
    app = uuid7()
    with structlog.testing.capture_logs() as said:
        async with open_test_log(dsn, poll_s=0.1) as one, open_test_log(dsn, poll_s=0.1) as other:
            followed: list[int] = []
            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_follow, other, app, 30, followed)
                    for number in range(30):
                        await one.append(unit(app, set_key("k", number)))
                        if number == 10:
                            await connection.execute(
                                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%log_head%' AND pid <> pg_backend_pid()"
                            )
            assert followed == list(range(1, 31))
    assert "tail_lost_connection" in {line["event"] for line in said}
    assert await check_logs(dsn) == {app: 30}


async def test_a_gap_is_a_fault_that_no_follower_passes_over(dsn: str, connection: asyncpg.Connection) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        for number in range(3):
            await log.append(unit(app, set_key("k", number)))
        await connection.execute("ALTER TABLE events DISABLE TRIGGER events_append_only")
        await connection.execute("DELETE FROM events WHERE app_id = $1 AND position = 2", app)
        followed: list[int] = []
        with pytest.raises(PiCloudError) as damaged:
            await _follow(log, app, 3, followed)
        assert damaged.value.code == "log_damaged"
        assert followed == [1]


async def test_pages_of_followers_are_bounded_in_bytes(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_PAGE_BYTES", 1000)
    app = uuid7()
    async with open_test_log(dsn) as log:
        for _ in range(8):
            await log.append(unit(app, set_key("k", "x" * 300)))
        assert len(await log._next_page(app, 0)) == 3
        assert len(await log._next_page(app, 7)) == 1
        followed: list[int] = []
        await _follow(log, app, 8, followed)
        assert followed == list(range(1, 9))


async def test_events_cannot_be_changed(dsn: str, connection: asyncpg.Connection) -> None:
    async with open_test_log(dsn) as log:
        await log.append(unit(uuid7(), set_key("k")))
    for statement in ("UPDATE events SET topic = 'x'", "DELETE FROM events", "TRUNCATE events"):
        with pytest.raises(asyncpg.PostgresError, match="append-only"):
            await connection.execute(statement)


def test_hints() -> None:
    heads = [(uuid7(), number) for number in range(MAX_APPS)]
    payload = encode_hint("sender", heads)
    assert len(payload) < 8000
    assert decode_hint(payload) == ("sender", heads)
    assert decode_hint(encode_hint("sender", iter(()))) == ("sender", [])
    for forged in _forged():
        assert decode_hint(forged)[1] == []


def _forged() -> Iterator[str]:
    yield from ("", ";", "x", "x;y", "x;y:z", f"x;{uuid7()}", f"x;{uuid7()}:", f"x;{uuid7()}:1:2", "x;" + "," * 100)
