"""Settings of apps and of the instance over HTTP."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from runtime.platform import Platform, open_platform
from tests.http.admin_support import API, NO_IDS, make_app, nested, nothing_changes, refused, send
from tests.http.conftest import SETTINGS, Owned, client_of, new_session, serve
from web.main import build

pytestmark = pytest.mark.anyio

NOTHING = {"requests_per_day": None, "executions_per_day": None, "events_per_day": None, "storage_bytes": None}
NO_LIMITS = {"requests_per_minute": None, "requests_per_minute_per_key": None}


async def test_an_app_begins_without_bounds_and_without_cors(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "shop")
    found = (await owner.get(f"{API}/apps/{app}/settings")).json()
    assert found["cors"]["origins"] == []
    assert found["limits"] == NO_LIMITS
    assert found["quotas"] == NOTHING
    assert found["effective"] == {"limits": NO_LIMITS, "quotas": NOTHING}
    assert (found["server_timing"], found["version"], found["updated_at"]) == (False, 0, None)


async def test_a_patch_is_merged_and_is_one_event_that_tells_all(owner: httpx.AsyncClient) -> None:
    await make_app(owner, "shop")
    path = f"{API}/apps/shop/settings"
    first = await owner.patch(path, json={"cors": {"origins": ["https://a.example"], "max_age_s": 5}, "limits": {"requests_per_minute": 60}})
    assert first.status_code == 200, first.text
    second = (await owner.patch(path, json={"cors": {"max_age_s": None}, "quotas": {"events_per_day": 9}})).json()
    assert (second["cors"]["origins"], second["cors"]["max_age_s"]) == (["https://a.example"], 600)
    assert second["limits"]["requests_per_minute"] == 60
    assert second["effective"]["quotas"]["events_per_day"] == 9
    assert second["version"] == 2
    assert second == (await owner.get(path)).json()
    third = (await owner.patch(path, json={"cors": None, "limits": None})).json()
    assert (third["cors"]["origins"], third["limits"]) == ([], NO_LIMITS)
    events = (await owner.get(f"{API}/apps/shop/events", params={"topic": "settings.AppSettingsChanged"})).json()["items"]
    assert [event["data"]["settings"]["limits"]["requests_per_minute"] for event in events] == [60, 60, None]
    assert events[0]["metadata"]["actor"].startswith("user:")


async def test_a_patch_that_changes_nothing_is_no_event(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await make_app(owner, "shop")
    async with nothing_changes(connection):
        nothing: tuple[dict[str, Any], ...] = ({}, {"server_timing": False}, {"cors": {}}, {"limits": None})
        for body in nothing:
            assert (await owner.patch(f"{API}/apps/shop/settings", json=body)).status_code == 200


BAD: list[tuple[Any, str | None]] = [
    ([], "$"),
    ({"corz": {}}, "$.corz"),
    ({"cors": {"origin": []}}, "$.cors.origin"),
    ({"cors": {"origins": "https://a"}}, "$.cors.origins"),
    ({"cors": {"origins": ["https://a/"]}}, "$.cors.origins[0]"),
    ({"cors": {"origins": ["x" * 301]}}, "$.cors.origins[0]"),
    ({"cors": {"origins": ["*"], "credentials": True}}, "$.cors.credentials"),
    ({"cors": {"max_age_s": -1}}, "$.cors.max_age_s"),
    ({"limits": {"requests_per_minute": 0}}, "$.limits.requests_per_minute"),
    ({"limits": {"requests_per_minute": "60"}}, "$.limits.requests_per_minute"),
    ({"limits": {"requests_per_minute": 1.5}}, "$.limits.requests_per_minute"),
    ({"limits": {"requests_per_minute": 10**30}}, "$.limits.requests_per_minute"),
    ({"quotas": {"storage_bytes": 2**53 + 1}}, "$.quotas.storage_bytes"),
    ({"quotas": {"storage": 1}}, "$.quotas.storage"),
    ({"server_timing": 1}, "$.server_timing"),
    ({"limits": nested(70)}, None),
]


@pytest.mark.parametrize(("body", "field"), BAD)
async def test_bad_settings_are_refused_by_path(owner: httpx.AsyncClient, connection: asyncpg.Connection, body: Any, field: str | None) -> None:
    await make_app(owner, "shop")
    async with nothing_changes(connection):
        refused(await send(owner, "PATCH", "/apps/shop/settings", body), 422, "invalid", field)


async def test_settings_of_no_app_are_404(owner: httpx.AsyncClient) -> None:
    for reference in NO_IDS[1:5]:
        refused(await owner.get(f"{API}/apps/{reference}/settings"), 404, "app_not_found")
        refused(await owner.patch(f"{API}/apps/{reference}/settings", json={}), 404, "app_not_found")


async def test_ceilings_bound_every_app_at_once(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await make_app(owner, "shop")
    app = f"{API}/apps/shop/settings"
    await owner.patch(app, json={"limits": {"requests_per_minute": 100}})
    body = {"ceilings": {"limits": {"requests_per_minute": 50}, "quotas": {"storage_bytes": 1000}}, "defaults": {"quotas": {"events_per_day": 7}}}
    changed = (await owner.patch(f"{API}/settings", json=body)).json()
    assert (changed["version"], changed["ceilings"]["quotas"]["storage_bytes"]) == (1, 1000)
    held = (await owner.get(app)).json()
    assert held["limits"]["requests_per_minute"] == 100
    assert held["effective"]["limits"]["requests_per_minute"] == 50
    assert held["effective"]["quotas"] == {**NOTHING, "storage_bytes": 1000, "events_per_day": 7}
    async with nothing_changes(connection):
        document = refused(await owner.patch(app, json={"quotas": {"storage_bytes": 1001}}), 422, "above_ceiling", "$.quotas.storage_bytes")
        assert (document["requested"], document["ceiling"]) == (1001, 1000)
        above = await owner.patch(f"{API}/settings", json={"defaults": {"quotas": {"storage_bytes": 1001}}})
        refused(above, 422, "above_ceiling", "$.defaults.quotas.storage_bytes")
        refused(await owner.patch(f"{API}/settings", json={"ceilings": {"cors": {}}}), 422, "invalid", "$.ceilings.cors")
    assert (await owner.patch(app, json={"quotas": {"events_per_day": 8}})).json()["effective"]["quotas"]["events_per_day"] == 8
    events = (await owner.get(f"{API}/events", params={"topic": "settings.InstanceSettingsChanged"})).json()["items"]
    assert [event["data"]["settings"]["ceilings"]["quotas"]["storage_bytes"] for event in events] == [1000]


async def test_a_change_holds_in_every_process_when_its_author_is_answered(core: Platform, dsn: str, owned: Owned) -> None:
    async with open_platform(dsn, SETTINGS) as other, serve(build(core)) as url, client_of(url, await new_session(core, owned)) as client:
        app = (await client.post(f"{API}/apps", json={"name": "shop", "slug": "shop"})).json()["id"]
        app_id = await other.directory.app_of_host("shop.localhost")
        assert str(app_id) == app
        assert app_id is not None
        for bound in (5, 6):
            await client.patch(f"{API}/apps/shop/settings", json={"limits": {"requests_per_minute": bound}})
            assert (await other.directory.view(app_id)).bounds.limits.requests_per_minute == bound
        await client.patch(f"{API}/settings", json={"ceilings": {"limits": {"requests_per_minute": 3}}})
        assert (await other.directory.view(app_id)).bounds.limits.requests_per_minute == 3
        assert (await core.directory.view(app_id)).bounds.limits.requests_per_minute == 3
