from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import msgspec
import pytest
from uuid_utils.compat import uuid7

from domain.events import Metadata
from domain.executions import ExecutionDeadLettered, Task, TaskSource, execution_stream
from domain.sandbox import Frame, ScriptError
from domain.units import Change, Record, Unit
from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, UNKNOWN_ID, make_app, make_script, nothing_changes, refused, send
from web.core import Core

pytestmark = pytest.mark.anyio


class Scene(msgspec.Struct, frozen=True):
    """An app with a script, a trigger that nothing matches, and an event at position `cause`."""

    app: str
    script: str
    trigger: str
    cause: int


async def make_scene(owner: httpx.AsyncClient, slug: str = "one") -> Scene:
    app = await make_app(owner, slug)
    script = await make_script(owner, app)
    trigger = await owner.post(f"{API}/apps/{app}/triggers/kv", json={"script_id": script, "collection_glob": "never"})
    assert (await owner.put(f"{API}/apps/{app}/kv/c/k", json={"value": {"order": 7}})).status_code == 200
    events = (await owner.get(f"{API}/apps/{app}/events", params={"topic": "kv.KvSet"})).json()["items"]
    return Scene(app, script, trigger.json()["id"], events[0]["position"])


async def bury(core: Core, scene: Scene, *, source: TaskSource = "kv", script: str | None = None, trigger: str | None = "own") -> str:
    """A dead letter's id, as the reactor leaves one behind."""
    now = datetime.now(UTC)
    task = Task(
        execution_id=uuid7(),
        source=source,
        script_id=UUID(script or scene.script),
        trigger_id=None if trigger is None else UUID(scene.trigger if trigger == "own" else trigger),
        cause_position=scene.cause,
    )
    dead = ExecutionDeadLettered(
        task=task,
        attempts=3,
        reason="raised",
        error=ScriptError(type="KeyError", message="order", frames=(Frame("main", 2, 5, "handler"),)),
        first_attempt_at=now - timedelta(seconds=3),
        last_attempt_at=now,
        duration_ms=1.5,
    )
    metadata = Metadata(unit_id=uuid7(), depth=2, correlation_id=uuid7())
    change = Change(Record(name=execution_stream(task.execution_id), event=dead))
    await core.appender.append(Unit(app_id=UUID(scene.app), metadata=metadata, now=now, changes=(change,)))
    return str(task.execution_id)


def path(scene: Scene, *parts: str) -> str:
    """The path of an app's dead letters."""
    return "/".join([f"{API}/apps/{scene.app}/dead_letters", *parts])


async def test_a_dead_letter_shows_its_error_and_its_cause(owner: httpx.AsyncClient, core: Core) -> None:
    scene = await make_scene(owner)
    dead = await bury(core, scene)
    answer = await owner.get(path(scene, dead))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["last_error"] == {
        "type": "KeyError",
        "message": "order",
        "frames": [{"script": "main", "line": 2, "column": 5, "function": "handler"}],
    }
    assert (found["source"], found["script_id"], found["trigger_id"], found["attempts"], found["depth"]) == ("kv", scene.script, scene.trigger, 3, 2)
    assert found["resolution"] is None
    assert found["cause"]["position"] == scene.cause
    assert found["cause"]["data"]["value"] == {"order": 7}


