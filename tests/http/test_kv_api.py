from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import asyncpg
import httpx
import msgspec
import pytest
from uuid_utils.compat import uuid7

from domain.events import Metadata
from domain.kv import DeleteKey, SetKey
from domain.units import Change, Unit
from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, make_app, nested, nothing_changes, refused, send
from web.core import Core

pytestmark = pytest.mark.anyio

HOSTILE_KEYS = ("a/b", "a%2Fb", "a b", "ä", "😀", "?x=1", "#", "a:b", "a%b", "%", ":", "\n", "\x7f", "'; DROP TABLE kv_entries; --", "k" * 512)


def place(app: str, *parts: str) -> str:
    """The path of an app's data."""
    return "/".join([f"{API}/apps/{app}/kv", *(quote(part, safe="") for part in parts)])


async def put(client: httpx.AsyncClient, app: str, collection: str, key: str, value: Any, **more: Any) -> dict[str, Any]:
    """Set an entry."""
    answer = await client.put(place(app, collection, key), json={"value": value, **more})
    assert answer.status_code == 200, answer.text
    entry: dict[str, Any] = answer.json()
    return entry


async def test_an_entry_is_set_read_and_deleted(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    value = {"n": 1, "list": [None, True, 1.5, "ä😀"], "big": 2**70}
    made = await put(owner, app, "c", "k", value)
    assert made == {"collection": "c", "key": "k", "value": value, "version": 1, "expires_at": None, "updated_at": made["updated_at"]}
    for reference in (app, "one"):
        assert (await owner.get(place(reference, "c", "k"))).json() == made
    assert (await put(owner, app, "c", "k", None))["version"] == 2
    assert (await owner.get(place(app, "c", "k"))).json()["value"] is None
    assert (await owner.delete(place(app, "c", "k"))).status_code == 204
    refused(await owner.get(place(app, "c", "k")), 404)
    refused(await owner.delete(place(app, "c", "k")), 404)
    assert (await put(owner, app, "c", "k", 1))["version"] == 4


async def test_keys_are_any_text(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    for number, key in enumerate(HOSTILE_KEYS):
        await put(owner, app, "c/:%", key, number)
    for number, key in enumerate(HOSTILE_KEYS):
        found = (await owner.get(place(app, "c/:%", key))).json()
        assert (found["collection"], found["key"], found["value"]) == ("c/:%", key, number)
    listed = (await owner.get(place(app, "c/:%"))).json()
    assert [entry["key"] for entry in listed["items"]] == sorted(HOSTILE_KEYS)
    head = await position(owner, app)
    assert (await owner.get(place(app, "c/:%"), params={"at": head})).json() == listed
    assert (await owner.get(place(app), params={"at": head})).json() == (await owner.get(place(app))).json()


async def position(client: httpx.AsyncClient, app: str) -> int:
    """Where the app's log ends: the version of a hundredth entry would not do, so read it from a refusal that tells."""
    document = refused(await client.get(place(app, "c", "k"), params={"at": 2**62}), 422, field="at")
    head: int = document["head"]
    return head


async def test_entries_are_listed_by_prefix_in_pages(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    for key in ("a", "a/1", "a/2", "a/3", "b", "aa", "A"):
        await put(owner, app, "c", key, key)
    first = (await owner.get(place(app, "c"), params={"prefix": "a/", "limit": 2})).json()
    assert [entry["key"] for entry in first["items"]] == ["a/1", "a/2"]
    second = (await owner.get(place(app, "c"), params={"prefix": "a/", "limit": 2, "cursor": first["next_cursor"]})).json()
    assert ([entry["key"] for entry in second["items"]], second["next_cursor"]) == (["a/3"], None)
    everything = (await owner.get(place(app, "c"), params={"limit": 1000})).json()
    assert [entry["key"] for entry in everything["items"]] == ["A", "a", "a/1", "a/2", "a/3", "aa", "b"]
    assert (await owner.get(place(app, "nothing"))).json() == {"items": [], "next_cursor": None}


async def test_collections_are_listed_in_pages(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    other = await make_app(owner, "two")
    await put(owner, other, "elsewhere", "k", 1)
    for collection, count in (("b", 2), ("a", 1), ("c", 3)):
        for number in range(count):
            await put(owner, app, collection, str(number), number)
    first = (await owner.get(place(app), params={"limit": 2})).json()
    assert first["items"] == [{"collection": "a", "entries": 1}, {"collection": "b", "entries": 2}]
    second = (await owner.get(place(app), params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert second == {"items": [{"collection": "c", "entries": 3}], "next_cursor": None}
    assert (await owner.get(place(await make_app(owner, "three")))).json() == {"items": [], "next_cursor": None}


async def test_a_version_can_be_insisted_on(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    assert (await put(owner, app, "c", "k", 1, if_version=0))["version"] == 1
    async with nothing_changes(connection):
        for expected, found in ((0, 1), (2, 1)):
            document = refused(await owner.put(place(app, "c", "k"), json={"value": 2, "if_version": expected}), 409, "version_conflict", "if_version")
            assert (document["expected"], document["found"]) == (expected, found)
    assert (await put(owner, app, "c", "k", 2, if_version=1))["version"] == 2
    assert (await owner.delete(place(app, "c", "k"))).status_code == 204
    async with nothing_changes(connection):
        document = refused(await owner.put(place(app, "c", "k"), json={"value": 2, "if_version": 3}), 409)
        assert (document["expected"], document["found"]) == (3, 0)
    assert (await put(owner, app, "c", "k", 2, if_version=0))["version"] == 4


async def test_history_shows_every_state_at_its_position_and_time(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    entries = [await put(owner, app, "c", "k", number) for number in range(3)]
    await put(owner, app, "c", "other:key", "x")
    assert (await owner.delete(place(app, "c", "k"))).status_code == 204
    refused(await owner.get(place(app, "c", "k"), params={"at": 0}), 404)
    for at, entry in enumerate(entries, start=1):
        assert (await owner.get(place(app, "c", "k"), params={"at": at})).json() == entry
        assert (await owner.get(place(app, "c", "k"), params={"at": entry["updated_at"]})).json() == entry
        assert (await owner.get(place(app, "c"), params={"at": at})).json() == {"items": [entry], "next_cursor": None}
        assert (await owner.get(place(app), params={"at": at})).json()["items"] == [{"collection": "c", "entries": 1}]
    at_four = (await owner.get(place(app, "c"), params={"at": 4, "limit": 1})).json()
    assert [entry["key"] for entry in at_four["items"]] == ["k"]
    rest = (await owner.get(place(app, "c"), params={"at": 4, "limit": 1, "cursor": at_four["next_cursor"]})).json()
    assert ([entry["key"] for entry in rest["items"]], rest["next_cursor"]) == (["other:key"], None)
    assert [entry["key"] for entry in (await owner.get(place(app, "c"), params={"at": 4, "prefix": "other:"})).json()["items"]] == ["other:key"]
    refused(await owner.get(place(app, "c", "k"), params={"at": 5}), 404)
    assert (await owner.get(place(app, "c"), params={"at": 5})).json()["items"] == (await owner.get(place(app, "c"))).json()["items"]
    assert (await owner.get(place(app, "c"), params={"at": 0})).json()["items"] == []
    assert (await owner.get(place(app), params={"at": 0})).json()["items"] == []
    early = {"at": "2001-01-01T00:00:00Z"}
    refused(await owner.get(place(app, "c", "k"), params=early), 404)
    assert (await owner.get(place(app, "c"), params=early)).json()["items"] == []


async def test_an_expired_entry_is_absent_now_and_in_history(owner: httpx.AsyncClient, core: Core) -> None:
    app = await make_app(owner, "one")
    made = await put(owner, app, "c", "k", 1, ttl=3600)
    lasting = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["updated_at"])
    assert timedelta(minutes=59) < lasting < timedelta(minutes=61)
    # Written by a clock of two hours ago, so that its time is up without any waiting.
    past = datetime.now(UTC) - timedelta(hours=2)
    effects = (
        SetKey(collection="c", key="old", value=msgspec.Raw(b"1"), ttl_s=60.0),
        SetKey(collection="gone", key="old", value=msgspec.Raw(b"1"), ttl_s=60.0),
    )
    unit = Unit(app_id=UUID(app), metadata=Metadata(unit_id=uuid7()), now=past, changes=tuple(Change(effect) for effect in effects))
    await core.appender.append(unit)
    refused(await owner.get(place(app, "c", "old")), 404)
    assert [entry["key"] for entry in (await owner.get(place(app, "c"))).json()["items"]] == ["k"]
    listed = (await owner.get(place(app))).json()["items"]
    assert [item for item in listed if item["entries"]] == [{"collection": "c", "entries": 1}]
    for at in (3, datetime.now(UTC).isoformat()):
        refused(await owner.get(place(app, "c", "old"), params={"at": str(at)}), 404)
        assert [entry["key"] for entry in (await owner.get(place(app, "c"), params={"at": str(at)})).json()["items"]] == ["k"]
        assert (await owner.get(place(app), params={"at": str(at)})).json()["items"] == [
            {"collection": "c", "entries": 1},
            {"collection": "gone", "entries": 0},
        ]
    refused(await owner.delete(place(app, "c", "old")), 404)
    assert (await put(owner, app, "c", "old", 2, if_version=0))["version"] == 3


async def test_history_pages_over_more_entries_than_it_folds_at_once(owner: httpx.AsyncClient, core: Core) -> None:
    app = await make_app(owner, "one")
    for start in range(0, 2100, 700):
        sets = [Change(SetKey(collection="c", key=f"k:{number:04}", value=msgspec.Raw(b"1"))) for number in range(start, start + 700)]
        await core.appender.append(Unit(app_id=UUID(app), metadata=Metadata(unit_id=uuid7()), now=core.clock(), changes=tuple(sets)))
    gone = [Change(DeleteKey(collection="c", key=f"k:{number:04}")) for number in range(999)]
    await core.appender.append(Unit(app_id=UUID(app), metadata=Metadata(unit_id=uuid7()), now=core.clock(), changes=tuple(gone)))
    assert (await owner.get(place(app), params={"at": 2100})).json()["items"] == [{"collection": "c", "entries": 2100}]
    assert (await owner.get(place(app), params={"at": 3099})).json()["items"] == [{"collection": "c", "entries": 1101}]
    keys: list[str] = []
    params: dict[str, Any] = {"at": 2100, "limit": 1000}
    for _ in range(3):
        page = (await owner.get(place(app, "c"), params=params)).json()
        keys += [entry["key"] for entry in page["items"]]
        params["cursor"] = page["next_cursor"]
    assert params["cursor"] is None
    assert keys == [f"k:{number:04}" for number in range(2100)]


BAD_BODIES: list[tuple[Any, str]] = [
    ({}, "$.value"),
    ({"value": 1, "x": 1}, "$.x"),
    ({"value": 1, "ttl": 0}, "ttl"),
    ({"value": 1, "ttl": -1}, "ttl"),
    ({"value": 1, "ttl": 1e300}, "ttl"),
    ({"value": 1, "ttl": "1"}, "$.ttl"),
    ({"value": 1, "ttl": True}, "$.ttl"),
    ({"value": 1, "if_version": -1}, "if_version"),
    ({"value": 1, "if_version": 2**63}, "if_version"),
    ({"value": 1, "if_version": 1.5}, "$.if_version"),
    ({"value": "a\x00b"}, "$.value"),
    ({"value": {"a\x00": 1}}, "$.value"),
    ({"value": nested(65)}, "$.value"),
    ([1], "$"),
    (None, "$"),
]


async def test_bad_entries_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    async with nothing_changes(connection):
        for body, field in BAD_BODIES:
            refused(await send(owner, "PUT", f"/apps/{app}/kv/c/k", body), 422, field=field)
        deep = b'{"value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        refused(await owner.put(place(app, "c", "k"), content=deep), 422)
        for unreadable in (b"", b"{", b"\xff\xfe", b'{"value": NaN}', b'{"value": Infinity}', b'{"value": "\\ud800"}', b'{"value": 1} x'):
            refused(await owner.put(place(app, "c", "k"), content=unreadable), 400, "malformed")


async def test_bad_names_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    async with nothing_changes(connection):
        for collection, key, field in (("c", "k" * 600, "key"), ("c", "ä" * 257, "key"), ("c" * 129, "k", "collection"), ("ä" * 65, "k", "collection")):
            for method, body in (("GET", None), ("PUT", {"value": 1}), ("DELETE", None)):
                refused(await owner.request(method, place(app, collection, key), json=body), 422, field=field)
        refused(await owner.get(place(app, "c" * 129)), 422, field="collection")
        refused(await owner.get(place(app, "c"), params={"prefix": "k" * 600}), 422, field="prefix")
        refused(await owner.get(place(app, "c"), params={"prefix": "\x00"}), 422, field="prefix")
        for path in (f"{API}/apps/{app}/kv/c/%00", f"{API}/apps/{app}/kv/%00/k", f"{API}/apps/{app}/kv/c/%FF", f"{API}/apps/{app}/kv/c/%ED%A0%80"):
            refused(await owner.put(path, json={"value": 1}), 400, "malformed")
        for path in (f"{API}/apps/{app}/kv/c/", f"{API}/apps/{app}/kv//k"):
            answer = await owner.put(path, json={"value": 1})
            assert answer.status_code in {404, 405, 422}, answer.text


async def test_malformed_cursors_limits_and_moments_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    await put(owner, app, "c", "k", 1)
    async with nothing_changes(connection):
        for path in (place(app), place(app, "c")):
            for cursor in BAD_CURSORS:
                refused(await owner.get(path, params={"cursor": cursor}), 422, field="cursor")
        for limit in ("0", "1001", "x", ""):
            refused(await owner.get(place(app, "c"), params={"limit": limit}), 422, field="limit")
        refused(await owner.get(place(app), params={"limit": "201"}), 422, field="limit")
        future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        for at in ("", "x", "-1", "2", "1.5", str(2**63), "9" * 30, "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "²", future):
            for path in (place(app), place(app, "c"), place(app, "c", "k")):
                refused(await owner.get(path, params={"at": at}), 422, field="at")


async def test_data_of_what_is_no_app_is_missing(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    one, two = await make_app(owner, "one"), await make_app(owner, "two")
    await put(owner, one, "c", "k", 1)
    async with nothing_changes(connection):
        refused(await owner.get(place(two, "c", "k")), 404)
        for reference in NO_IDS:
            status = 400 if reference == "%00" else 404
            for path in ("", "/c", "/c/k"):
                refused(await owner.get(f"{API}/apps/{reference}/kv{path}"), status)
            refused(await owner.put(f"{API}/apps/{reference}/kv/c/k", json={"value": 1}), status)
            refused(await owner.delete(f"{API}/apps/{reference}/kv/c/k"), status)
        refused(await anonymous.get(place(one, "c", "k")), 401)
        refused(await anonymous.put(place(one, "c", "k"), json={"value": 1}), 401)
