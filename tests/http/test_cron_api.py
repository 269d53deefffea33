"""Cron triggers over REST: their fields, their next time and last tick, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio
import asyncpg
import httpx
import pytest

from tests.http.admin_support import API, make_app, make_script, nested, nothing_changes, refused, send

pytestmark = pytest.mark.anyio


async def make_cron(client: httpx.AsyncClient, app: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(f"{API}/apps/{app}/triggers/cron", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_cron_trigger_shows_when_it_is_due_next(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    made = await make_cron(owner, app, script_id=await make_script(owner, app), schedule="0 30 9 1 JAN *", timezone="Europe/Berlin")
    assert {name: made[name] for name in ("schedule", "timezone", "overlap", "last_tick")} == {
        "schedule": "0 30 9 1 JAN *",
        "timezone": "Europe/Berlin",
        "overlap": "skip",
        "last_tick": None,
    }
    due = datetime.fromisoformat(made["next_due_at"])
    assert due > datetime.now(UTC)
    assert (due.month, due.day, due.hour, due.minute) == (1, 1, 8, 30)
    path = f"{API}/apps/{app}/triggers/{made['id']}"
    assert (await owner.get(path)).json() == made
    assert (await owner.get(f"{API}/apps/{app}/triggers")).json()["items"] == [made]
    moved = (await owner.patch(path, json={"timezone": None, "overlap": "queue"})).json()
    assert datetime.fromisoformat(moved["next_due_at"]).hour == 9
    off = (await owner.patch(path, json={"enabled": False})).json()
    assert (off["next_due_at"], off["overlap"], off["timezone"]) == (None, "queue", "UTC")
    assert (await owner.patch(path, json={"enabled": True})).json()["next_due_at"] == moved["next_due_at"]
    assert (await owner.delete(path)).status_code == 204
    refused(await owner.get(path), 404)


async def test_a_tick_shows_what_it_ran(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    made = await make_cron(owner, app, script_id=script, schedule="* * * * * *")
    path = f"{API}/apps/{app}/triggers/{made['id']}"
    tick = None
    with anyio.fail_after(20):
        while tick is None:
            await anyio.sleep(0.05)
            tick = (await owner.get(path)).json()["last_tick"]
    assert datetime.fromisoformat(tick["scheduled_at"]) <= datetime.fromisoformat(tick["fired_at"])
    assert tick["skipped"] is None or tick["execution_id"] is None
    events = (await owner.get(f"{API}/apps/{app}/events", params={"topic": "cron.Ticked"})).json()["items"]
    assert events[0]["data"]["trigger_id"] == made["id"]
    assert (await owner.delete(f"{API}/scripts/{script}")).status_code == 204
    refused(await owner.get(path), 404)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"schedule": "* * * * *"}, "schedule"),
    ({"schedule": ""}, "schedule"),
    ({"schedule": "0 0 0 31 2 *"}, "schedule"),
    ({"schedule": "* * * * * 8"}, "schedule"),
    ({"schedule": "* " * 300}, "schedule"),
    ({"schedule": "\u0661 * * * * *"}, "schedule"),
    ({"schedule": "* * * * * *\x00"}, "$.schedule"),
    ({"schedule": 1}, "$.schedule"),
    ({"schedule": nested(80)}, "$.schedule"),
    ({"timezone": "Mars/Olympus"}, "timezone"),
    ({"timezone": "../../etc/passwd"}, "timezone"),
    ({"timezone": "localtime"}, "timezone"),
    ({"timezone": 1}, "$.timezone"),
    ({"overlap": "both"}, "$.overlap"),
    ({"next_due_at": "2026-01-01T00:00:00Z"}, "$.next_due_at"),
    ({"ops": []}, "$.ops"),
]


async def test_bad_cron_triggers_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    whole = {"script_id": script, "schedule": "0 0 0 1 1 *"}
    made = await make_cron(owner, app, **whole)
    async with nothing_changes(connection):
        for change, field in BAD:
            refused(await send(owner, "POST", f"/apps/{app}/triggers/cron", whole | change), 422, field=field)
            refused(await send(owner, "PATCH", f"/apps/{app}/triggers/{made['id']}", change), 422, field=field)
        refused(await send(owner, "POST", f"/apps/{app}/triggers/cron", {"script_id": script}), 422)
