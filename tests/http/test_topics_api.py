from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from tests.http.admin_support import API, BAD_CURSORS, make_app, make_script, nested, nothing_changes, refused, send

pytestmark = pytest.mark.anyio


def path(app: str, *parts: str) -> str:
    """The path of an app's topics."""
    return "/".join([f"{API}/apps/{app}/topics", *parts])


async def make_topic(client: httpx.AsyncClient, app: str, name: str, **body: Any) -> dict[str, Any]:
    """A new topic as it was answered."""
    answer = await client.post(path(app), json={"name": name, **body})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_topic_is_registered_changed_and_deleted(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    made = await make_topic(owner, app, "a/b:c é")
    assert made == {
        "kind": "topic",
        "name": "a/b:c é",
        "external_subscribable": False,
        "auth_mode": "token",
        "version": 1,
        "created_at": made["created_at"],
    }
    refused(await owner.post(path(app), json={"name": "a/b:c é"}), 409, "topic_exists", "name")
    encoded = "a%2Fb%3Ac%20%C3%A9"
    changed = (await owner.patch(path(app, encoded), json={"external_subscribable": True})).json()
    assert changed == made | {"external_subscribable": True, "version": 2}
    assert (await owner.patch(path(app, encoded), json={})).json() == changed
    assert (await owner.delete(path(app, encoded))).status_code == 204
    refused(await owner.delete(path(app, encoded)), 404)
    again = await make_topic(owner, app, "a/b:c é", auth_mode="public")
    assert (again["version"], again["auth_mode"]) == (4, "public")


async def test_kinds_are_apart(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    for kind in ("topic", "kv", "docs"):
        await make_topic(owner, app, "same", kind=kind)
    assert (await owner.patch(path(app, "same"), params={"kind": "kv"}, json={"auth_mode": "public"})).json()["kind"] == "kv"
    assert (await owner.delete(path(app, "same"), params={"kind": "docs"})).status_code == 204
    items = (await owner.get(path(app))).json()["items"]
    assert [(item["kind"], item["auth_mode"]) for item in items] == [("kv", "public"), ("topic", "token")]
    refused(await owner.delete(path(app, "same"), params={"kind": "x"}), 422, field="kind")


async def test_topics_are_listed_in_pages(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    made = [await make_topic(owner, app, name, kind=kind) for kind, name in (("kv", "b"), ("topic", "a"), ("topic", "c"))]
    first = (await owner.get(path(app), params={"limit": 2})).json()
    assert first["items"] == made[:2]
    assert (await owner.get(path(app), params={"cursor": first["next_cursor"]})).json() == {"items": made[2:], "next_cursor": None}
    for cursor in BAD_CURSORS:
        refused(await owner.get(path(app), params={"cursor": cursor}), 422, field="cursor")


async def test_a_message_is_published(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    answer = await owner.post(path(app, "a:b%2Fc:publish"), json={"message": {"n": [1, None]}})
    assert answer.status_code == 201, answer.text
    event = (await owner.get(f"{API}/apps/{app}/events/{answer.json()['position']}")).json()
    assert (event["topic"], event["stream"]) == ("pubsub.Published", "pubsub:a%3Ab/c")
    assert event["data"] == {"op": "publish", "topic": "a:b/c", "message": {"n": [1, None]}, "published_at": answer.json()["published_at"]}


BAD_TOPICS: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": "a*"}, "name"),
    ({"name": "x" * 257}, "name"),
    ({"name": "a\x00"}, "$.name"),
    ({"name": 1}, "$.name"),
    ({"name": nested(80)}, "$.name"),
    ({"kind": "kv", "name": "x" * 129}, "name"),
    ({"kind": "files"}, "$.kind"),
    ({"external_subscribable": "yes"}, "$.external_subscribable"),
    ({"auth_mode": "none"}, "$.auth_mode"),
    ({"x": 1}, "$.x"),
]


async def test_what_is_refused_changes_nothing(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app, other = await make_app(owner, "one"), await make_app(owner, "two")
    await make_topic(owner, app, "mine", external_subscribable=True)
    async with nothing_changes(connection):
        for change, field in BAD_TOPICS:
            refused(await send(owner, "POST", f"/apps/{app}/topics", {"name": "good"} | change), 422, field=field)
        refused(await send(owner, "POST", f"/apps/{app}/topics", {}), 422, field="$.name")
        for body, field in (({"auth_mode": "x"}, "$.auth_mode"), ({"name": "n"}, "$.name"), ({"external_subscribable": None}, "$.external_subscribable")):
            refused(await send(owner, "PATCH", f"/apps/{app}/topics/mine", body), 422, field=field)
        for name in ("nowhere", "a*", "x" * 300):
            refused(await owner.patch(path(app, name), json={}), 404)
            refused(await owner.delete(path(app, name)), 404)
        refused(await owner.delete(path(other, "mine")), 404)
        refused(await owner.post(path(app, "mine"), json={"message": 1}), 405)
        for name in ("a*", "x" * 257):
            refused(await owner.post(path(app, f"{name}:publish"), json={"message": 1}), 422, field="topic")
        refused(await owner.post(path(app, ":publish"), json={"message": 1}), 422, field="topic")
        for message in (nested(80), "\x00"):
            refused(await send(owner, "POST", f"/apps/{app}/topics/mine:publish", {"message": message}), 422, field="$.message")
        refused(await send(owner, "POST", f"/apps/{app}/topics/mine:publish", {"message": float("nan")}), 400)
        for method, where in (("GET", path(app)), ("POST", path(app)), ("POST", f"{path(app)}:token"), ("POST", f"{API}/apps/{app}/subscriber-keys:rotate")):
            refused(await anonymous.request(method, where, json={}), 401)


async def test_tokens_and_their_keys(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    keys = f"{API}/apps/{app}/subscriber-keys"
    await make_topic(owner, app, "news", external_subscribable=True)
    await make_topic(owner, app, "internal")
    made = (await owner.post(f"{path(app)}:token", json={"topics": ["news"], "ttl": 60})).json()
    assert made["token"].count(".") == 2
    (first,) = (await owner.get(keys)).json()["items"]
    assert (first["retired_at"], first["revoked_at"]) == (None, None)
    assert set(first) == {"kid", "created_at", "retired_at", "revoked_at"}
    second = (await owner.post(f"{keys}:rotate")).json()
    listed = (await owner.get(keys)).json()["items"]
    assert [key["kid"] for key in listed] == [second["kid"], first["kid"]]
    assert listed[1]["retired_at"] is not None
    assert (await owner.delete(f"{keys}/{first['kid']}")).status_code == 204
    assert [key["kid"] for key in (await owner.get(keys)).json()["items"]] == [second["kid"]]
    refused(await owner.delete(f"{keys}/{first['kid']}"), 404)
    secrets = await connection.fetch("SELECT key FROM vault_subscriber_keys")
    states = b"".join(row["state"] for row in await connection.fetch("SELECT state FROM events"))
    assert all(row["key"] not in states for row in secrets)
    async with nothing_changes(connection):
        for body, field in (
            ({}, "topics"),
            ({"topics": ["internal"]}, "topics"),
            ({"kv": ["news"]}, "kv"),
            ({"topics": ["*"]}, "topics"),
            ({"topics": ["news"] * 101}, "topics"),
            ({"topics": [1]}, "$.topics[0]"),
            ({"topics": ["news"], "ttl": "1"}, "$.ttl"),
            ({"x": []}, "$.x"),
        ):
            refused(await send(owner, "POST", f"/apps/{app}/topics:token", body), 422, field=field)


async def test_a_pubsub_trigger(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    where = f"{API}/apps/{app}/triggers/pubsub"
    made = (await owner.post(where, json={"script_id": script, "topic_pattern": "orders.*"})).json()
    assert (made["kind"], made["topic_pattern"]) == ("pubsub", "orders.*")
    assert await connection.fetchval("SELECT pattern FROM triggers") == "p:orders."
    async with nothing_changes(connection):
        for pattern in ("", "orders*", ".*", "a*b", "x" * 259):
            refused(await owner.post(where, json={"script_id": script, "topic_pattern": pattern}), 422, field="topic_pattern")
