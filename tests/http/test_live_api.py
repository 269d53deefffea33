"""Events and executions as they come, for those who may see them, exactly as long as they may."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import httpx
import msgspec
import pytest
from uuid_utils.compat import uuid7

from domain.ids import NIL_APP
from runtime.live.runs import Records as LiveRecords
from runtime.platform import Platform, open_platform
from runtime.settings import Realtime
from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, make_app, make_route, make_script, refused
from tests.http.conftest import SETTINGS, Owned, client_of, new_session, serve
from tests.http.test_executions_api import end, failed, run, succeeded, task, write
from tests.runtime.world import eventually
from tests.sse import Shown, Stream, subscribe, subscribed
from web.main import build

pytestmark = pytest.mark.anyio

WRITES = "def handler(ctx):\n    kv.collection('c').set('k', 1)\n    return 1\n"
RAISES = "def handler(ctx):\n    raise ValueError('no')\n"


def headers_of(client: httpx.AsyncClient) -> dict[str, str]:
    return {"authorization": client.headers["authorization"]}


async def follow(client: httpx.AsyncClient, url: str, path: str, **headers: str) -> Stream:
    stream = await subscribe(url, "localhost", f"{API}{path}", **headers_of(client), **headers)
    assert stream.status == 200
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    return stream


async def opened(client: httpx.AsyncClient, url: str, path: str) -> Stream:
    """A stream from here on, once it stands somewhere."""
    stream = await follow(client, url, path)
    async for block in stream.blocks():
        assert block.comment == "open"
        break
    return stream


async def put(client: httpx.AsyncClient, app: str, key: str, value: Any = 1) -> None:
    assert (await client.put(f"{API}/apps/{app}/kv/c/{key}", json={"value": value})).is_success


async def listed(client: httpx.AsyncClient, app: str, **filters: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await client.get(f"{API}/apps/{app}/events", params={"limit": "200", **filters})).json()["items"]
    return items


async def test_events_are_those_of_the_list_from_any_position_and_go_on(owner: httpx.AsyncClient, url: str) -> None:
    app = await make_app(owner, "one")
    for number in range(5):
        await put(owner, app, f"k{number}")
    stream = await follow(owner, url, f"/apps/{app}/events/live?after=0")
    wanted = await listed(owner, app)
    shown = await stream.take(len(wanted))
    assert [event.data for event in shown] == wanted
    assert [event.id for event in shown] == [item["position"] for item in wanted]
    await put(owner, app, "live", "a\nb\r\u2028c")
    (live,) = await stream.take(1)
    stream.close()
    assert live.data == (await listed(owner, app))[-1]
    again = await follow(owner, url, f"/apps/{app}/events/live?after=0", last_event_id=str(shown[2].id))
    rest = await again.take(len(wanted) - 3 + 1)
    assert [event.id for event in rest] == [event.id for event in (*shown[3:], live)]
    again.close()


@pytest.mark.parametrize("name", ["topic", "stream", "actor", "correlation_id"])
async def test_filters_are_those_of_the_list(owner: httpx.AsyncClient, url: str, name: str) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app, source=WRITES)
    answer = await owner.post(f"/api/v1/execute/{script}")
    await put(owner, app, "k")
    values = {
        "topic": "kv.KvSet",
        "stream": "kv:c:k",
        "actor": (await listed(owner, app))[0]["metadata"]["actor"],
        "correlation_id": answer.headers["x-execution-id"],
    }
    wanted = await listed(owner, app, **{name: values[name]})
    assert wanted
    live = await opened(owner, url, f"/apps/{app}/events/live?{name}={values[name]}")
    past = await follow(owner, url, f"/apps/{app}/events/live?{name}={values[name]}&after=0")
    assert [event.data for event in await past.take(len(wanted))] == wanted
    assert (await owner.post(f"{API}/apps/{app}/topics", json={"name": "t"})).is_success
    await put(owner, app, "k", 2)
    if name != "correlation_id":
        newest = (await listed(owner, app, **{name: values[name]}))[len(wanted) :]
        for stream in (live, past):
            assert [event.data for event in await stream.take(len(newest))] == newest
    live.close()
    past.close()


async def test_what_the_system_did_is_shown_from_the_log(owner: httpx.AsyncClient, url: str, core: Platform) -> None:
    app = await make_app(owner, "one")
    done = task(await make_script(owner, app))
    await end(core, app, succeeded(done), done.execution_id)
    wanted = await listed(owner, app, actor="system")
    assert wanted
    past = await follow(owner, url, f"/apps/{app}/events/live?actor=system&after=0")
    assert [event.data for event in await past.take(len(wanted))] == wanted
    past.close()


async def test_executions_are_shown_as_they_end(owner: httpx.AsyncClient, url: str, core: Platform) -> None:
    app = await make_app(owner, "one")
    good, bad = await make_script(owner, app, "good", WRITES), await make_script(owner, app, "bad", RAISES)
    everything = await opened(owner, url, f"/apps/{app}/executions/live")
    failures = await opened(owner, url, f"/apps/{app}/executions/live?status=failed&script={bad}")
    done, again = task(good), task(bad, uuid7())
    triggered = await opened(owner, url, f"/apps/{app}/executions/live?trigger={again.trigger_id}")
    await end(core, app, succeeded(done), done.execution_id)
    await end(core, app, failed(again), again.execution_id)
    first, second = await everything.take(2)
    positions = [item["position"] for item in await listed(owner, app) if item["topic"].startswith("executions.")]
    assert [first.id, second.id] == positions
    assert (first.data["execution_id"], first.data["status"], first.data["position"]) == (str(done.execution_id), "succeeded", positions[0])
    assert (second.data["status"], second.data["reason"], second.data["attempt"]) == ("retrying", "raised", 1)
    assert (await triggered.take(1))[0] == second
    answer = await owner.post(f"/api/v1/execute/{good}")
    (synchronous,) = await everything.take(1)
    assert synchronous.id is None
    expected = {"execution_id": answer.headers["x-execution-id"], "status": "succeeded", "script_id": good, "position": None, "reason": None}
    assert synchronous.data | expected == synchronous.data
    answer = await owner.post(f"/api/v1/execute/{bad}")
    for stream in (everything, failures):
        (raised,) = await stream.take(1)
        assert (raised.data["execution_id"], raised.data["status"], raised.data["reason"]) == (answer.headers["x-execution-id"], "failed", "raised")
    back = await follow(owner, url, f"/apps/{app}/executions/live", last_event_id=str(positions[0]))
    assert (await back.take(1))[0] == second
    for stream in (everything, failures, triggered, back):
        stream.close()


async def test_runs_of_other_processes_are_shown_once(owner: httpx.AsyncClient, url: str, core: Platform) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    queued = task(script)
    await end(core, app, succeeded(queued), queued.execution_id)
    stream = await opened(owner, url, f"/apps/{app}/executions/live")
    ids = [uuid7() for _ in range(3)]
    for execution_id in ids:
        await write(core, run(app, script, execution_id), run(app, script, queued.execution_id))
        await anyio.sleep(0.3)  # over several looks
    last = uuid7()
    await write(core, run(app, script, last))
    shown = await stream.take(4)
    assert [each.data["execution_id"] for each in shown] == [str(execution_id) for execution_id in (*ids, last)]
    stream.close()


async def test_more_runs_than_are_read_at_once_are_all_told(owner: httpx.AsyncClient, core: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.live.runs._AT_ONCE", 10)
    one, two = await make_app(owner, "one"), await make_app(owner, "two")
    script = await make_script(owner, one)
    source = LiveRecords(core.reader)
    ids = [uuid7() for _ in range(25)]
    await write(core, run(one, script, ids[0]), run(two, script, uuid7()))
    found: list[UUID] = [ended.execution_id for _, ended in await source.fresh([UUID(one)])]
    for at in range(1, 25, 6):
        await write(core, *(run(one, script, execution_id) for execution_id in ids[at : at + 6]))
    for _ in range(6):
        found += [ended.execution_id for _, ended in await source.fresh([UUID(one)])]
    assert sorted(found) == ids


async def test_a_stream_ends_within_seconds_of_the_right_to_it(dsn: str, owned: Owned, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SETTINGS, data_dir=tmp_path, realtime=Realtime(heartbeat_s=6))
    async with open_platform(dsn, settings) as core, serve(build(core)) as url:
        token = await new_session(core, owned)
        async with client_of(url, token) as client:
            app = await make_app(client, "one")
            streams = [await opened(client, url, f"/apps/{app}/{what}/live") for what in ("events", "executions")]
            await core.accounts.log_out(token)
            for stream in streams:
                (last,) = await stream.take(1, within_s=5)
                assert last == Shown("end", None, {"reason": "credential_ended"})
                stream.close()


async def test_shutdown_does_not_wait_for_streams(dsn: str, owned: Owned, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SETTINGS, data_dir=tmp_path)
    async with open_platform(dsn, settings) as core, serve(build(core)) as url, client_of(url, await new_session(core, owned)) as client:
        app = await make_app(client, "one")
        streams = [await opened(client, url, f"/apps/{app}/{what}/live") for what in ("events", "executions")]
        core.live.close()
        for stream in streams:
            (last,) = await stream.take(1, within_s=5)
            assert last.data == {"reason": "shutdown"}
            stream.close()
        refused(await client.get(f"{API}/apps/{app}/events/live"), 503)


async def test_who_hangs_up_is_forgotten(owner: httpx.AsyncClient, url: str, core: Platform) -> None:
    app = await make_app(owner, "one")
    for _ in range(3):
        (await opened(owner, url, f"/apps/{app}/events/live")).close()

    async def subscribers() -> float:
        return core.metrics.registry.get_sample_value("picloud_live_subscribers") or 0

    await eventually(subscribers, lambda count: count == 0)


async def test_streams_of_an_app_are_bounded(dsn: str, owned: Owned, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SETTINGS, data_dir=tmp_path, realtime=Realtime(max_per_app=2))
    async with open_platform(dsn, settings) as core, serve(build(core)) as url, client_of(url, await new_session(core, owned)) as client:
        app = await make_app(client, "one")
        streams = [await opened(client, url, f"/apps/{app}/events/live") for _ in range(2)]
        refused(await client.get(f"{API}/apps/{app}/executions/live"), 503, "too_many_subscribers")
        for stream in streams:
            stream.close()


async def test_bad_requests_and_strangers_are_refused(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, url: str) -> None:
    app = await make_app(owner, "one")
    for what, name, value in (
        *(("events", "after", bad) for bad in BAD_CURSORS),
        ("events", "after", "-1"),
        ("events", "correlation_id", "x"),
        ("events", "topic", "\x00"),
        ("executions", "status", "queued"),
        ("executions", "script", "x"),
        ("executions", "trigger", ""),
        ("executions", "after", "1.5"),
    ):
        refused(await owner.get(f"{API}/apps/{app}/{what}/live", params={name: value}), 422, field=name)
    refused(await owner.get(f"{API}/apps/{app}/events/live", headers={"last-event-id": "x"}), 422, field="last-event-id")
    for what in ("events", "executions"):
        for no_id in (*NO_IDS, str(NIL_APP)):
            assert (await owner.get(f"{API}/apps/{no_id}/{what}/live")).status_code in {400, 404}
        refused(await anonymous.get(f"{API}/apps/{app}/{what}/live"), 401)
        answer = await owner.head(f"{API}/apps/{app}/{what}/live")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    async with subscribed(url, "localhost", f"{API}/apps/{app}/events/live") as stream:
        assert stream.status == 401


async def test_streams_are_no_slow_answers(owner: httpx.AsyncClient, url: str, core: Platform) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    await make_route(owner, script)
    (await opened(owner, url, f"/apps/{app}/events/live")).close()

    async def counted() -> float:
        return core.metrics.registry.get_sample_value("picloud_http_requests_total", {"plane": "live", "status_class": "2xx"}) or 0

    await eventually(counted, lambda count: count == 1)
