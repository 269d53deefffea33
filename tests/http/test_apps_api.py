from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, UNKNOWN_ID, make_app, nested, nothing_changes, refused, send

pytestmark = pytest.mark.anyio


async def test_an_app_is_created_and_found_by_id_and_slug(owner: httpx.AsyncClient) -> None:
    answer = await owner.post(f"{API}/apps", json={"name": "  My shop ", "slug": "shop"})
    assert answer.status_code == 201
    made = answer.json()
    assert (made["name"], made["slug"], made["my_role"]) == ("My shop", "shop", "app_admin")
    for reference in (made["id"], "shop"):
        found = await owner.get(f"{API}/apps/{reference}")
        assert found.status_code == 200
        assert found.json() == made


async def test_apps_are_listed_in_pages(owner: httpx.AsyncClient) -> None:
    made = [await make_app(owner, f"app-{number}") for number in range(3)]
    first = (await owner.get(f"{API}/apps", params={"limit": 2})).json()
    assert [app["id"] for app in first["items"]] == made[:2]
    second = (await owner.get(f"{API}/apps", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [app["id"] for app in second["items"]] == made[2:]
    assert second["next_cursor"] is None


async def test_a_slug_belongs_to_one_app(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await make_app(owner, "shop")
    async with nothing_changes(connection):
        refused(await owner.post(f"{API}/apps", json={"name": "b", "slug": "shop"}), 409, "slug_taken", "slug")


BAD_APPS: list[tuple[Any, str]] = [
    ({"name": "a"}, "$.slug"),
    ({"slug": "a"}, "$.name"),
    ({"name": "a", "slug": "a", "x": 1}, "$.x"),
    ({"name": 1, "slug": "a"}, "$.name"),
    ({"name": None, "slug": "a"}, "$.name"),
    ({"name": nested(70), "slug": "a"}, "$.name"),
    ({"name": "", "slug": "a"}, "name"),
    ({"name": " ", "slug": "a"}, "name"),
    ({"name": "a" * 101, "slug": "a"}, "name"),
    ({"name": "a\x00b", "slug": "a"}, "$.name"),
    ({"name": "a", "slug": ""}, "slug"),
    ({"name": "a", "slug": "A"}, "slug"),
    ({"name": "a", "slug": "-a"}, "slug"),
    ({"name": "a", "slug": "a.b"}, "slug"),
    ({"name": "a", "slug": "a\n"}, "slug"),
    ({"name": "a", "slug": "a" * 64}, "slug"),
    ({"name": "a", "slug": UNKNOWN_ID}, "slug"),
    ([], "$"),
]


async def test_bad_apps_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    async with nothing_changes(connection):
        for body, field in BAD_APPS:
            refused(await send(owner, "POST", "/apps", body), 422, field=field)
        for content in (b"", b"{", b"\xff", b'{"name": NaN, "slug": "a"}', b'{"name": "\\ud800", "slug": "a"}'):
            refused(await owner.post(f"{API}/apps", content=content), 400, "malformed")


async def test_what_is_no_app_is_missing(owner: httpx.AsyncClient) -> None:
    for reference in NO_IDS:
        refused(await owner.get(f"{API}/apps/{reference}"), 400 if reference == "%00" else 404)


async def test_malformed_cursors_and_limits_are_refused(owner: httpx.AsyncClient) -> None:
    for cursor in BAD_CURSORS:
        refused(await owner.get(f"{API}/apps", params={"cursor": cursor}), 422, field="cursor")
    for limit in ("0", "201", "-1", "x", "1.5", ""):
        refused(await owner.get(f"{API}/apps", params={"limit": limit}), 422, field="limit")


async def test_the_anonymous_are_not_let_in(anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    async with nothing_changes(connection):
        refused(await anonymous.get(f"{API}/apps"), 401)
        refused(await anonymous.post(f"{API}/apps", json={"name": "a", "slug": "a"}), 401)
