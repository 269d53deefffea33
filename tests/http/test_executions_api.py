from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import anyio
import httpx
import pytest
from uuid_utils.compat import uuid7

from domain.events import Event, Metadata
from domain.executions import ExecutionFailed, ExecutionSucceeded, Task, execution_stream
from domain.sandbox import LogLine, ScriptError
from domain.units import Change, Record, Unit
from runtime.records import Record as RunRecord
from runtime.records import Records
from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, make_app, make_script, refused
from web.core import Core

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)


def run(app: str, script: str, execution_id: UUID, **more: Any) -> RunRecord:
    """A run as the executor records it."""
    fields: dict[str, Any] = {
        "source": "http",
        "trigger_id": None,
        "attempt": 1,
        "outcome": "returned",
        "status": 200,
        "duration_ms": 2.5,
        "request_id": "r-1",
        "actor": "public",
        "correlation_id": execution_id,
        "depth": 0,
        "first_position": None,
        "last_position": None,
        "error": None,
        "logs": (LogLine("info", "hello", {"n": 1}),),
        "journal": None,
    }
    return RunRecord(app_id=UUID(app), started_at=NOW, execution_id=execution_id, script_id=UUID(script), script_version=1, **(fields | more))


async def write(core: Core, *records: RunRecord) -> None:
    """Write records as the background task does."""
    await Records(core.reader, core.clock)._write(list(records))


async def end(core: Core, app: str, event: Event, execution_id: UUID) -> None:
    """Append an outcome."""
    change = Change(Record(name=execution_stream(execution_id), event=event))
    await core.appender.append(Unit(app_id=UUID(app), metadata=Metadata(unit_id=uuid7(), correlation_id=execution_id), now=NOW, changes=(change,)))


def succeeded(task: Task) -> ExecutionSucceeded:
    return ExecutionSucceeded(task=task, script_version=1, attempt=1, started_at=NOW, duration_ms=1.0)


def failed(task: Task) -> ExecutionFailed:
    error = ScriptError(type="ValueError", message="no")
    return ExecutionFailed(
        task=task,
        attempt=1,
        reason="raised",
        error=error,
        first_attempt_at=NOW,
        started_at=NOW,
        duration_ms=1.0,
        retry_at=NOW + timedelta(hours=1),
        next_attempt=2,
    )


def task(script: str, trigger: UUID | None = None) -> Task:
    return Task(execution_id=uuid7(), source="kv" if trigger else "http", script_id=UUID(script), trigger_id=trigger, cause_position=1)


async def test_executions_are_listed_newest_first_from_both_sources(owner: httpx.AsyncClient, core: Core) -> None:
    app = await make_app(owner, "one")
    one, two = await make_script(owner, app), await make_script(owner, app, "two")
    trigger = uuid7()
    done, again = task(one), task(two, trigger)
    sync, broken = uuid7(), uuid7()
    await end(core, app, succeeded(done), done.execution_id)
    await end(core, app, failed(again), again.execution_id)
    await write(
        core,
        run(app, one, done.execution_id),
        run(app, two, again.execution_id, source="kv", outcome="raised", trigger_id=trigger),
        run(app, one, sync),
        run(app, two, broken, outcome="timed_out", status=None),
    )
    listing = f"{API}/apps/{app}/executions"
    everything = (await owner.get(listing)).json()["items"]
    assert [(item["execution_id"], item["status"]) for item in everything] == [
        (str(broken), "failed"),
        (str(sync), "succeeded"),
        (str(again.execution_id), "retrying"),
        (str(done.execution_id), "succeeded"),
    ]
    for params, wanted in (
        ({"status": "succeeded"}, [1, 3]),
        ({"status": "failed"}, [0]),
        ({"status": "retrying"}, [2]),
        ({"status": "dead_lettered"}, []),
        ({"script": two}, [0, 2]),
        ({"trigger": str(trigger)}, [2]),
        ({"script": one, "status": "failed"}, []),
    ):
        found = (await owner.get(listing, params=params)).json()["items"]
        assert found == [everything[index] for index in wanted], params
    pages: list[Any] = []
    cursor: dict[str, str] = {}
    for _ in range(4):
        page = (await owner.get(listing, params={"limit": "1"} | cursor)).json()
        pages += page["items"]
        cursor = {"cursor": page["next_cursor"]}
    assert pages == everything
    assert cursor == {"cursor": None}


