"""What the tests of the log share: opening one, making units, and checking that a database's logs are sound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import anyio
import asyncpg
import msgspec
from uuid_utils.compat import uuid7

from adapters.postgres.connect import open_pool
from adapters.postgres.judging import Codec, Project
from adapters.postgres.log import PgLog, open_log
from adapters.postgres.mapper import StructMapper
from domain.clock import Clock, utc_now
from domain.errors import PiCloudError
from domain.events import Metadata
from domain.ids import stream
from domain.judge import Rules
from domain.kv import DeleteKey, IncrementKey, KvSet, SetKey
from domain.registry import EVENTS, RULES
from domain.units import ANY, Change, Effect, Fence, Read, Unit
from projections.project import projector
from projections.registry import PROJECTIONS

PROJECT = projector(PROJECTIONS)


@asynccontextmanager
async def open_test_log(
    dsn: str, *, rules: Rules = RULES, codec: Codec | None = None, project: Project = PROJECT, clock: Clock = utc_now, poll_s: float = 0.5
) -> AsyncIterator[PgLog]:
    """A log as production opens it, with its own pool: another process, as far as the database can tell."""
    async with (
        open_pool(dsn, 4) as pool,
        open_log(dsn, pool, rules=rules, codec=codec or StructMapper(EVENTS), project=project, clock=clock, poll_s=poll_s) as log,
    ):
        yield log


@asynccontextmanager
async def open_test_logs(dsn: str, count: int) -> AsyncIterator[list[PgLog]]:
    """Several processes."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_test_log(dsn)) for _ in range(count)]


def set_key(key: str, value: Any = 1, *, ttl_s: float | None = None, collection: str = "c") -> SetKey:
    return SetKey(collection=collection, key=key, value=msgspec.Raw(msgspec.json.encode(value)), ttl_s=ttl_s)


def increment(key: str, by: int = 1, collection: str = "c") -> IncrementKey:
    return IncrementKey(collection=collection, key=key, by=by)


def delete_key(key: str, collection: str = "c") -> DeleteKey:
    return DeleteKey(collection=collection, key=key)


def entry(key: str, collection: str = "c") -> str:
    """The stream of an entry."""
    return stream("kv", collection, key)


def unit(
    app_id: UUID,
    *changes: Effect | Change,
    reads: Iterable[Read] = (),
    expect: int = ANY,
    now: datetime | None = None,
    fence: Fence | None = None,
    idempotency_key: str | None = None,
    metadata: Metadata | None = None,
) -> Unit:
    """A unit; effects that are not yet changes expect `expect`."""
    return Unit(
        app_id=app_id,
        metadata=metadata or Metadata(unit_id=uuid7(), actor="user:test"),
        now=now or utc_now(),
        changes=tuple(change if isinstance(change, Change) else Change(change, expect) for change in changes),
        reads=tuple(reads),
        fence=fence,
        idempotency_key=idempotency_key,
    )


async def appended(log: PgLog, *units: Unit) -> list[str]:
    """Append units at the same time; what became of each: `appended`, or the code of the error that refused it."""
    outcomes = [""] * len(units)

    async def client(number: int) -> None:
        try:
            await log.append(units[number])
        except PiCloudError as error:
            outcomes[number] = error.code
        else:
            outcomes[number] = "appended"

    async with anyio.create_task_group() as clients:
        for number in range(len(units)):
            clients.start_soon(client, number)
    return outcomes


async def stored_values(connection: asyncpg.Connection, app_id: UUID) -> dict[str, Any]:
    """The read model of an app's entries in collection `c`: decoded values by key."""
    rows = await connection.fetch("SELECT key, value FROM kv_entries WHERE app_id = $1 AND collection = 'c'", app_id)
    return {row["key"]: msgspec.json.decode(row["value"]) for row in rows}


async def check_logs(dsn: str, first_versions: Collection[int] = (1,)) -> dict[UUID, int]:
    """Assert that every log of a database is gapless in positions, versions and time, ends at its head, and that the entries are its fold.

    Returns the heads.
    """
    connection = await asyncpg.connect(dsn)
    try:
        heads: dict[UUID, int] = {row["app_id"]: row["position"] for row in await connection.fetch("SELECT app_id, position FROM log_head")}
        events = await connection.fetch("SELECT * FROM events ORDER BY app_id, position")
        by_app: defaultdict[UUID, list[asyncpg.Record]] = defaultdict(list)
        for row in events:
            by_app[row["app_id"]].append(row)
        assert {app_id for app_id, position in heads.items() if position} == set(by_app)
        for app_id, rows in by_app.items():
            assert [row["position"] for row in rows] == list(range(1, heads[app_id] + 1))
            _check_streams(rows, first_versions)
        entries = {
            (row["app_id"], row["collection"], row["key"]): (row["value"], row["version"], row["expires_at"], row["updated_at"])
            for row in await connection.fetch("SELECT * FROM kv_entries")
        }
        assert entries == _fold(events)
        return heads
    finally:
        await connection.close()


def _check_streams(rows: Sequence[asyncpg.Record], first_versions: Collection[int]) -> None:
    versions: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        versions[row["originator_id"]].append(row["originator_version"])
    for found in versions.values():
        assert found[0] in first_versions
        assert found == list(range(found[0], found[0] + len(found)))
    times = [row["recorded_at"] for row in rows]
    assert times == sorted(times)


def _fold(events: Sequence[asyncpg.Record]) -> dict[tuple[UUID, str, str], tuple[Any, ...]]:
    decode = StructMapper(EVENTS).decode
    folded: dict[tuple[UUID, str, str], tuple[Any, ...]] = {}
    for row in events:
        if not row["topic"].startswith("kv."):
            continue
        event: Any = decode(row["topic"], row["state"])
        place = (row["app_id"], event.collection, event.key)
        if isinstance(event, KvSet):
            folded[place] = (bytes(event.value).decode(), row["originator_version"], event.expires_at, row["recorded_at"])
        else:
            folded.pop(place, None)
    return folded
