"""After any history, what was followed equals a plain fold of the log, however the log was cut, and whenever a rebuild came between."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any
from unittest.mock import patch
from uuid import UUID

import anyio
import asyncpg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from adapters.postgres.mapper import StructMapper
from adapters.postgres.projecting import Follower, follow, turns
from domain.dead_letters import DeadLetterResolved
from domain.events import Event, Recorded
from domain.executions import ExecutionAbandoned, ExecutionDeadLettered, ExecutionFailed, ExecutionSkipped, ExecutionSucceeded
from domain.registry import EVENTS
from domain.schedule import ExecutionCanceled
from projections.registry import FOLLOWED
from projections.statistics import Statistics
from runtime.database import rebuild_projections, verify_projections
from runtime.metrics import Metrics
from tests.model.histories import History, Step, histories
from tests.model.outbox_model import OutboxModel
from tests.model.test_rebuild_model import FULL, live_through, opened, tampering
from tests.postgres import cloned
from tests.runtime.world import eventually

pytestmark = pytest.mark.anyio

NIL = UUID(int=0)
SAVED = {"KvSet": "kv", "DocCreated": "docs", "DocUpdated": "docs", "FileCreated": "files", "FileUpdated": "files", "ScriptSaved": "scripts"} | {
    "RouteCreated": "routes",
    "TriggerSaved": "triggers",
    "TopicSaved": "topics",
}
GONE = {"KvDeleted": "kv", "KvExpired": "kv", "DocDeleted": "docs", "FileDeleted": "files", "ScriptDeleted": "scripts"} | {
    "RouteDeleted": "routes",
    "TriggerDeleted": "triggers",
    "TopicDeleted": "topics",
}
LAG = """
SELECT coalesce(sum(h.position - coalesce(c.position, 0)), 0)
FROM log_head h LEFT JOIN projection_checkpoints c ON c.projection = 'statistics' AND c.app_id = h.app_id
"""


class Fold:
    """What the tables must hold, worked out one event at a time."""

    def __init__(self) -> None:
        self.days: Counter[tuple[Any, ...]] = Counter()
        self.items: dict[tuple[UUID, str], int] = {}
        self.kinds: dict[tuple[UUID, str], tuple[str, str]] = {}
        self.touched: set[tuple[UUID, str]] = set()

    def add(self, recorded: Recorded) -> None:
        event, app = recorded.event, recorded.app_id
        for kind, subject, name in self._counts(event):
            self.days[app, kind, recorded.recorded_at.date(), subject, name] += 1
        name = type(event).__name__
        held = SAVED.get(name) or GONE.get(name)
        if held is None:
            return
        self.touched.add((app, held))
        self.kinds[app, recorded.stream] = (held, getattr(event, "collection", ""))
        if name in GONE:
            self.items.pop((app, recorded.stream), None)
        else:
            self.items[app, recorded.stream] = self._bytes(event)

    def _counts(self, event: Event) -> list[tuple[str, UUID, str]]:
        found = [("events", NIL, event.TOPIC)]
        if isinstance(event, ExecutionSucceeded | ExecutionDeadLettered | ExecutionSkipped | ExecutionFailed):
            words = {ExecutionSucceeded: "succeeded", ExecutionDeadLettered: "dead_lettered", ExecutionSkipped: "skipped", ExecutionFailed: "failed"}
            word = "retrying" if isinstance(event, ExecutionFailed) and event.retry_at is not None else words[type(event)]
            found += [("executions", NIL, word), ("scripts", event.task.script_id, word)]
        if isinstance(event, ExecutionDeadLettered):
            found.append(("dead_letters", NIL, "arrived"))
        if isinstance(event, ExecutionAbandoned):
            found += [("executions", NIL, "abandoned"), ("scripts", event.script_id, "abandoned")]
        if isinstance(event, ExecutionCanceled):
            found.append(("executions", NIL, "canceled"))
        if isinstance(event, DeadLetterResolved):
            found.append(("dead_letters", NIL, event.resolution))
        return found

    def _bytes(self, event: Any) -> int:
        if hasattr(event, "source") and hasattr(event, "source_version"):
            return len(event.source.encode())
        value = getattr(event, "value", None) or getattr(event, "data", None)
        return len(bytes(value)) if value is not None else getattr(event, "size", 0)

    def tables(self) -> dict[str, set[tuple[Any, ...]]]:
        totals: Counter[tuple[Any, ...]] = Counter()
        for (app, kind, _, subject, name), count in self.days.items():
            totals[app, kind, subject, name] += count
        collections: Counter[tuple[UUID, str, str]] = Counter()
        held: defaultdict[tuple[UUID, str], list[int]] = defaultdict(list)
        for (app, stream), size in self.items.items():
            kind, collection = self.kinds[app, stream]
            collections[app, kind, collection] += 1
            held[app, kind].append(size)
        sizes = {(app, kind, sum(key[:2] == (app, kind) for key in collections), len(held[app, kind]), sum(held[app, kind])) for app, kind in self.touched}
        return {
            "statistics_days": {(*key, count) for key, count in self.days.items()},
            "statistics_totals": {(*key, count) for key, count in totals.items()},
            "statistics_items": {(*key, size) for key, size in self.items.items()},
            "statistics_collections": {(*key, count) for key, count in collections.items()},
            "statistics_sizes": sizes,
        }


async def expected(connection: asyncpg.Connection) -> dict[str, set[tuple[Any, ...]]]:
    """The fold of everything that is in the log."""
    fold, decode = Fold(), StructMapper(EVENTS).decode
    for row in await connection.fetch("SELECT app_id, originator_id, topic, state, recorded_at, position FROM events ORDER BY app_id, position"):
        event = decode(row["topic"], row["state"])
        rest: dict[str, Any] = {"stream": row["originator_id"], "version": 1, "metadata": None, "position": row["position"]}
        fold.add(Recorded(app_id=row["app_id"], event=event, recorded_at=row["recorded_at"], **rest))
    return fold.tables()


async def found(connection: asyncpg.Connection) -> dict[str, set[tuple[Any, ...]]]:
    return {table: {tuple(row) for row in await connection.fetch(f"SELECT * FROM {table}")} for table in Statistics.tables}


async def follow_to_the_end(dsn: str, connection: asyncpg.Connection) -> None:
    """Let a process that has heard of nothing follow until nothing is left."""
    follower = Follower(dsn, FOLLOWED[0], StructMapper(EVENTS), Metrics())
    with patch.object(follow, "_PAUSE_S", 0.0):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follower.run)
            await eventually(lambda: connection.fetchval(LAG), lambda lag: lag == 0)
            tasks.cancel_scope.cancel()


@settings(max_examples=15, phases=[Phase.explicit, Phase.reuse, Phase.generate], deadline=None)
@given(batches=histories, page=st.integers(1, 40), cut=st.integers(0, 20))
async def test_followed_equals_a_fold_of_the_log(server_dsn: str, template: str, batches: list[list[Step]], page: int, cut: int) -> None:
    async with cloned(server_dsn, template) as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            history = History(OutboxModel())
            with patch.object(turns, "MAX_EVENTS", page):
                async with opened(dsn) as log:
                    await live_through(log, batches[:cut], history)
                    await follow_to_the_end(dsn, connection)
                    await live_through(log, batches[cut:], history)
                assert (await verify_projections(dsn, ["statistics"])).clean  # at its checkpoints, which are behind
                await follow_to_the_end(dsn, connection)
            wanted = await expected(connection)
            assert await found(connection) == wanted
            await rebuild_projections(dsn, ["statistics"])
            assert await found(connection) == wanted
            assert await connection.fetchval(LAG) == 0
        finally:
            await connection.close()


async def test_verify_reports_what_was_tampered_with(dsn: str, connection: asyncpg.Connection) -> None:
    async with opened(dsn) as log:
        await live_through(log, FULL)
    await follow_to_the_end(dsn, connection)
    wanted = await expected(connection)
    assert await found(connection) == wanted
    for table in Statistics.tables:
        described: list[Any] = await connection.fetch(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0", table
        )
        keys = {"statistics_days": 5, "statistics_totals": 4, "statistics_sizes": 2, "statistics_collections": 3, "statistics_items": 2}
        names = [name for name, _ in described]
        changes = tampering(table, names, names[: keys[table]], {**dict(described), "day": "uuid"})
        for kind in ("missing", "different"):
            await connection.execute(changes[kind])
            findings = await verify_projections(dsn, ["statistics"])
            assert [(each.table, each.kind) for each in findings.differences] == [(table, kind)], findings
            assert not findings.faults
            await rebuild_projections(dsn, ["statistics"])
            assert await found(connection) == wanted
