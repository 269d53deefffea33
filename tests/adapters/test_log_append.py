"""Appending: order, expectations, read sets, idempotency keys, and that whoever waits gets an answer."""

from __future__ import annotations

import threading
from datetime import timedelta

import anyio
import asyncpg
import msgspec
import pytest
from uuid_utils.compat import uuid7

from adapters.postgres.log import PgLog
from adapters.postgres.mapper import StructMapper
from domain.clock import utc_now
from domain.errors import AlreadyExists, Invalid, ReadConflict, Unavailable, VersionConflict
from domain.events import Metadata
from domain.ids import NIL_APP
from domain.kv import KvExpired, KvSet
from domain.registry import EVENTS
from domain.units import ABSENT, Change, Read
from tests.adapters.log_support import appended, check_logs, delete_key, entry, increment, open_test_log, set_key, stored_values, unit

pytestmark = pytest.mark.anyio


async def test_append_returns_events_with_their_places(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        first = await log.append(unit(app, set_key("k", 1), set_key("n", 2)))
        second = await log.append(unit(app, set_key("k", 3)))
        assert [(e.position, e.stream, e.version) for e in (*first, *second)] == [(1, entry("k"), 1), (2, entry("n"), 1), (3, entry("k"), 2)]
        assert await log.read(app, 0) == [*first, *second]
        assert await log.head(app) == 3
    assert await check_logs(dsn) == {app: 3}


async def test_append_records_metadata_and_time(dsn: str) -> None:
    metadata = Metadata(
        unit_id=uuid7(), actor="key:1", correlation_id=uuid7(), causation=7, depth=2, request_id="r", execution_id=uuid7(), script_id=uuid7(), script_version=3
    )
    before = utc_now()
    async with open_test_log(dsn) as log:
        (recorded,) = await log.append(unit(uuid7(), set_key("k"), metadata=metadata))
        assert recorded.metadata == metadata
        assert await log.read(recorded.app_id, 0) == [recorded]
    # The server's clock, as this machine's, give or take what it took to read it.
    assert before - timedelta(seconds=1) <= recorded.recorded_at <= utc_now() + timedelta(seconds=1)


async def test_many_clients_make_one_gapless_log(dsn: str, connection: asyncpg.Connection) -> None:
    apps = [uuid7(), uuid7(), NIL_APP]
    async with open_test_log(dsn) as log:
        for step in range(20):
            units = [unit(apps[number % 3], increment("shared"), set_key(f"own-{number}", step)) for number in range(30)]
            assert await appended(log, *units) == ["appended"] * 30
    assert set((await check_logs(dsn)).values()) == {10 * 20 * 2}
    for app in apps:
        assert (await stored_values(connection, app))["shared"] == 200


async def test_a_unit_without_effect_appends_nothing(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        assert await log.append(unit(app, delete_key("missing"))) == ()
        assert await log.append(unit(app)) == ()
        await log.append(unit(app, set_key("k")))
        assert await log.append(unit(app, reads=[Read(entry("k"), 1), Read(entry("missing"), ABSENT)])) == ()
        with pytest.raises(ReadConflict):
            await log.append(unit(app, reads=[Read(entry("k"), 2)]))
        assert await log.head(app) == 1


async def test_expectations(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        await log.append(unit(app, set_key("k", 1), expect=ABSENT))
        with pytest.raises(AlreadyExists) as exists:
            await log.append(unit(app, set_key("k", 2), expect=ABSENT))
        assert exists.value.extra == {"stream": entry("k")}
        with pytest.raises(VersionConflict) as conflict:
            await log.append(unit(app, set_key("k", 2), expect=2))
        assert (conflict.value.extra["expected"], conflict.value.extra["found"]) == (2, 1)
        await log.append(unit(app, set_key("k", 2), expect=1))
        await log.append(unit(app, delete_key("k"), expect=2))
        with pytest.raises(VersionConflict):
            await log.append(unit(app, set_key("k", 3), expect=3))
        (again,) = await log.append(unit(app, set_key("k", 3), expect=ABSENT))
        assert again.version == 4


async def test_a_units_changes_see_the_ones_before_them(dsn: str, connection: asyncpg.Connection) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        events = await log.append(unit(app, increment("n"), Change(increment("n", 5), 1), delete_key("n"), Change(increment("n", 7), ABSENT)))
        assert [e.version for e in events] == [1, 2, 3, 4]
    assert await stored_values(connection, app) == {"n": 7}
    assert await check_logs(dsn) == {app: 4}


async def test_read_sets(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        await log.append(unit(app, set_key("read", 1)))
        await log.append(unit(app, set_key("other", 1), reads=[Read(entry("read"), 1), Read(entry("missing"), ABSENT)]))
        await log.append(unit(app, set_key("read", 2)))
        with pytest.raises(ReadConflict) as conflict:
            await log.append(unit(app, set_key("other", 2), reads=[Read(entry("read"), 1)]))
        assert conflict.value.extra == {"stream": entry("read")}
        with pytest.raises(ReadConflict):
            await log.append(unit(app, set_key("other", 2), reads=[Read(entry("read"), ABSENT)]))
        await log.append(unit(app, delete_key("read")))
        await log.append(unit(app, set_key("other", 2), reads=[Read(entry("read"), ABSENT)]))
        assert await log.head(app) == 5


async def test_expiry_is_judged_by_the_units_clock(dsn: str) -> None:
    app, now = uuid7(), utc_now()
    async with open_test_log(dsn) as log:
        await log.append(unit(app, set_key("k", 1, ttl_s=60), now=now))
        with pytest.raises(AlreadyExists):
            await log.append(unit(app, set_key("k", 2), expect=ABSENT, now=now + timedelta(seconds=59)))
        events = await log.append(unit(app, set_key("k", 2), expect=ABSENT, now=now + timedelta(seconds=60)))
        assert [type(e.event) for e in events] == [KvExpired, KvSet]
        assert isinstance(events[1].event, KvSet)
        assert events[1].event.op == "insert"


async def test_idempotency_key_answers_with_the_first_units_events(dsn: str) -> None:
    app, other = uuid7(), uuid7()
    async with open_test_log(dsn) as log:
        first = await log.append(unit(app, increment("n"), increment("n"), idempotency_key="once"))
        assert await log.append(unit(app, increment("n"), idempotency_key="once")) == first
        assert len(await log.append(unit(other, increment("n"), idempotency_key="once"))) == 1
        with pytest.raises(Invalid):
            await log.append(unit(app, set_key("t", "x"), increment("t"), idempotency_key="refused"))
        # What was refused has not used its key up.
        assert len(await log.append(unit(app, increment("n"), idempotency_key="refused"))) == 1
        assert await appended(log, *(unit(app, increment("m"), idempotency_key="in one batch") for _ in range(10))) == ["appended"] * 10
        assert await log.head(app) == 4
    async with open_test_log(dsn) as later:
        assert await later.append(unit(app, increment("n"), idempotency_key="once")) == first
    await check_logs(dsn)


async def test_closing_finishes_what_was_accepted(dsn: str) -> None:
    app = uuid7()
    outcomes: list[str] = []
    async with anyio.create_task_group() as clients, open_test_log(dsn) as log:
        await log.append(unit(app, set_key("first")))

        async def client() -> None:
            outcomes.extend(await appended(log, *(unit(app, set_key(f"k{number}")) for number in range(600))))

        clients.start_soon(client)
        await _accepted(log, 600)
    assert outcomes == ["appended"] * 600
    with pytest.raises(Unavailable):
        await log.append(unit(app, set_key("late")))
    assert await check_logs(dsn) == {app: 601}


async def test_cancelling_around_the_log_finishes_what_was_accepted(dsn: str) -> None:
    app = uuid7()
    outcomes: list[str] = []
    async with anyio.create_task_group() as clients:
        with anyio.CancelScope() as scope:
            async with open_test_log(dsn) as log:
                await log.append(unit(app, set_key("first")))

                async def client() -> None:
                    outcomes.extend(await appended(log, *(unit(app, set_key(f"k{number}")) for number in range(300))))

                clients.start_soon(client)
                await _accepted(log, 300)
                scope.cancel()
                await anyio.sleep_forever()
    assert outcomes == ["appended"] * 300
    assert await check_logs(dsn) == {app: 301}


async def test_a_cancelled_caller_takes_nobody_with_him(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        await log.append(unit(app, set_key("first")))
        async with anyio.create_task_group() as clients:
            for number in range(50):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await log.append(unit(app, set_key(f"gone{number}")))
                clients.start_soon(log.append, unit(app, set_key(f"k{number}")))
    # Whoever has gone cancels nothing: what was accepted is appended.
    assert await check_logs(dsn) == {app: 101}


async def _accepted(log: PgLog, count: int) -> None:
    """Let the loop run until this many units have been accepted at once."""
    while len(log._writer._open) < count:
        await anyio.lowlevel.checkpoint()


class _Watched(StructMapper):
    """Notes in which threads states were packed."""

    def __init__(self) -> None:
        super().__init__(EVENTS)
        self.threads: set[int] = set()

    def pack(self, state: bytes) -> bytes:
        self.threads.add(threading.get_ident())
        return super().pack(state)


@pytest.mark.parametrize(("length", "on_loop"), [(100, True), (500_000, False)])
async def test_long_states_are_packed_in_a_thread(dsn: str, length: int, on_loop: bool) -> None:  # noqa: FBT001
    app, codec = uuid7(), _Watched()
    async with open_test_log(dsn, codec=codec) as log:
        await log.append(unit(app, set_key("k", "x" * length)))
        assert (codec.threads == {threading.get_ident()}) is on_loop
        assert (await log.read(app, 0))[0].event == KvSet(op="insert", collection="c", key="k", value=msgspec.Raw(msgspec.json.encode("x" * length)))
