from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import anyio
import asyncpg
import httpx
import pytest

from domain.ids import NIL_APP
from runtime.access.key_uses import KeyUses
from runtime.platform import Platform
from tests.http.admin_support import API, UNKNOWN_ID, make_app, make_script, refused
from tests.http.conftest import OWNER, Owned, client_of
from tests.http.users_support import PASSWORD, change, make_user, person, told

pytestmark = pytest.mark.anyio

LOGIN = f"{API}/auth/login"
LOGOUT = f"{API}/auth/logout"
ME = f"{API}/auth/me"
WRONG = {**OWNER, "password": "hunter2 hunter2"}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def counts(events: list[dict[str, Any]]) -> dict[str | None, int]:
    """How often it was by user; where the minute cuts what repeats itself is not the test's affair."""
    found: Counter[str | None] = Counter()
    for event in events:
        found[event["user_id"]] += event["count"]
    return dict(found)


async def test_a_login_is_in_the_log_before_its_token_is_handed_out(anonymous: httpx.AsyncClient, core: Platform, owned: Owned) -> None:
    answer = await anonymous.post(LOGIN, json=OWNER, headers={"user-agent": "browser/1 " * 100 + "x", "x-request-id": "login-1"})
    events = await core.log.read_stream(NIL_APP, f"access:{owned.user.id}")
    event: Any = events[-1].event
    assert (event.TOPIC, event.user_id, event.address) == ("access.LoggedIn", owned.user.id, "127.0.0.1")
    assert event.user_agent == ("browser/1 " * 100)[:256]
    assert (events[-1].metadata.actor, events[-1].metadata.request_id) == (f"user:{owned.user.id}", "login-1")
    anonymous.cookies.clear()
    await anonymous.post(LOGOUT, headers=bearer(answer.json()["token"]))
    (*_, left) = await told(core, "access.LoggedOut")
    assert (left["user_id"], left["session_id"]) == (str(owned.user.id), str(event.session_id))


async def test_failures_are_told_with_whose_name_it_was_or_that_it_was_nobodys(anonymous: httpx.AsyncClient, core: Platform, owned: Owned) -> None:
    for _ in range(3):
        refused(await anonymous.post(LOGIN, json=WRONG), 401)
    refused(await anonymous.post(LOGIN, json={"username": "MyPassword123", "password": "x"}), 401)
    failed = await told(core, "access.LoginFailed")
    assert counts(failed) == {str(owned.user.id): 3, None: 1}
    assert {(event["address"], event["actor"]) for event in failed} == {("127.0.0.1", "public")}
    assert "MyPassword123" not in str(failed), "people type their password where the name belongs"


async def test_throttled_logins_are_told_as_such(anonymous: httpx.AsyncClient, core: Platform, owned: Owned) -> None:
    for _ in range(8):
        await anonymous.post(LOGIN, json=WRONG)
    assert counts(await told(core, "access.LoginFailed")) == {str(owned.user.id): 5}
    assert counts(await told(core, "access.LoginThrottled")) == {str(owned.user.id): 3}


async def test_an_inactive_user_who_knows_his_password_has_failed(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, core: Platform) -> None:
    ada = await make_user(owner, "ada")
    await change(owner, ada, active=False)
    refused(await anonymous.post(LOGIN, json={"username": "ada", "password": PASSWORD}), 401, "wrong_credentials")
    assert [event["user_id"] for event in await told(core, "access.LoginFailed")] == [ada]


async def test_a_bad_credential_is_told_without_it(anonymous: httpx.AsyncClient, core: Platform, connection: asyncpg.Connection) -> None:
    token = "A" * 43
    for path in ("/apps", "/admins", "/apps"):
        refused(await anonymous.get(f"{API}{path}", headers=bearer(token)), 401)
    refused(await anonymous.get(f"{API}/apps"), 401)
    events = await told(core, "access.Refused")
    assert counts(events) == {None: 3}
    assert {(event["reason"], event["actor"], event["method"], event["address"]) for event in events} == {("bad_credential", "public", "GET", "127.0.0.1")}
    assert events[0]["route"] == f"{API}/apps"
    assert not [row for (row,) in await connection.fetch("SELECT convert_from(state, 'UTF8') || metadata::text FROM events") if token in row]


