from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import anyio
import asyncpg
import httpx
import pytest

from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, make_app, nested, nothing_changes, refused, send

pytestmark = pytest.mark.anyio

HOSTILE_IDS = ("a/b", "a%2Fb", "a b", "ä", "😀", "?x=1", "#", "a:b", "a%b", "%", ":", ":find", "\n", "'; DROP TABLE documents; --", "k" * 512)


def place(app: str, *parts: str) -> str:
    """The path of an app's documents."""
    return "/".join([f"{API}/apps/{app}/docs", *(quote(part, safe="") for part in parts)])


async def put(client: httpx.AsyncClient, app: str, collection: str, doc_id: str, data: Any, **more: Any) -> dict[str, Any]:
    answer = await client.put(place(app, collection, doc_id), json={"data": data, **more})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def find(client: httpx.AsyncClient, app: str, collection: str, **wanted: Any) -> dict[str, Any]:
    answer = await client.post(f"{place(app, collection)}:find", json={"filter": wanted})
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def ids(page: dict[str, Any]) -> list[str]:
    return [document["id"] for document in page["items"]]


async def test_a_document_is_created_read_changed_and_deleted(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    data = {"z": 1, "a": [None, True, 1.5, "ä😀"], "big": 2**70, "float": 1e22}
    answer = await owner.post(place(app, "c"), json={"data": data})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made == {
        "collection": "c",
        "id": made["id"],
        "data": data,
        "version": 1,
        "created_at": made["created_at"],
        "updated_at": made["updated_at"],
    }
    assert list(made["data"]) == list(data)
    there = place(app, "c", made["id"])
    assert (await owner.get(there)).json() == made
    replaced = (await owner.put(there, json={"data": {"n": {"a": 1, "b": 2}}})).json()
    assert (replaced["data"], replaced["version"], replaced["created_at"]) == ({"n": {"a": 1, "b": 2}}, 2, made["created_at"])
    patched = (await owner.patch(there, json={"merge": {"n": {"a": None}, "m": 3}})).json()
    assert (patched["data"], patched["version"]) == ({"n": {"b": 2}, "m": 3}, 3)
    assert (await owner.delete(there)).status_code == 204
    for method, body in (("GET", None), ("PATCH", {"merge": {}}), ("DELETE", None)):
        refused(await owner.request(method, there, json=body), 404)


async def test_ids_of_all_sorts_come_back_as_they_were(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    for number, doc_id in enumerate(HOSTILE_IDS):
        await put(owner, app, "c/:%", doc_id, {"n": number})
        found = (await owner.get(place(app, "c/:%", doc_id))).json()
        assert (found["collection"], found["id"], found["data"]) == ("c/:%", doc_id, {"n": number})
    listed = (await owner.get(place(app, "c/:%"))).json()
    assert ids(listed) == sorted(HOSTILE_IDS)
    assert await find(owner, app, "c/:%") == listed
    assert ids(await find(owner, app, "c/:%", n=3)) == [HOSTILE_IDS[3]]
    head = len(HOSTILE_IDS)
    assert (await owner.get(place(app, "c/:%"), params={"at": head})).json() == listed
    assert (await owner.get(place(app), params={"at": head})).json() == (await owner.get(place(app))).json()


async def test_documents_are_found_in_pages(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    for number in range(7):
        await put(owner, app, "c", f"k{number}", {"n": number % 3, "even": number % 2 == 0})
    assert ids(await find(owner, app, "c", even=True)) == ["k0", "k2", "k4", "k6"]
    seen: list[str] = []
    cursor = None
    while True:
        page = await find(owner, app, "c", **{"$sort": {"n": -1}, "$limit": 3, "$cursor": cursor})
        seen += ids(page)
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["k2", "k5", "k1", "k4", "k0", "k3", "k6"]
    first = (await owner.get(place(app, "c"), params={"limit": 4})).json()
    rest = (await owner.get(place(app, "c"), params={"limit": 4, "cursor": first["next_cursor"]})).json()
    assert (ids(first) + ids(rest), rest["next_cursor"]) == ([f"k{number}" for number in range(7)], None)
    assert (await owner.get(place(app, "nothing"))).json() == {"items": [], "next_cursor": None}


async def test_collections_are_listed_in_pages(owner: httpx.AsyncClient) -> None:
    app, other = await make_app(owner, "one"), await make_app(owner, "two")
    await put(owner, other, "elsewhere", "k", {})
    for collection, count in (("b", 2), ("a", 1), ("c", 3)):
        for number in range(count):
            await put(owner, app, collection, str(number), {})
    first = (await owner.get(place(app), params={"limit": 2})).json()
    assert first["items"] == [{"collection": "a", "documents": 1}, {"collection": "b", "documents": 2}]
    second = (await owner.get(place(app), params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert second == {"items": [{"collection": "c", "documents": 3}], "next_cursor": None}


async def test_a_version_can_be_insisted_on(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    there = place(app, "c", "k")
    assert (await put(owner, app, "c", "k", {}, if_version=0))["version"] == 1
    async with nothing_changes(connection):
        for expected in (0, 2):
            for answer in (
                await owner.put(there, json={"data": {}, "if_version": expected}),
                await owner.patch(there, json={"merge": {}, "if_version": expected}),
            ):
                document = refused(answer, 409, "version_conflict", "if_version")
                assert (document["expected"], document["found"]) == (expected, 1)
        refused(await owner.post(place(app, "c"), json={"data": {}, "id": "k"}), 409, "already_exists", "id")
    assert (await owner.patch(there, json={"merge": {"n": 1}, "if_version": 1})).json()["version"] == 2
    assert (await owner.delete(there)).status_code == 204
    assert refused(await owner.put(there, json={"data": {}, "if_version": 3}), 409)["found"] == 0
    assert (await owner.post(place(app, "c"), json={"data": {}, "id": "k"})).json()["version"] == 4


async def test_patches_at_the_same_time_are_all_merged(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    await put(owner, app, "c", "k", {})
    statuses: list[int] = []

    async def patch(number: int) -> None:
        statuses.append((await owner.patch(place(app, "c", "k"), json={"merge": {f"n{number}": number}})).status_code)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(patch, number)
    assert statuses == [200, 200, 200]
    assert (await owner.get(place(app, "c", "k"))).json()["data"] == {"n0": 0, "n1": 1, "n2": 2}


async def test_history_shows_every_state_at_its_position_and_time(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    states = [await put(owner, app, "c", "k", {"n": number}) for number in range(3)]
    await put(owner, app, "c", "other:id", {})
    there = place(app, "c", "k")
    assert (await owner.delete(there)).status_code == 204
    refused(await owner.get(there, params={"at": 0}), 404)
    for at, state in enumerate(states, start=1):
        assert (await owner.get(there, params={"at": at})).json() == state
        assert (await owner.get(there, params={"at": state["updated_at"]})).json() == state
        assert (await owner.get(place(app, "c"), params={"at": at})).json() == {"items": [state], "next_cursor": None}
        assert (await owner.get(place(app), params={"at": at})).json()["items"] == [{"collection": "c", "documents": 1}]
    at_four = (await owner.get(place(app, "c"), params={"at": 4, "limit": 1})).json()
    rest = (await owner.get(place(app, "c"), params={"at": 4, "limit": 1, "cursor": at_four["next_cursor"]})).json()
    assert (ids(at_four), ids(rest), rest["next_cursor"]) == (["k"], ["other:id"], None)
    refused(await owner.get(there, params={"at": 5}), 404)
    assert (await owner.get(place(app), params={"at": 0})).json()["items"] == []
    history = (await owner.get(f"{API}/apps/{app}/history/docs/c/k")).json()
    assert [(event["version"], event["topic"]) for event in history["items"]] == [
        (1, "docs.DocCreated"),
        (2, "docs.DocUpdated"),
        (3, "docs.DocUpdated"),
        (4, "docs.DocDeleted"),
    ]
    assert history["items"][1]["data"]["data"] == {"n": 1}
    refused(await owner.get(f"{API}/apps/{app}/history/docs/c/never"), 404)
    refused(await owner.get(f"{API}/apps/{app}/history/docs/c/" + "k" * 600), 422, field="id")


BAD_PUTS: list[tuple[Any, str]] = [
    ({}, "$.data"),
    ({"data": 1}, "$.data"),
    ({"data": []}, "$.data"),
    ({"data": {}, "x": 1}, "$.x"),
    ({"data": {}, "if_version": -1}, "if_version"),
    ({"data": {}, "if_version": 2**63}, "if_version"),
    ({"data": {}, "if_version": 1.5}, "$.if_version"),
    ({"data": {"a": "\x00"}}, "$.data"),
    ({"data": {"a": nested(65)}}, "$.data"),
    ([1], "$"),
]
BAD_POSTS: list[tuple[Any, str]] = [
    ({}, "$.data"),
    ({"data": {}, "id": 1}, "$.id"),
    ({"data": {}, "id": ""}, "id"),
    ({"data": {}, "id": "k" * 600}, "id"),
    ({"data": {}, "filter": {}}, "$.filter"),
    ([1], "$"),
]
BAD_FINDS: list[tuple[Any, str]] = [
    ({"filter": 1}, "$.filter"),
    ({"data": {}}, "$.data"),
    ({"filter": {"$foo": 1}}, "filter"),
    ({"filter": {"a": {"$gt": None}}}, "filter"),
    ({"filter": {"a.b.c.d.e.f": 1}}, "filter"),
    ({"filter": {"a": "x" * 70_000}}, "filter"),
    ({"filter": {"$sort": 1}}, "$sort"),
    ({"filter": {"$limit": 0}}, "$limit"),
    ({"filter": {"$cursor": 1}}, "$cursor"),
    *(({"filter": {"$cursor": cursor}}, "$cursor") for cursor in BAD_CURSORS if "\x00" not in cursor),
]


async def test_bad_bodies_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    async with nothing_changes(connection):
        for body, field in BAD_PUTS:
            refused(await send(owner, "PUT", f"/apps/{app}/docs/c/k", body), 422, field=field)
        for body, field in BAD_POSTS:
            refused(await send(owner, "POST", f"/apps/{app}/docs/c", body), 422, field=field)
        for body, field in BAD_FINDS:
            refused(await send(owner, "POST", f"/apps/{app}/docs/c:find", body), 422, field=field)
        for body, field in (({"merge": 1}, "$.merge"), ({}, "$.merge"), ({"merge": {}, "if_version": "1"}, "$.if_version")):
            refused(await send(owner, "PATCH", f"/apps/{app}/docs/c/k", body), 422, field=field)
        for unreadable in (b"", b"{", b"\xff\xfe", b'{"data": NaN}', b'{"data": {"a": "\\ud800"}}'):
            refused(await owner.put(place(app, "c", "k"), content=unreadable), 400, "malformed")


async def test_bad_names_cursors_and_moments_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    await put(owner, app, "c", "k", {})
    async with nothing_changes(connection):
        for collection, doc_id, field in (("c", "k" * 600, "id"), ("c", "ä" * 257, "id"), ("c" * 129, "k", "collection"), ("ä" * 65, "k", "collection")):
            for method, body in (("GET", None), ("PUT", {"data": {}}), ("PATCH", {"merge": {}}), ("DELETE", None)):
                refused(await owner.request(method, place(app, collection, doc_id), json=body), 422, field=field)
        refused(await owner.get(place(app, "c" * 129)), 422, field="collection")
        refused(await owner.post(f"{place(app, 'c' * 129)}:find", json={}), 422, field="collection")
        refused(await owner.post(place(app, "c" * 129), json={"data": {}}), 422, field="collection")
        for path in (place(app), place(app, "c")):
            for cursor in BAD_CURSORS:
                refused(await owner.get(path, params={"cursor": cursor}), 422, field="cursor")
        for limit in ("0", "201", "x", ""):
            refused(await owner.get(place(app, "c"), params={"limit": limit}), 422, field="limit")
        future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        for at in ("", "x", "-1", "2", str(2**63), "2026-01-01", future):
            for path in (place(app), place(app, "c"), place(app, "c", "k")):
                refused(await owner.get(path, params={"at": at}), 422, field="at")


async def test_documents_of_what_is_no_app_are_missing(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    one, two = await make_app(owner, "one"), await make_app(owner, "two")
    await put(owner, one, "c", "k", {"n": 1})
    async with nothing_changes(connection):
        refused(await owner.get(place(two, "c", "k")), 404)
        assert ids(await find(owner, two, "c", n=1)) == []
        for reference in NO_IDS:
            status = 400 if reference == "%00" else 404
            for method, path, body in (
                ("GET", "", None),
                ("GET", "/c", None),
                ("GET", "/c/k", None),
                ("POST", "/c", {"data": {}}),
                ("POST", "/c:find", {}),
                ("PUT", "/c/k", {"data": {}}),
                ("PATCH", "/c/k", {"merge": {}}),
                ("DELETE", "/c/k", None),
            ):
                refused(await owner.request(method, f"{API}/apps/{reference}/docs{path}", json=body), status)
        refused(await anonymous.get(place(one, "c", "k")), 401)
        refused(await anonymous.post(f"{place(one, 'c')}:find", json={}), 401)


async def test_a_trigger_on_documents_is_created_and_bad_ones_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    source = "def handler(ctx):\n    return ctx.event.docs.id\n"
    script = (await owner.post(f"{API}/scripts", json={"app_id": app, "name": "s", "source": source})).json()["id"]
    triggers = f"{API}/apps/{app}/triggers/docs"
    answer = await owner.post(triggers, json={"script_id": script, "collection_glob": "c*", "ops": ["create", "delete", "create"]})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["kind"], answer.json()["collection_glob"], answer.json()["ops"]) == ("docs", "c*", ["create", "delete"])
    async with nothing_changes(connection):
        for wrong, field in (
            ({"collection_glob": ""}, "collection_glob"),
            ({"collection_glob": "a*b"}, "collection_glob"),
            ({"collection_glob": "x" * 130}, "collection_glob"),
            ({"ops": ["insert"]}, "$.ops[0]"),
            ({"topic_pattern": "*"}, "$.topic_pattern"),
        ):
            refused(await owner.post(triggers, json={"script_id": script, "collection_glob": "*", **wrong}), 422, field=field)
