from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import anyio
import anyio.abc
import asyncpg
import msgspec
import pytest

from adapters.postgres.connect import connect, open_pool
from adapters.postgres.log import PgLog, open_log
from adapters.postgres.mapper import StructMapper
from adapters.postgres.projecting import Progress
from domain.events import Metadata
from domain.executions import ExecutionSucceeded, HttpRequest, HttpRequestAccepted, Task, execution_stream
from domain.globs import pattern_key
from domain.kv import DeleteKey, IncrementKey, SetKey
from domain.registry import EVENTS, RULES
from domain.retry import RetryPolicy
from domain.triggers import Trigger, TriggerSaved, trigger_stream
from domain.units import Change, Effect, Fence, Record, Unit
from projections.project import projector
from projections.registry import FOLLOWED, PROJECTIONS
from runtime.database import rebuild_projections, verify_projections

pytestmark = pytest.mark.anyio

APPS = (UUID(int=1), UUID(int=2), UUID(int=3))
ROUNDS = 3
"""Each reads a log that has doubled since the one before."""
LONGEST_MS = 5000
"""Far over what a swap costs, far under what waiting for a rebuild would."""

WRITER = """
import sys, anyio
from tests.adapters.test_projecting_swap import write_until_told
anyio.run(write_until_told, sys.argv[1], int(sys.argv[2]))
"""


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[PgLog]:
    async with (
        open_pool(dsn, 2) as pool,
        open_log(dsn, pool, rules=RULES, codec=StructMapper(EVENTS), project=projector(PROJECTIONS)) as log,
    ):
        yield log


def unit(app_id: UUID, *changes: Change | Effect) -> Unit:
    wrapped = tuple(change if isinstance(change, Change) else Change(change) for change in changes)
    return Unit(app_id=app_id, metadata=Metadata(unit_id=uuid4()), now=datetime.now(UTC), changes=wrapped)


def trigger(number: int, *, enabled: bool = True) -> Change:
    saved = Trigger(
        id=UUID(int=number),
        source="kv",
        script_id=UUID(int=9),
        enabled=enabled,
        ops=(),
        pattern=pattern_key("c*"),
        retry=RetryPolicy(),
        registrant="",
        detail={},
    )
    return Change(Record(name=trigger_stream(saved.id), event=TriggerSaved(trigger=saved)))


def accepted(execution_id: UUID) -> Change:
    request = HttpRequest(method="GET", host="", path="/", headers={}, query={}, params={}, rest=None, body=b"")
    event = HttpRequestAccepted(execution_id=execution_id, script_id=UUID(int=9), route_id=UUID(int=8), mode="async", request=request, retry=RetryPolicy())
    return Change(Record(name=execution_stream(execution_id), event=event))


def some_work(rng: random.Random) -> Unit:
    """Mostly one statement a batch; the changes of triggers with keys they match take several, in a transaction that holds the head."""
    app_id = rng.choice(APPS)
    key = f"k{rng.randrange(50)}"
    value = SetKey(collection=rng.choice("cd"), key=key, value=msgspec.Raw(b"%d" % rng.randrange(99)))
    match rng.randrange(8):
        case 0:
            return unit(app_id, trigger(rng.randrange(1, 3), enabled=rng.random() < 0.5), value)
        case 1:
            return unit(app_id, DeleteKey(collection="c", key=key))
        case 2:
            return unit(app_id, accepted(uuid4()), value)
        case 3:
            return unit(app_id, IncrementKey(collection="n", key="n", by=1), accepted(uuid4()))
        case _:
            return unit(app_id, value)


async def claim(connection: asyncpg.Connection, worker_id: UUID) -> list[Any]:
    return await connection.fetch(
        "WITH c AS MATERIALIZED (SELECT app_id, id FROM outbox WHERE worker_id IS NULL ORDER BY due_at LIMIT 3 FOR UPDATE SKIP LOCKED) "
        "UPDATE outbox o SET worker_id = $1, fence = nextval('claim_fences') FROM c WHERE o.app_id = c.app_id AND o.id = c.id RETURNING o.*",
        worker_id,
    )


def _outcome(row: Any) -> Unit:
    task = Task(execution_id=row["id"], source=row["source"], script_id=row["script_id"], trigger_id=row["trigger_id"], cause_position=row["cause_position"])
    event = ExecutionSucceeded(task=task, script_version=1, attempt=row["attempt"], started_at=datetime.now(UTC), duration_ms=0)
    done = unit(row["app_id"], Record(name=execution_stream(row["id"]), event=event))
    return msgspec.structs.replace(done, fence=Fence(row["id"], row["fence"]))


async def write_until_told(dsn: str, seed: int) -> None:
    """Append from several tasks and run the outbox until standard input ends; then print how many units were acknowledged and the longest wait in ms."""
    rng = random.Random(seed)
    stop = anyio.Event()
    units, longest = 0, 0.0

    async def write(log: PgLog) -> None:
        nonlocal units, longest
        while not stop.is_set():
            began = anyio.current_time()
            events = await log.append(some_work(rng))
            longest = max(longest, anyio.current_time() - began)
            units += 1 if events else 0

    async def run(log: PgLog, connection: asyncpg.Connection) -> None:
        """A reactor in small: claim rows, and append the outcome of each under its fence, which a swap must have carried over."""
        nonlocal units
        while not stop.is_set():
            for row in await claim(connection, UUID(int=seed)):
                await log.append(_outcome(row))
                units += 1

    claims = await connect(dsn)
    async with opened(dsn) as log, anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(write, log)
        tasks.start_soon(run, log, claims)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await anyio.to_thread.run_sync(sys.stdin.read)
        stop.set()
    await claims.close()
    sys.stdout.write(f"{units} {longest * 1000:.0f}\n")


async def _line(stream: anyio.abc.ByteReceiveStream | None) -> str:
    assert stream is not None
    text = b""
    while not text.endswith(b"\n"):
        text += await stream.receive()
    return text.decode()


async def test_rebuilding_under_load_loses_nothing(dsn: str, connection: asyncpg.Connection) -> None:
    reader = await connect(dsn)
    swapped: list[Progress] = []
    counted = 0
    async with (
        await anyio.open_process([sys.executable, "-c", WRITER, dsn, "1"], stderr=None) as first,
        await anyio.open_process([sys.executable, "-c", WRITER, dsn, "2"], stderr=None) as second,
    ):
        assert first.stdin is not None
        assert second.stdin is not None
        assert await _line(first.stdout) == await _line(second.stdout) == "ready\n"
        for _ in range(ROUNDS):
            await rebuild_projections(dsn, report=lambda step: swapped.append(step) if step.phase == "swapped" else None)
            seen = await reader.fetchval("SELECT sum(version) FROM kv_entries WHERE collection = 'n'")  # prepared once, so it has to find the new table
            assert seen is None or seen > counted
            counted = seen or 0
            findings = await verify_projections(dsn)
            assert findings.clean, findings
        await first.stdin.aclose()
        await second.stdin.aclose()
        results = [(await _line(process.stdout)).split() for process in (first, second)]
        assert await first.wait() == await second.wait() == 0
    await reader.close()
    assert len(swapped) == ROUNDS * len((*PROJECTIONS, *FOLLOWED))
    assert counted > 0
    findings = await verify_projections(dsn)
    assert findings.clean, findings
    acknowledged = sum(int(units) for units, _ in results)
    assert acknowledged == await connection.fetchval("SELECT count(DISTINCT metadata ->> 'unit_id') FROM events") > 0
    assert max(float(longest_ms) for _, longest_ms in results) < LONGEST_MS