async def test_what_a_user_may_not_do_and_may_not_see_is_told(core: Platform, url: str, owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "secret")
    script = await make_script(owner, app)
    async with person(core, url, owner, "mem", "member") as (mem, member):
        refused(await member.post(f"{API}/apps", json={"name": "a", "slug": "a"}), 403)
        refused(await member.get(f"{API}/apps/secret"), 404, "app_not_found")
        refused(await member.get(f"{API}/apps/secret/kv"), 404, "app_not_found")
        refused(await member.get(f"{API}/scripts/{script}", headers={"x-request-id": "peek"}), 404)
        refused(await member.get(f"{API}/apps/nothing"), 404, "app_not_found")
        refused(await member.get(f"{API}/scripts/{UNKNOWN_ID}"), 404)
    refused(await owner.get(f"{API}/apps/nothing"), 404)
    events = await told(core, "access.Refused")
    assert {(event["actor"], event["user_id"]) for event in events} == {(f"user:{mem}", mem)}
    seen = {(event["reason"], event["method"], event["route"], event["capability"], event["app_id"]) for event in events}
    assert seen == {
        ("forbidden", "POST", f"{API}/apps", "apps.create", None),
        ("not_visible", "GET", f"{API}/apps/{{app}}", "apps.read", app),
        ("not_visible", "GET", f"{API}/apps/{{app}}/kv", "kv.read", app),
        ("not_visible", "GET", f"{API}/scripts/{{script}}", "scripts.read", app),
    }
    assert "peek" in {event["request_id"] for event in events}


async def test_a_request_that_is_only_wrong_is_no_refusal(owner: httpx.AsyncClient, core: Platform) -> None:
    refused(await owner.post(f"{API}/apps", json={"name": "a", "slug": "A!"}), 422)
    refused(await owner.get(f"{API}/nothing"), 404)
    refused(await owner.put(f"{API}/apps"), 405)
    assert await told(core, "access.Refused") == []


async def test_owners_find_them_by_topic_stream_and_actor(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, core: Platform, owned: Owned) -> None:
    refused(await anonymous.post(LOGIN, json=WRONG), 401)
    await core.access.flush(everything=True)
    for query in ({"topic": "access.LoginFailed"}, {"topic": "access.LoginFailed", "stream": f"access:{owned.user.id}"}, {"actor": "public"}):
        items = (await owner.get(f"{API}/events", params=query)).json()["items"]
        assert [item["topic"] for item in items] == ["access.LoginFailed"]
        assert items[0]["data"]["user_id"] == str(owned.user.id)


async def test_what_was_noted_is_appended_by_itself(anonymous: httpx.AsyncClient, core: Platform) -> None:
    after = await core.log.head(NIL_APP)
    refused(await anonymous.post(LOGIN, json=WRONG), 401)
    with anyio.fail_after(10):
        async for recorded in core.log.follow(NIL_APP, after):
            assert recorded.event.TOPIC == "access.LoginFailed"
            break


async def test_a_key_is_told_of_once_a_day_and_address_by_whatever_process(core: Platform, owned: Owned) -> None:
    key = UUID(UNKNOWN_ID)
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"):
        core.access.key_used(key, owned.user.id, address)
    await core.access.flush()
    core.access._uses = KeyUses()  # another process, or this one after a restart
    core.access.key_used(key, owned.user.id, "10.0.0.1")
    events = await told(core, "access.KeyUsed")
    assert [(event["key_id"], event["user_id"], event["address"]) for event in events] == [
        (UNKNOWN_ID, str(owned.user.id), address) for address in ("10.0.0.1", "10.0.0.2", "2001:db8::/64")
    ]
    assert {event["actor"] for event in events} == {f"key:{UNKNOWN_ID}"}


async def test_keys_are_told_of_where_they_are_used_and_refused(core: Platform, url: str, owner: httpx.AsyncClient, owned: Owned) -> None:
    app = await make_app(owner, "a")
    script, other = await make_script(owner, app), await make_script(owner, await make_app(owner, "b"))
    made = (await owner.post(f"{API}/api-keys", json={"name": "k", "scopes": ["script:read"], "app_id": app})).json()
    async with client_of(url, made["token"]) as client:
        for _ in range(2):
            assert (await client.get(f"{API}/apps/{app}")).status_code == 200
            assert (await client.post(f"/api/v1/execute/{script}")).status_code == 200
        refused(await client.post(f"/api/v1/execute/{other}"), 404, "script_not_found")
        refused(await client.post(f"{API}/apps", json={"name": "c", "slug": "c"}), 403)
    async with client_of(url, made["token"][:-1] + "_") as client:
        refused(await client.post(f"/api/v1/execute/{script}"), 401)
    (used,) = await told(core, "access.KeyUsed")
    assert (used["key_id"], used["user_id"], used["actor"]) == (made["id"], str(owned.user.id), f"key:{made['id']}")
    events = await told(core, "access.Refused")
    assert {(event["reason"], event["actor"], event["user_id"], event["route"], event["capability"]) for event in events} == {
        ("not_visible", f"key:{made['id']}", str(owned.user.id), "/api/v1/execute/{script_id}", "execute"),
        ("forbidden", f"key:{made['id']}", str(owned.user.id), f"{API}/apps", "apps.create"),
        ("bad_credential", "public", None, "/api/v1/execute/{script_id}", None),
    }
    assert made["token"] not in str(events)
