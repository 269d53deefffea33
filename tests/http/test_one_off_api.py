"""Runs that are asked for once: accepted, listed, cancelled, refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio
import asyncpg
import httpx
import pytest

from tests.http.admin_support import API, NO_IDS, UNKNOWN_ID, make_app, make_script, nested, nothing_changes, refused, send

pytestmark = pytest.mark.anyio

ECHO = "def handler(ctx):\n    return [ctx.event.source, ctx.event.op, ctx.event.schedule.payload]\n"


def path(app: str, *parts: str) -> str:
    return "/".join([f"{API}/apps/{app}/executions", *parts])


async def ask(client: httpx.AsyncClient, app: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(path(app), json=body)
    assert answer.status_code == 202, answer.text
    accepted: dict[str, Any] = answer.json()
    return accepted


async def test_a_run_at_once(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app, source=ECHO)
    accepted = await ask(owner, app, script_id=script, payload={"n": [1, None]})
    detail: dict[str, Any] = {}
    with anyio.fail_after(20):
        while detail.get("status") != "succeeded":
            await anyio.sleep(0.02)
            detail = (await owner.get(path(app, accepted["execution_id"]))).json()
    assert (detail["source"], detail["attempt"], detail["outcome_topic"]) == ("schedule", 1, "executions.ExecutionSucceeded")


async def test_a_run_later_is_listed_and_cancelled_once(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app, source=ECHO)
    accepted = await ask(owner, app, script_id=script, run_at="2090-01-01T01:00:00+01:00")
    assert datetime.fromisoformat(accepted["run_at"]) == datetime(2090, 1, 1, tzinfo=UTC)
    listed = (await owner.get(path(app), params={"status": "scheduled"})).json()["items"]
    assert [(item["execution_id"], item["status"], item["source"]) for item in listed] == [(accepted["execution_id"], "scheduled", "schedule")]
    assert (await owner.delete(path(app, accepted["execution_id"]))).status_code == 204
    assert (await owner.get(path(app), params={"status": "scheduled"})).json()["items"] == []
    assert (await owner.get(path(app, accepted["execution_id"]))).json()["status"] == "canceled"
    refused(await owner.delete(path(app, accepted["execution_id"])), 409, "not_scheduled")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"script_id": "x"}, "$.script_id"),
    ({"script_id": UNKNOWN_ID}, "script_id"),
    ({"run_at": "tomorrow"}, "run_at"),
    ({"run_at": "2090-01-01T00:00:00"}, "run_at"),
    ({"run_at": "2090-13-01T00:00:00Z"}, "run_at"),
    ({"run_at": 5}, "$.run_at"),
    ({"payload": "a\x00"}, "$.payload"),
    ({"payload": "\ud800"}, "$"),
    ({"payload": nested(80)}, "$.payload"),
    ({"payload": "x" * 300_000}, "payload"),
    ({"execution_id": UNKNOWN_ID}, "$.execution_id"),
]


async def test_bad_runs_are_refused(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    one, two = await make_app(owner, "one"), await make_app(owner, "two")
    script = await make_script(owner, one)
    module = await make_script(owner, one, "util", "X = 1\n", kind="module")
    foreign = await make_script(owner, two)
    kept = await ask(owner, one, script_id=script, run_at="2090-01-01T00:00:00Z")
    async with nothing_changes(connection):
        for change, field in [*BAD, ({"script_id": module}, "script_id"), ({"script_id": foreign}, "script_id")]:
            answer = await send(owner, "POST", f"/apps/{one}/executions", {"script_id": script} | change)
            assert answer.status_code in {400, 413, 422}, answer.text
            if answer.status_code == 422:
                refused(answer, 422, field=field)
        refused(await send(owner, "POST", f"/apps/{one}/executions", {}), 422, field="$.script_id")
        for reference in (*NO_IDS, kept["execution_id"]):
            refused(await owner.delete(path(two, reference)), 400 if reference == "%00" else 404)
        refused(await anonymous.post(path(one), json={"script_id": script}), 401)
        refused(await anonymous.delete(path(one, kept["execution_id"])), 401)