async def test_dead_letters_are_listed_filtered_and_counted(owner: httpx.AsyncClient, core: Core) -> None:
    scene = await make_scene(owner)
    other = await make_script(owner, scene.app, "other")
    dead = [await bury(core, scene), await bury(core, scene, source="http", trigger=None), await bury(core, scene, script=other)]
    assert (await owner.post(path(scene, dead[0], "resolve"), json={"reason": " known "})).json()["resolution"] == "ignored"
    first = (await owner.get(path(scene), params={"limit": 2})).json()
    assert [item["id"] for item in first["items"]] == [dead[2], dead[1]]
    second = (await owner.get(path(scene), params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert ([item["id"] for item in second["items"]], second["next_cursor"]) == ([dead[0]], None)
    assert second["items"][0]["resolve_reason"] == "known"
    for params, wanted in (
        ({"unresolved": "true"}, [2, 1]),
        ({"unresolved": "false"}, [2, 1, 0]),
        ({"unresolved": "true", "limit": "1"}, [2]),
        ({"source": "http"}, [1]),
        ({"trigger": scene.trigger}, [2, 0]),
        ({"script": other, "unresolved": "true"}, [2]),
        *(({"source": source}, []) for source in ("cron", "schedule", "docs", "files", "pubsub", "dead_letter")),
    ):
        items = (await owner.get(path(scene), params=params)).json()["items"]
        assert [item["id"] for item in items] == [dead[index] for index in wanted], params
    assert (await owner.get(path(scene, "count"))).json() == {"total": 3, "unresolved": 2}


async def test_a_replay_is_a_new_execution_of_the_same_cause(owner: httpx.AsyncClient, core: Core, connection: asyncpg.Connection) -> None:
    scene = await make_scene(owner)
    dead = await bury(core, scene)
    answer = await owner.post(path(scene, dead, "replay"))
    assert answer.status_code == 202, answer.text
    replay = answer.json()["execution_id"]
    assert replay != dead
    found = (await owner.get(path(scene, dead))).json()
    assert (found["resolution"], found["replayed_as"]) == ("replayed", replay)
    assert found["resolved_by"].startswith("user:")
    (event,) = (await owner.get(f"{API}/apps/{scene.app}/events", params={"topic": "dead_letters.DeadLetterResolved"})).json()["items"]
    assert event["data"]["replay"] == {
        "execution_id": replay,
        "source": "kv",
        "script_id": scene.script,
        "trigger_id": scene.trigger,
        "cause_position": scene.cause,
    }
    async with nothing_but_outcomes(connection):
        for verb, body in (("replay", None), ("resolve", {"reason": "x"})):
            document = refused(await owner.post(path(scene, dead, verb), json=body), 409, "already_resolved")
            assert document["resolution"] == "replayed"


def nothing_but_outcomes(connection: asyncpg.Connection) -> Any:
    """The reactor may finish a replay meanwhile, so what must not change is the number of resolutions."""
    return _Resolutions(connection)


class _Resolutions:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._before = 0

    async def __aenter__(self) -> None:
        self._before = await self._count()

    async def __aexit__(self, *_: object) -> None:
        assert await self._count() == self._before

    async def _count(self) -> int:
        found: int = await self._connection.fetchval("SELECT count(*) FROM events WHERE topic = 'dead_letters.DeadLetterResolved'")
        return found


async def test_what_would_only_be_skipped_is_not_replayed(owner: httpx.AsyncClient, core: Core, connection: asyncpg.Connection) -> None:
    scene = await make_scene(owner)
    gone = await make_script(owner, scene.app, "gone")
    no_script = await bury(core, scene, script=gone)
    no_trigger = await bury(core, scene, trigger=UNKNOWN_ID)
    disabled = await bury(core, scene)
    assert (await owner.delete(f"{API}/scripts/{gone}")).status_code == 204
    assert (await owner.patch(f"{API}/apps/{scene.app}/triggers/{scene.trigger}", json={"enabled": False})).status_code == 200
    async with nothing_changes(connection):
        refused(await owner.post(path(scene, no_script, "replay")), 409, "script_deleted")
        refused(await owner.post(path(scene, no_trigger, "replay")), 409, "trigger_deleted")
        refused(await owner.post(path(scene, disabled, "replay")), 409, "trigger_disabled")
        answer = await owner.post(f"{API}/apps/{scene.app}/dead_letters:replay", json={})
        assert answer.json() == {
            "replayed": 0,
            "ids": [],
            "refused": [
                {"id": no_script, "code": "script_deleted"},
                {"id": no_trigger, "code": "trigger_deleted"},
                {"id": disabled, "code": "trigger_disabled"},
            ],
            "next_cursor": None,
        }


async def test_many_are_replayed_by_a_filter_each_in_its_own_unit(owner: httpx.AsyncClient, core: Core, connection: asyncpg.Connection) -> None:
    scene = await make_scene(owner)
    other = await make_script(owner, scene.app, "other")
    early = [await bury(core, scene) for _ in range(3)]
    middle = (await owner.get(path(scene, early[-1]))).json()["dead_lettered_at"]
    late = [await bury(core, scene, script=other), await bury(core, scene, source="http", trigger=None)]
    replay = f"{API}/apps/{scene.app}/dead_letters:replay"

    async def ids(wanted: dict[str, Any]) -> list[str]:
        answer = await owner.post(replay, json={"filter": wanted})
        assert answer.status_code == 200, answer.text
        found: list[str] = answer.json()["ids"]
        assert answer.json()["replayed"] == len(found)
        return found

    assert await ids({"before": "2001-01-01T00:00:00Z"}) == []
    assert await ids({"after": "2101-01-01T00:00:00+01:00"}) == []
    assert await ids({"trigger_id": UNKNOWN_ID}) == []
    assert await ids({"source": "cron"}) == []
    assert await ids({"before": middle, "trigger_id": scene.trigger}) == early[:2]
    assert await ids({"script_id": other}) == late[:1]
    assert await ids({}) == [early[2], late[1]]
    assert await ids({}) == []
    units = await connection.fetchval("SELECT count(DISTINCT metadata ->> 'unit_id') FROM events WHERE topic = 'dead_letters.DeadLetterResolved'")
    assert units == 5


async def test_bad_requests_are_refused(owner: httpx.AsyncClient, core: Core, connection: asyncpg.Connection) -> None:
    scene = await make_scene(owner)
    dead = await bury(core, scene)
    async with nothing_changes(connection):
        for body, field in (
            ({}, "$.reason"),
            ({"reason": ""}, "reason"),
            ({"reason": " "}, "reason"),
            ({"reason": "x" * 1001}, "reason"),
            ({"reason": 1}, "$.reason"),
            ({"reason": "\x00"}, "$.reason"),
            ({"reason": "x", "resolution": "replayed"}, "$.resolution"),
        ):
            refused(await send(owner, "POST", f"/apps/{scene.app}/dead_letters/{dead}/resolve", body), 422, field=field)
        for wanted, field in (
            ({"source": "x"}, "$.filter.source"),
            ({"script_id": "x"}, "$.filter.script_id"),
            ({"after": "yesterday"}, "$.filter.after"),
            ({"before": "2026-01-01T00:00:00"}, "$.filter.before"),
            ({"x": 1}, "$.filter.x"),
        ):
            refused(await owner.post(f"{API}/apps/{scene.app}/dead_letters:replay", json={"filter": wanted}), 422, field=field)
        for cursor in BAD_CURSORS:
            refused(await owner.get(path(scene), params={"cursor": cursor}), 422, field="cursor")
            if "%00" not in cursor:
                refused(await owner.post(f"{API}/apps/{scene.app}/dead_letters:replay", json={"cursor": cursor}), 422, field="cursor")
        for name, value in (("unresolved", "maybe"), ("unresolved", ""), ("source", "x"), ("trigger", "x"), ("script", "\x00"), ("limit", "0")):
            refused(await owner.get(path(scene), params={name: value}), 422, field=name)


async def test_what_is_no_dead_letter_is_missing(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, core: Core, connection: asyncpg.Connection) -> None:
    scene, elsewhere = await make_scene(owner), await make_scene(owner, "two")
    dead = await bury(core, scene)
    async with nothing_changes(connection):
        for reference in (*NO_IDS, dead):
            status = 400 if reference == "%00" else 404
            refused(await owner.get(path(elsewhere, reference)), status)
            refused(await owner.post(path(elsewhere, reference, "replay")), status)
            refused(await owner.post(path(elsewhere, reference, "resolve"), json={"reason": "x"}), status)
        refused(await owner.get(f"{API}/apps/{UNKNOWN_ID}/dead_letters"), 404)
        refused(await owner.post(f"{API}/apps/{UNKNOWN_ID}/dead_letters:replay", json={}), 404)
        refused(await anonymous.get(path(scene)), 401)
        refused(await anonymous.post(path(scene, dead, "replay")), 401)
