from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from uuid_utils.compat import uuid7

from domain.dead_letters import DeadLetterResolved, dead_letter_stream
from domain.executions import ExecutionDeadLettered, execution_stream
from domain.sandbox import ScriptError
from domain.units import Change, Record, Unit
from runtime.platform import Platform
from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, make_app, make_route, make_script, nothing_changes, refused
from tests.http.test_executions_api import end, failed, succeeded, task
from tests.runtime.world import eventually

pytestmark = pytest.mark.anyio

DEAD = ScriptError(type="ValueError", message="no")


async def statistics(client: httpx.AsyncClient, app: str, **days: str) -> dict[str, Any]:
    answer = await client.get(f"{API}/apps/{app}/stats", params=days)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def caught_up(client: httpx.AsyncClient, app: str, position: int) -> dict[str, Any]:
    return await eventually(lambda: statistics(client, app), lambda found: found["as_of"]["position"] >= position)


async def dead_letter(core: Platform, app: str, script: str) -> UUID:
    its = task(script, uuid7())
    moment = datetime.now(UTC)
    fields: dict[str, Any] = {"first_attempt_at": moment, "last_attempt_at": moment, "duration_ms": 1.0}
    await end(core, app, ExecutionDeadLettered(task=its, attempts=3, reason="raised", error=DEAD, **fields), its.execution_id)
    return its.execution_id


async def test_an_app_of_which_nothing_is_known_yet(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "empty")
    found = await statistics(owner, app)
    today = datetime.now(UTC).date()
    assert found["as_of"] == {"position": 0, "recorded_at": None, "lag_events": 0}
    assert (found["from"], found["to"]) == ((today - timedelta(29)).isoformat(), today.isoformat())
    assert found["totals"] == {"events": {}, "executions": {}, "dead_letters": {}}
    assert found["sizes"] == {
        "kv": {"collections": 0, "entries": 0, "bytes": 0},
        "docs": {"collections": 0, "documents": 0, "bytes": 0},
        "files": {"collections": 0, "files": 0, "bytes": 0},
        "scripts": 0,
        "routes": 0,
        "triggers": 0,
        "topics": 0,
    }
    assert [day["day"] for day in found["days"]] == [(today - timedelta(29 - number)).isoformat() for number in range(30)]
    assert (found["scripts"], found["more_scripts"]) == ([], False)


async def test_counts_and_sizes_are_those_of_the_log(owner: httpx.AsyncClient, core: Platform, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "busy")
    script = await make_script(owner, app)
    await make_route(owner, script)
    for collection, key, value in (("a", "k", 1), ("a", "k", "long"), ("a", "l", None), ("b", "k", [1, 2])):
        assert (await owner.put(f"{API}/apps/{app}/kv/{collection}/{key}", json={"value": value})).is_success
    assert (await owner.delete(f"{API}/apps/{app}/kv/b/k")).is_success
    assert (await owner.put(f"{API}/apps/{app}/docs/d/1", json={"data": {"a": 1}})).is_success
    assert (await owner.post(f"{API}/apps/{app}/topics", json={"name": "t"})).is_success
    for event in (succeeded(task(script)), succeeded(task(script)), failed(task(script))):
        await end(core, app, event, event.task.execution_id)
    first, _ = [await dead_letter(core, app, script) for _ in range(2)]
    resolved = DeadLetterResolved(dead_letter_id=first, resolution="ignored")
    change = Change(Record(name=dead_letter_stream(first), event=resolved))
    head = await core.log.append(Unit(app_id=UUID(app), metadata=(await core.log.read(UUID(app), 0))[0].metadata, now=core.clock(), changes=(change,)))
    found = await caught_up(owner, app, head[-1].position)
    by_topic = {row["topic"]: row["count"] for row in await connection.fetch("SELECT topic, count(*) FROM events WHERE app_id = $1 GROUP BY topic", UUID(app))}
    assert found["totals"]["events"] == by_topic
    assert found["totals"]["executions"] == {"succeeded": 2, "retrying": 1, "dead_lettered": 2}
    assert found["totals"]["dead_letters"] == {"arrived": 2, "ignored": 1}
    assert found["as_of"]["lag_events"] == 0
    assert found["as_of"]["recorded_at"] is not None
    assert found["sizes"]["kv"] == {"collections": 1, "entries": 2, "bytes": len('"long"') + len("null")}
    assert found["sizes"]["docs"] == {"collections": 1, "documents": 1, "bytes": len('{"a":1}')}
    assert {kind: found["sizes"][kind] for kind in ("scripts", "routes", "triggers", "topics")} == {"scripts": 1, "routes": 1, "triggers": 0, "topics": 1}
    assert found["scripts"] == [{"script_id": script, "executions": {"succeeded": 2, "retrying": 1, "dead_lettered": 2}}]
    summed = {name: sum(day["events"].get(name, 0) for day in found["days"]) for name in by_topic}
    assert summed == by_topic
    assert not (await statistics(owner, app, **{"from": "2020-01-01", "to": "2020-01-02"}))["scripts"]


