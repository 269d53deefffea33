from __future__ import annotations

from datetime import datetime
from typing import Any

import asyncpg
import httpx
import pytest

from tests.http.admin_support import API, ENDPOINT, NO_IDS, UNKNOWN_ID, make_app, make_script, nothing_changes, refused

pytestmark = pytest.mark.anyio


async def events(client: httpx.AsyncClient, app: str, **params: Any) -> dict[str, Any]:
    """A page of an app's events."""
    answer = await client.get(f"{API}/apps/{app}/events", params=params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def put(client: httpx.AsyncClient, app: str, key: str, value: Any) -> None:
    """Set an entry of collection `c`."""
    assert (await client.put(f"{API}/apps/{app}/kv/c/{key}", json={"value": value})).status_code == 200


async def test_every_change_is_an_event_in_order(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    me = (await owner.get(f"{API}/auth/me")).json()["user"]["id"]
    answer = await owner.put(f"{API}/apps/{app}/kv/c/k%3A1", json={"value": [1.0, None]}, headers={"x-request-id": "my-request"})
    assert answer.status_code == 200
    assert (await owner.delete(f"{API}/apps/{app}/kv/c/k%3A1")).status_code == 204
    page = await events(owner, app)
    assert page["next_cursor"] is None
    first, second = page["items"]
    assert first == {
        "position": 1,
        "stream": "kv:c:k%3A1",
        "version": 1,
        "topic": "kv.KvSet",
        "data": {"op": "insert", "collection": "c", "key": "k:1", "value": [1.0, None], "expires_at": None},
        "metadata": first["metadata"],
        "recorded_at": first["recorded_at"],
    }
    assert first["metadata"] | {"unit_id": None, "correlation_id": None} == {
        "actor": f"user:{me}",
        "correlation_id": None,
        "causation": None,
        "depth": 0,
        "request_id": "my-request",
        "unit_id": None,
        "execution_id": None,
        "script_id": None,
        "script_version": None,
    }
    assert first["metadata"]["correlation_id"] == first["metadata"]["unit_id"]
    assert (second["position"], second["version"], second["topic"]) == (2, 2, "kv.KvDeleted")
    for event in (first, second):
        assert (await owner.get(f"{API}/apps/one/events/{event['position']}")).json() == event


async def test_events_are_read_in_pages_by_position(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    for number in range(5):
        await put(owner, app, "k", number)
    first = await events(owner, app, limit=2)
    assert ([item["position"] for item in first["items"]], first["next_cursor"]) == ([1, 2], "2")
    for name in ("after", "cursor"):
        second = await events(owner, app, limit=2, **{name: first["next_cursor"]})
        assert ([item["position"] for item in second["items"]], second["next_cursor"]) == ([3, 4], "4")
    last = await events(owner, app, limit=2, after=4)
    assert ([item["position"] for item in last["items"]], last["next_cursor"]) == ([5], None)
    assert await events(owner, app, after=5) == {"items": [], "next_cursor": None}


async def test_events_are_filtered(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    await put(owner, app, "a", 1)
    script = await make_script(owner, app)
    await put(owner, app, "b", 1)
    everything = (await events(owner, app))["items"]

    async def positions(**params: Any) -> list[int]:
        return [item["position"] for item in (await events(owner, app, **params))["items"]]

    def where(name: str, value: str) -> list[int]:
        return [item["position"] for item in everything if item[name] == value]

    assert await positions(topic="kv.KvSet") == where("topic", "kv.KvSet")
    assert await positions(topic="nothing.Such") == []
    assert await positions(stream=f"script:{script}") == where("stream", f"script:{script}")
    assert await positions(actor=everything[0]["metadata"]["actor"]) == [item["position"] for item in everything]
    assert await positions(actor="public") == []
    unit = everything[1]["metadata"]["correlation_id"]
    assert await positions(correlation_id=unit) == [item["position"] for item in everything if item["metadata"]["correlation_id"] == unit]
    assert await positions(correlation_id=UNKNOWN_ID) == []
    last = everything[-1]
    assert last["position"] in await positions(**{"from": last["recorded_at"]})
    assert last["position"] not in await positions(to=last["recorded_at"])
    assert await positions(**{"from": everything[0]["recorded_at"], "to": "2101-01-01T00:00:00Z"}) == [item["position"] for item in everything]
    assert datetime.fromisoformat(last["recorded_at"]).tzinfo is not None
    assert await positions(topic="kv.KvSet", after=1, stream="kv:c:b") == [last["position"]]


async def test_the_history_of_an_entry_is_all_its_versions(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    for number in range(3):
        await put(owner, app, "k%2F1", number)
        await put(owner, app, "other", number)
    await owner.delete(f"{API}/apps/{app}/kv/c/k%2F1")
    history = f"{API}/apps/{app}/history/kv/c/k%2F1"
    first = (await owner.get(history, params={"limit": 3})).json()
    assert [(item["version"], item["data"]["value"]) for item in first["items"]] == [(1, 0), (2, 1), (3, 2)]
    second = (await owner.get(history, params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [(item["version"], item["topic"]) for item in second["items"]] == [(4, "kv.KvDeleted")]
    assert second["next_cursor"] is None
    refused(await owner.get(f"{API}/apps/{app}/history/kv/c/never"), 404)
    refused(await owner.get(f"{API}/apps/{app}/history/kv/c/" + "k" * 600), 422, field="key")
    refused(await owner.get(history, params={"cursor": "x"}), 422, field="cursor")
    refused(await owner.get(f"{API}/apps/{app}/history/docs/c/k"), 404)


async def test_owners_read_the_instances_own_log(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    answer = await owner.get(f"{API}/events", params={"topic": "apps.AppCreated"})
    assert answer.status_code == 200
    (created,) = answer.json()["items"]
    assert created["data"] == {"app_id": app, "name": "one", "slug": "one"}
    assert (await owner.get(f"{API}/events/{created['position']}")).json() == created
    everything = (await owner.get(f"{API}/events")).json()["items"]
    assert "password" not in str(everything)
    assert [item["position"] for item in everything] == list(range(1, len(everything) + 1))


async def test_bad_filters_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    await make_script(owner, app, source=ENDPOINT)
    async with nothing_changes(connection):
        for base in (f"{API}/apps/{app}/events", f"{API}/events"):
            for name, value in (
                ("after", "x"),
                ("after", "-1"),
                ("after", "1.0"),
                ("after", ""),
                ("after", "9" * 25),
                ("after", str(2**62)),
                ("cursor", "WyJhIl0"),
                ("limit", "0"),
                ("limit", "201"),
                ("topic", "\x00"),
                ("stream", "a\x00"),
                ("actor", "\x00"),
                ("correlation_id", "x"),
                ("from", "2026"),
                ("from", "2026-01-01T00:00:00"),
                ("to", "tomorrow"),
            ):
                refused(await owner.get(base, params={name: value}), 422, field=name)
            for position in ("0", "x", "-1", "1.0", "9" * 25, str(2**62), "%C2%B2"):
                refused(await owner.get(f"{base}/{position}"), 404)


async def test_the_log_of_what_is_no_app_is_missing(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    for reference in (*NO_IDS, "00000000-0000-0000-0000-000000000000"):
        for rest in ("events", "events/1", "history/kv/c/k"):
            refused(await owner.get(f"{API}/apps/{reference}/{rest}"), 400 if reference == "%00" else 404)
    refused(await anonymous.get(f"{API}/apps/{app}/events"), 401)
    refused(await anonymous.get(f"{API}/events"), 401)