async def test_a_page_looks_only_so_far_back(owner: httpx.AsyncClient, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.admin.executions._WALK", 4)
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    rare, queued = uuid7(), [task(script) for _ in range(3)]
    ids = [uuid7() for _ in range(9)]
    for one in queued:
        await end(core, app, succeeded(one), one.execution_id)
    records = [run(app, script, execution_id) for execution_id in (*ids, *(one.execution_id for one in queued))]
    await write(core, run(app, script, rare, outcome="raised", status=None), *records)
    listing = f"{API}/apps/{app}/executions"
    for params, wanted, sizes in (
        ({"status": "failed"}, [rare], [0, 0, 0, 1]),
        ({}, [*reversed(ids), *(one.execution_id for one in reversed(queued)), rare], [4, 4, 4, 1]),
    ):
        found: list[str] = []
        seen: list[int] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await owner.get(listing, params=params | cursor)).json()
            found += [item["execution_id"] for item in page["items"]]
            seen.append(len(page["items"]))
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert (found, seen) == ([str(execution_id) for execution_id in wanted], sizes)


async def test_one_execution_shows_its_outcome_and_its_runs(owner: httpx.AsyncClient, core: Core) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    queued = task(script, uuid7())
    await end(core, app, failed(queued), queued.execution_id)
    error = ScriptError(type="ValueError", message="no")
    await write(core, run(app, script, queued.execution_id, source="kv", outcome="raised", status=None, error=error))
    found = (await owner.get(f"{API}/apps/{app}/executions/{queued.execution_id}")).json()
    assert (found["status"], found["source"], found["attempt"], found["outcome_topic"]) == ("retrying", "kv", 1, "executions.ExecutionFailed")
    assert found["outcome"]["error"]["message"] == "no"
    (only,) = found["runs"]
    assert (only["outcome"], only["status"], only["error"]["type"]) == ("raised", None, "ValueError")
    assert only["logs"] == [{"level": "info", "message": "hello", "data": {"n": 1}}]
    sync = uuid7()
    await write(core, run(app, script, sync))
    found = (await owner.get(f"{API}/apps/{app}/executions/{sync}")).json()
    assert (found["status"], found["outcome"], found["outcome_topic"], len(found["runs"])) == ("succeeded", None, None, 1)


async def test_the_logs_of_a_script_are_its_runs(owner: httpx.AsyncClient, core: Core) -> None:
    app = await make_app(owner, "one")
    script, other = await make_script(owner, app), await make_script(owner, app, "other")
    ids = sorted(uuid7() for _ in range(3))
    await write(core, *(run(app, script, execution_id) for execution_id in ids), run(app, other, uuid7()))
    first = (await owner.get(f"{API}/scripts/{script}/logs", params={"limit": 2})).json()
    assert [item["execution_id"] for item in first["items"]] == [str(ids[2]), str(ids[1])]
    assert first["items"][0]["logs"][0]["message"] == "hello"
    second = (await owner.get(f"{API}/scripts/{script}/logs", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert ([item["execution_id"] for item in second["items"]], second["next_cursor"]) == ([str(ids[0])], None)


async def test_a_real_run_leaves_its_record(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app, source="def handler(ctx):\n    log.warn('seen', {'a': 1})\n    return 1\n")
    answer = await owner.post(f"/api/v1/execute/{script}")
    assert answer.status_code == 200, answer.text
    execution = answer.headers["x-execution-id"]
    with anyio.fail_after(10):
        # Records are written behind the answer.
        while True:
            found = await owner.get(f"{API}/apps/{app}/executions/{execution}")
            if found.status_code != 404:
                break
            await anyio.sleep(0.01)
    assert found.json()["runs"][0]["logs"] == [{"level": "warn", "message": "seen", "data": {"a": 1}}]
    assert found.json()["status"] == "succeeded"


async def test_bad_requests_are_refused(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, core: Core) -> None:
    one, two = await make_app(owner, "one"), await make_app(owner, "two")
    script = await make_script(owner, one)
    execution = uuid7()
    await write(core, run(one, script, execution))
    for name, value in (("status", "x"), ("status", ""), ("script", "x"), ("trigger", "\x00"), ("limit", "201"), ("limit", "-1")):
        refused(await owner.get(f"{API}/apps/{one}/executions", params={name: value}), 422, field=name)
    for cursor in BAD_CURSORS:
        refused(await owner.get(f"{API}/apps/{one}/executions", params={"cursor": cursor}), 422, field="cursor")
    for reference in (*NO_IDS, str(execution)):
        refused(await owner.get(f"{API}/apps/{two}/executions/{reference}"), 400 if reference == "%00" else 404)
    refused(await anonymous.get(f"{API}/apps/{one}/executions"), 401)