async def test_lag_is_said(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "behind")
    await make_script(owner, app)
    position = (await caught_up(owner, app, 1))["as_of"]["position"]
    async with connection.transaction():
        await connection.execute("LOCK TABLE statistics_totals IN SHARE MODE")  # the follower waits for it
        assert (await owner.put(f"{API}/apps/{app}/kv/c/k", json={"value": 1})).is_success
        behind = await statistics(owner, app)
        assert behind["as_of"]["position"] == position
        assert behind["as_of"]["lag_events"] == 1
        metrics = (await owner.get("/metrics")).text
        assert 'picloud_projection_lag_events{projection="statistics"}' in metrics
    await caught_up(owner, app, position + 1)


async def test_the_busiest_scripts_are_shown(owner: httpx.AsyncClient, core: Platform) -> None:
    app = await make_app(owner, "many")
    scripts = [str(uuid4()) for _ in range(103)]
    changes = []
    for number, script in enumerate(scripts):
        for _ in range(1 + (number > 50)):
            event = succeeded(task(script))
            changes.append(Change(Record(name=execution_stream(event.task.execution_id), event=event)))
    metadata = (await core.log.read(UUID(int=0), 0))[0].metadata
    (*_, last) = await core.log.append(Unit(app_id=UUID(app), metadata=metadata, now=core.clock(), changes=tuple(changes)))
    found = await caught_up(owner, app, last.position)
    assert found["more_scripts"]
    assert len(found["scripts"]) == 100
    counts = [each["executions"]["succeeded"] for each in found["scripts"]]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    ("days", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-13-01"}, "to"),
        ({"to": "2026-02-30"}, "to"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "from"),
        ({"from": "2026-01-01", "to": "2026-04-03"}, "from"),
        ({"from": "0001-01-01"}, "from"),
        ({"to": "0001-01-01"}, "from"),
        *(({"from": text}, "from") for text in BAD_CURSORS),
    ],
)
async def test_what_are_no_days_is_refused(owner: httpx.AsyncClient, days: dict[str, str], field: str) -> None:
    app = await make_app(owner, "days")
    refused(await owner.get(f"{API}/apps/{app}/stats", params=days), 422, "invalid", field)


async def test_days_are_bounded_and_both_are_included(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "days")
    found = await statistics(owner, app, **{"from": "2026-01-01", "to": "2026-04-02"})
    assert len(found["days"]) == 92
    assert (found["days"][0]["day"], found["days"][-1]["day"]) == ("2026-01-01", "2026-04-02")
    assert len((await statistics(owner, app, **{"from": date.max.isoformat(), "to": date.max.isoformat()}))["days"]) == 1


async def test_who_may_not_see_an_app_does_not_see_its_numbers(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "mine")
    async with nothing_changes(connection):
        refused(await anonymous.get(f"{API}/apps/{app}/stats"), 401)
        for no_id in NO_IDS:
            assert (await owner.get(f"{API}/apps/{no_id}/stats")).status_code in {400, 404}
