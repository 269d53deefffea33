"""Units that are refused: each alone, whatever else is in its batch, and nothing of them stays."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg
import pytest
import structlog
from uuid_utils.compat import uuid7

from domain.errors import FenceLost, Invalid, LogClosed
from domain.events import Metadata, Recorded
from domain.statements import Statement
from domain.units import MAX_UNIT_BYTES, MAX_UNIT_EVENTS, Fence, Read
from tests.adapters.log_support import appended, check_logs, delete_key, entry, increment, open_test_log, set_key, stored_values, unit

pytestmark = pytest.mark.anyio


async def test_refused_by_a_decider_alone(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        await log.append(unit(app, set_key("text", "no number")))
        units = [unit(app, set_key(f"beside-{n}"), increment("text") if n % 5 == 0 else increment(f"n-{n}")) for n in range(40)]
        assert await appended(log, *units) == ["not_a_number" if n % 5 == 0 else "appended" for n in range(40)]
    assert await check_logs(dsn) == {app: 1 + 32 * 2}


async def test_too_many_events_are_refused(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        assert len(await log.append(unit(app, *(increment("n") for _ in range(MAX_UNIT_EVENTS))))) == MAX_UNIT_EVENTS
        with pytest.raises(Invalid) as refused:
            await log.append(unit(app, *(increment("n") for _ in range(MAX_UNIT_EVENTS + 1))))
        assert refused.value.code == "unit_too_large"
    assert await check_logs(dsn) == {app: MAX_UNIT_EVENTS}


async def test_too_many_bytes_are_refused(dsn: str) -> None:
    app, quarter = uuid7(), "x" * (MAX_UNIT_BYTES // 4)
    async with open_test_log(dsn) as log:
        with pytest.raises(Invalid) as refused:
            await log.append(unit(app, *(set_key(f"k{n}", quarter) for n in range(4))))
        assert refused.value.code == "unit_too_large"
        assert len(await log.append(unit(app, *(set_key(f"k{n}", quarter[:-200]) for n in range(4))))) == 4
    assert await check_logs(dsn) == {app: 4}


async def test_batches_of_large_units_are_cut(dsn: str) -> None:
    app, value = uuid7(), "x" * 1_000_000
    async with open_test_log(dsn) as log:
        assert await appended(log, *(unit(app, set_key(f"k{n}", value)) for n in range(24))) == ["appended"] * 24
    assert await check_logs(dsn) == {app: 24}


@pytest.mark.parametrize("bad", ["nul\x00", "lone \ud800", "x" * 3000])
async def test_names_that_no_table_can_hold_are_refused_at_the_door(dsn: str, bad: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        with pytest.raises(Invalid) as by_stream:
            await log.append(unit(app, set_key(bad)))
        with pytest.raises(Invalid) as by_read:
            await log.append(unit(app, set_key("k"), reads=[Read(bad, 1)]))
        with pytest.raises(Invalid) as by_key:
            await log.append(unit(app, set_key("k"), idempotency_key=bad))
        assert [by_stream.value.field, by_read.value.field, by_key.value.field] == ["stream", "stream", "idempotency_key"]
        with pytest.raises(Invalid):
            await log.append(unit(app, set_key("k"), fence=Fence(uuid7(), 2**63)))
        assert await log.head(app) == 0


async def test_metadata_that_no_table_can_hold_is_refused(dsn: str) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        with pytest.raises(Invalid) as refused:
            await log.append(unit(app, set_key("k"), metadata=Metadata(unit_id=uuid7(), request_id="\x00")))
        assert refused.value.field == "request_id"


async def test_a_closed_log_takes_nothing_more(dsn: str) -> None:
    app, never_used = uuid7(), uuid7()
    async with open_test_log(dsn) as log:
        await log.append(unit(app, set_key("k")))
        for closed in (app, never_used):
            await log.close_app(closed)
            await log.close_app(closed)
            for _ in range(2):
                with pytest.raises(LogClosed):
                    await log.append(unit(closed, set_key("k")))
        assert await log.head(app) == 1
        # Another app's units in the same batch are not touched by it.
        other = uuid7()
        outcomes = await appended(log, *(unit(app if n % 2 else other, increment("n")) for n in range(20)))
        assert outcomes == ["log_closed" if n % 2 else "appended" for n in range(20)]
    await check_logs(dsn)


async def _claim(connection: asyncpg.Connection, app: UUID, execution: UUID, fence: int) -> None:
    await connection.execute(
        "INSERT INTO outbox (app_id, id, cause_position, source, script_id, due_at, attempt, worker_id, fence) VALUES ($1, $2, 1, 'kv', $3, now(), 1, $3, $4)",
        app,
        execution,
        uuid7(),
        fence,
    )


async def test_a_fence_that_holds(dsn: str, connection: asyncpg.Connection) -> None:
    app, execution = uuid7(), uuid7()
    await _claim(connection, app, execution, 5)
    async with open_test_log(dsn) as log:
        assert len(await log.append(unit(app, set_key("k"), fence=Fence(execution, 5)))) == 1


async def test_a_lost_fence_refuses_its_unit_alone(dsn: str, connection: asyncpg.Connection) -> None:
    app, held, lost, gone = uuid7(), uuid7(), uuid7(), uuid7()
    await _claim(connection, app, held, 5)
    await _claim(connection, app, lost, 6)
    fences = {"held": Fence(held, 5), "lost": Fence(lost, 5), "gone": Fence(gone, 1), "none": None}
    async with open_test_log(dsn) as log:
        await log.append(unit(app, set_key("known")))
        outcomes = await appended(log, *(unit(app, set_key(name), fence=fence) for name, fence in fences.items()))
    assert outcomes == ["appended", "fence_lost", "fence_lost", "appended"]
    assert set(await stored_values(connection, app)) == {"known", "held", "none"}


async def test_a_claim_is_spent_by_its_first_unit_in_a_batch(dsn: str, connection: asyncpg.Connection) -> None:
    app, execution = uuid7(), uuid7()
    await _claim(connection, app, execution, 5)
    async with open_test_log(dsn) as log:
        await log.append(unit(app, set_key("known")))
        outcomes = await appended(log, *(unit(app, set_key(f"k{n}"), fence=Fence(execution, 5)) for n in range(3)))
        assert outcomes == ["appended", "fence_lost", "fence_lost"]


async def test_a_zombie_that_changes_nothing_is_told_so(dsn: str, connection: asyncpg.Connection) -> None:
    app, execution = uuid7(), uuid7()
    await _claim(connection, app, execution, 5)
    async with open_test_log(dsn) as log:
        assert await log.append(unit(app, delete_key("missing"), fence=Fence(execution, 5))) == ()
        with pytest.raises(FenceLost):
            await log.append(unit(app, delete_key("missing"), fence=Fence(execution, 4)))


async def test_refused_by_postgresql_alone(dsn: str, connection: asyncpg.Connection) -> None:
    app, other = uuid7(), uuid7()
    await connection.execute("ALTER TABLE kv_entries ADD CONSTRAINT no_poison CHECK (key <> 'poison')")
    async with open_test_log(dsn) as log:
        units = [unit(app if n % 3 else other, set_key("poison" if n in {7, 23} else f"k{n}")) for n in range(40)]
        with structlog.testing.capture_logs() as said:
            outcomes = await appended(log, *units)
        assert outcomes == ["storage_refused" if n in {7, 23} else "appended" for n in range(40)]
        assert [line["event"] for line in said] == ["unit_refused"] * 2
        # The apps are back on the main lane, and it works.
        await log.append(unit(app, set_key("after")))
    assert sum((await check_logs(dsn)).values()) == 39


async def test_refused_by_a_bug_alone(dsn: str) -> None:
    app = uuid7()

    def project(events: Sequence[Recorded]) -> list[list[Statement]]:
        if any(recorded.stream == entry("bug") for recorded in events):
            msg = "a projection's bug"
            raise RuntimeError(msg)
        return []

    # timedelta cannot hold a ttl of 1e300 s, so the decider fails; the executor refuses such a ttl before.
    changes = {3: set_key("bug"), 4: set_key("k", ttl_s=1e300)}
    with structlog.testing.capture_logs() as said:
        async with open_test_log(dsn, project=project) as log:
            outcomes = await appended(log, *(unit(app, changes.get(n, set_key(f"k{n}"))) for n in range(10)))
            assert await log.head(app) == 8
    assert outcomes == [{3: "storage_refused", 4: "internal"}.get(n, "appended") for n in range(10)]
    assert {"unit_refused", "unit_could_not_be_judged"} <= {line["event"] for line in said}


async def test_refused_because_its_stream_cannot_be_decoded_alone(dsn: str, connection: asyncpg.Connection) -> None:
    app = uuid7()
    async with open_test_log(dsn) as log:
        await log.append(unit(app, set_key("k")))
    await connection.execute(
        """
        INSERT INTO events
        SELECT app_id, 2, $2, 1, 'topic.of.a.newer.program', state, metadata, recorded_at FROM events WHERE app_id = $1
        """,
        app,
        entry("newer"),
    )
    await connection.execute("UPDATE log_head SET position = 2 WHERE app_id = $1", app)
    with structlog.testing.capture_logs():
        async with open_test_log(dsn) as log:
            outcomes = await appended(log, *(unit(app, set_key(key)) for key in ("k", "newer", "x")))
    assert outcomes == ["appended", "storage_refused", "appended"]
