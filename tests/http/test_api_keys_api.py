from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import anyio
import asyncpg
import httpx
import pytest

from domain.api_keys import is_token
from domain.authz import PUBLIC, Scope
from domain.errors import Conflict
from domain.users import InstanceRole
from projections.control.principals import principal_of_actor
from runtime.admin.api_keys import WantedKey
from runtime.platform import Platform
from tests.http.admin_support import (
    API,
    BAD_CURSORS,
    NO_IDS,
    UNKNOWN_ID,
    make_app,
    make_route,
    make_script,
    nested,
    nothing_changes,
    refused,
    send,
)
from tests.http.conftest import Owned, client_of
from tests.http.people import ALL_SCOPES, change_user, make_user, session_of
from tests.runtime.world import eventually
from web.admin.call import AdminCall
from web.admin.services import own_keys_of

pytestmark = pytest.mark.anyio

KEYS = f"{API}/api-keys"
WHOAMI = "def handler(ctx):\n    return ctx.request.headers.get('authorization', 'none')\n"

Client = Callable[[str], httpx.AsyncClient]


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    """Makes clients with a token."""
    opened: list[httpx.AsyncClient] = []

    def make(token: str) -> httpx.AsyncClient:
        opened.append(client_of(url, token))
        return opened[-1]

    yield make
    for each in opened:
        await each.aclose()


async def make_key(by: httpx.AsyncClient, *scopes: str, **more: Any) -> dict[str, Any]:
    answer = await by.post(KEYS, json={"name": "ci", "scopes": list(scopes or ALL_SCOPES), **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def without_token(made: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in made.items() if name != "token"}, "last_used_at": None}


async def test_a_key_is_made_used_listed_and_revoked(owner: httpx.AsyncClient, client: Client, owned: Owned) -> None:
    answer = await owner.post(KEYS, json={"name": " deploy ", "scopes": ["script:write", "script:read", "script:read"]})
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert is_token(made["token"])
    assert made == {
        "id": made["id"],
        "token": made["token"],
        "prefix": made["token"][:12],
        "name": "deploy",
        "scopes": ["script:read", "script:write"],
        "app_id": None,
        "expires_at": None,
        "created_at": made["created_at"],
    }
    key = client(made["token"])
    me = (await key.get(f"{API}/auth/me")).json()
    assert (me["user"]["id"], me["expires_at"]) == (str(owned.user.id), None)
    assert (await key.get(f"{API}/apps")).status_code == 200
    assert "lacks the scope" in refused(await key.post(f"{API}/apps", json={"name": "a", "slug": "a"}), 403)["detail"]

    (listed,) = (await owner.get(KEYS)).json()["items"]
    assert {**listed, "last_used_at": None} == without_token(made)
    assert (await owner.delete(f"{KEYS}/{made['id']}")).status_code == 204
    refused(await key.get(f"{API}/auth/me"), 401)
    assert (await owner.get(KEYS)).json()["items"] == []
    refused(await owner.delete(f"{KEYS}/{made['id']}"), 404, "key_not_found")


async def test_neither_log_nor_vault_has_a_token(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    made = await make_key(owner)
    await owner.delete(f"{KEYS}/{made['id']}")
    kept = await make_key(owner)
    events = (await owner.get(f"{API}/events", params={"limit": 200})).json()["items"]
    topics = [event["topic"] for event in events if event["stream"].startswith("api_key:")]
    assert topics == ["api_keys.ApiKeyCreated", "api_keys.ApiKeyRevoked", "api_keys.ApiKeyCreated"]
    (row,) = await connection.fetch("SELECT * FROM vault_api_keys")
    assert len(row["hash"]) == 32
    everything = json.dumps(events) + str(dict(row)) + str(await connection.fetch("SELECT * FROM api_keys"))
    for secret in (made["token"], kept["token"], kept["token"][12:], row["hash"].hex()):
        assert secret not in everything.replace(str(row["hash"]), "")


async def test_what_is_no_key_of_anybody(owner: httpx.AsyncClient, client: Client) -> None:
    token = (await make_key(owner))["token"]
    for wrong in (
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        token[:12] + "A" * 35,
        "pic_" + "A" * 43,
        "pic_",
        token[4:],
        token.upper(),
        token + "A",
        f"{token} x",
    ):
        refused(await client(wrong).get(f"{API}/auth/me"), 401, "unauthenticated")


async def test_the_last_use_is_noted_behind_the_request_and_at_most_once_a_minute(
    owner: httpx.AsyncClient, client: Client, connection: asyncpg.Connection
) -> None:
    made = await make_key(owner)
    key = client(made["token"])

    async def used() -> str | None:
        found: str | None = (await owner.get(KEYS)).json()["items"][0]["last_used_at"]
        return found

    await key.get(f"{API}/auth/me")
    first = await eventually(used)
    await key.get(f"{API}/auth/me")
    other = client((await make_key(owner))["token"])
    await other.get(f"{API}/auth/me")
    count = "SELECT count(*) FROM vault_api_keys WHERE last_used_at IS NOT NULL"

    async def noted() -> int:
        found: int = await connection.fetchval(count)
        return found

    await eventually(noted, lambda keys: keys == 2)
    assert await used() == first, "what came after it was noted before the other key's use"
    await connection.execute("UPDATE vault_api_keys SET last_used_at = last_used_at - interval '61 s' WHERE key_id = $1", UUID(made["id"]))
    await key.get(f"{API}/auth/me")
    await eventually(used, lambda at: at is not None and first is not None and at > first)


async def test_keys_expire_by_the_databases_clock(owner: httpx.AsyncClient, client: Client, connection: asyncpg.Connection) -> None:
    made = await make_key(owner, expires_at="2999-01-01T00:00:00+01:00")
    assert made["expires_at"] == "2998-12-31T23:00:00Z"
    key = client(made["token"])
    assert (await key.get(f"{API}/auth/me")).json()["expires_at"] == made["expires_at"]
    await connection.execute("UPDATE api_keys SET expires_at = now()")
    refused(await key.get(f"{API}/auth/me"), 401)
    assert len((await owner.get(KEYS)).json()["items"]) == 1, "it is listed until it is deleted"
    assert (await owner.delete(f"{KEYS}/{made['id']}")).status_code == 204


async def test_a_key_works_on_the_data_plane(owner: httpx.AsyncClient, client: Client, anonymous: httpx.AsyncClient) -> None:
    app, other = await make_app(owner, "shop"), await make_app(owner, "other")
    script, elsewhere = await make_script(owner, app, source=WHOAMI), await make_script(owner, other)
    await make_route(owner, script, "/who")
    bound = client((await make_key(owner, "script:read", app_id=app))["token"])
    assert (await bound.post(f"/api/v1/execute/{script}")).json() == "none", "the key is the caller's secret, not the script's"
    refused(await bound.post(f"/api/v1/execute/{elsewhere}"), 404, "script_not_found")
    refused(await client((await make_key(owner, "log:read", app_id=app))["token"]).post(f"/api/v1/execute/{script}"), 403)
    refused(await client("pic_" + "A" * 43).post(f"/api/v1/execute/{script}"), 401)
    host = {"host": "shop.localhost"}
    assert (await bound.get("/who", headers=host)).json() == "none"
    assert (await anonymous.get("/who", headers=host)).json() == "none"


async def test_a_public_route_runs_with_the_rights_of_the_key(owner: httpx.AsyncClient, client: Client) -> None:
    app = await make_app(owner, "shop")
    source = "def handler(ctx):\n    kv.collection('c').set('k', 1)\n    return 'done'\n"
    await make_route(owner, await make_script(owner, app, source=source), "/write", method="POST")
    host = {"host": "shop.localhost"}
    reader = client((await make_key(owner, "script:read", app_id=app))["token"])
    writer = client((await make_key(owner, "script:write", app_id=app))["token"])
    elsewhere = client((await make_key(owner, "script:write", app_id=await make_app(owner, "other")))["token"])
    assert (await writer.post("/write", headers=host)).json() == "done"
    for lacking in (reader, elsewhere):
        assert "app_kv_write is required" in refused(await lacking.post("/write", headers=host), 502)["detail"]


async def test_a_key_follows_live_projections(owner: httpx.AsyncClient, client: Client) -> None:
    app = await make_app(owner, "shop")
    assert (await owner.put(f"{API}/apps/{app}/kv/c/k", json={"value": 1})).status_code == 200
    made = await make_key(owner, "script:read", app_id=app)
    host = {"host": "shop.localhost"}
    async with client(made["token"]).stream("GET", "/realtime/kv/c", headers=host) as live:
        assert live.status_code == 200
        assert '"k"' in await anext(chunk async for chunk in live.aiter_text() if "snapshot" in chunk)
    wrong = client((await make_key(owner, "log:read", app_id=app))["token"])
    refused(await wrong.get("/realtime/kv/c", headers=host), 404)


async def test_a_bound_key_sees_its_app_alone(owner: httpx.AsyncClient, client: Client) -> None:
    app, other = await make_app(owner, "shop"), await make_app(owner, "other")
    bound = client((await make_key(owner, *[scope for scope in ALL_SCOPES if scope != "instance:admin"], app_id=app))["token"])
    assert [found["id"] for found in (await bound.get(f"{API}/apps")).json()["items"]] == [app]
    refused(await bound.get(f"{API}/apps/{other}"), 404, "app_not_found")
    refused(await bound.get(f"{API}/events"), 403)
    refused(await bound.get(KEYS), 403)


WRONG: list[tuple[Any, str]] = [
    ({"scopes": ["script:read"]}, "$.name"),
    ({"name": "a"}, "$.scopes"),
    ({"name": "", "scopes": ["script:read"]}, "name"),
    ({"name": "a" * 101, "scopes": ["script:read"]}, "name"),
    ({"name": "a", "scopes": []}, "scopes"),
    ({"name": "a", "scopes": ["*"]}, "$.scopes[0]"),
    ({"name": "a", "scopes": "script:read"}, "$.scopes"),
    ({"name": "a", "scopes": ["script:read"], "x": 1}, "$.x"),
    ({"name": "a", "scopes": ["script:read"], "app_id": UNKNOWN_ID}, "app_id"),
    ({"name": "a", "scopes": ["script:read"], "app_id": "shop"}, "app_id"),
    ({"name": "a", "scopes": ["script:read"], "app_id": 1}, "$.app_id"),
    ({"name": "a", "scopes": ["script:read"], "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ({"name": "a", "scopes": ["script:read"], "expires_at": "2999-01-01T00:00:00"}, "expires_at"),
    ({"name": "a", "scopes": ["script:read"], "expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
    ({"name": "a", "scopes": ["script:read"], "expires_at": 1}, "$.expires_at"),
    ({"name": "a", "scopes": nested(70)}, "$.scopes"),
]


@pytest.mark.parametrize(("body", "field"), WRONG, ids=range(len(WRONG)))
async def test_wrong_bodies_change_nothing(owner: httpx.AsyncClient, connection: asyncpg.Connection, body: Any, field: str) -> None:
    async with nothing_changes(connection):
        refused(await send(owner, "POST", "/api-keys", body), 422, field=field)
    assert await connection.fetchval("SELECT count(*) FROM vault_api_keys") == 0


async def test_a_bound_key_cannot_have_instance_admin(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "shop")
    async with nothing_changes(connection):
        refused(await owner.post(KEYS, json={"name": "a", "scopes": ["instance:admin"], "app_id": app}), 422, "invalid", "scopes")


async def test_an_app_is_named_by_its_slug_as_elsewhere(owner: httpx.AsyncClient, core: Platform, client: Client, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "shop")
    assert (await make_key(owner, "script:read", app_id="shop"))["app_id"] == app
    await owner.patch(f"{API}/apps/{app}", json={"slug": "store"})
    stranger = client(await session_of(core, await make_user(core, "ada")))
    async with nothing_changes(connection):
        for who, slug in [(owner, "shop"), (owner, ""), (owner, "x" * 1000), (stranger, "store"), (stranger, "shop"), (stranger, "none")]:
            refused(await who.post(KEYS, json={"name": "a", "scopes": ["script:read"], "app_id": slug}), 422, "unknown_app", "app_id")


async def test_a_key_is_bound_only_to_what_its_maker_sees(owner: httpx.AsyncClient, core: Platform, client: Client, connection: asyncpg.Connection) -> None:
    app, other = await make_app(owner, "shop"), await make_app(owner, "other")
    user = await make_user(core, "ada")
    await owner.post(f"{API}/apps/{app}/members", json={"user_id": str(user.id), "role": "viewer"})
    ada = client(await session_of(core, user))
    bound = client((await make_key(ada, app_id=app, scopes=["script:read", "script:write"]))["token"])
    assert (await bound.get(f"{API}/apps/{app}")).json()["my_role"] == "viewer"
    refused(await bound.post(f"{API}/scripts", json={"app_id": app, "name": "a", "source": "x"}), 403)
    async with nothing_changes(connection):
        refused(await ada.post(KEYS, json={"name": "a", "scopes": ["script:read"], "app_id": other}), 422, "unknown_app", "app_id")
    await owner.delete(f"{API}/apps/{app}/members/{user.id}")
    refused(await bound.get(f"{API}/apps/{app}"), 404, "app_not_found")
    assert (await bound.get(f"{API}/auth/me")).status_code == 200, "the key lives; there is nothing that it opens"


async def test_a_key_makes_none_that_is_wider(owner: httpx.AsyncClient, client: Client, connection: asyncpg.Connection) -> None:
    maker = client((await make_key(owner, "instance:admin", "script:read", expires_at="2999-01-01T00:00:00Z"))["token"])
    soon = {"expires_at": "2998-01-01T00:00:00Z"}
    app = await make_app(owner, "shop")
    async with nothing_changes(connection):
        for body, field in (
            ({"scopes": ["script:write"], **soon}, "scopes"),
            ({"scopes": ["script:read"]}, "expires_at"),
            ({"scopes": ["script:read"], "expires_at": "3000-01-01T00:00:00Z"}, "expires_at"),
        ):
            refused(await maker.post(KEYS, json={"name": "a", **body}), 422, "cannot_escalate", field)
    await make_key(maker, "script:read", app_id=app, **soon)
    assert [key["app_id"] for key in (await maker.get(KEYS)).json()["items"]] == [None, app]


async def test_keys_are_ones_own(owner: httpx.AsyncClient, core: Platform, client: Client, connection: asyncpg.Connection) -> None:
    made = await make_key(owner)
    roles: tuple[InstanceRole, ...] = ("member", "owner")
    for role in roles:
        other = client(await session_of(core, await make_user(core, f"another-{role}", role)))
        assert (await other.get(KEYS)).json()["items"] == []
        async with nothing_changes(connection):
            refused(await other.delete(f"{KEYS}/{made['id']}"), 404, "key_not_found")
    async with nothing_changes(connection):
        for segment in NO_IDS[:5]:
            refused(await owner.delete(f"{KEYS}/{segment}"), 404)


async def test_pages(owner: httpx.AsyncClient) -> None:
    made = [(await make_key(owner))["id"] for _ in range(3)]
    first = (await owner.get(KEYS, params={"limit": 2})).json()
    second = (await owner.get(KEYS, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [key["id"] for key in (*first["items"], *second["items"])] == made
    assert second["next_cursor"] is None
    for cursor in BAD_CURSORS:
        refused(await owner.get(KEYS, params={"cursor": cursor}), 422, field="cursor")


async def test_a_user_has_so_many_keys_also_when_they_are_made_at_once(
    owner: httpx.AsyncClient, core: Platform, monkeypatch: pytest.MonkeyPatch, connection: asyncpg.Connection, client: Client
) -> None:
    monkeypatch.setattr("runtime.admin.api_keys.MAX_KEYS", 3)
    statuses: list[int] = []

    async def make() -> None:
        statuses.append((await owner.post(KEYS, json={"name": "a", "scopes": ["log:read"]})).status_code)

    async with anyio.create_task_group() as together:
        for _ in range(6):
            together.start_soon(make)
    assert statuses.count(201) == 3
    assert set(statuses) == {201, 409}
    async with nothing_changes(connection):
        refused(await owner.post(KEYS, json={"name": "a", "scopes": ["log:read"]}), 409, "too_many_keys")
    assert await connection.fetchval("SELECT count(*) FROM vault_api_keys") == 3, "nothing is left of those that were refused"
    await make_key(client(await session_of(core, await make_user(core, "ada"))))
    await connection.execute("UPDATE api_keys SET expires_at = now() WHERE key_id = $1", UUID((await owner.get(KEYS)).json()["items"][0]["id"]))
    await make_key(owner)


async def test_with_its_owner_a_key_ends_for_good(owner: httpx.AsyncClient, core: Platform, client: Client, connection: asyncpg.Connection) -> None:
    ada, bob = await make_user(core, "ada"), await make_user(core, "bob")
    token, other = [(await make_key(client(await session_of(core, user))))["token"] for user in (ada, bob)]
    assert (await owner.patch(f"{API}/admins/{ada.id}", json={"instance_role": "admin"})).status_code == 200
    assert (await client(token).get(f"{API}/auth/me")).json()["user"]["instance_role"] == "admin"
    for active in (False, True):
        assert (await owner.patch(f"{API}/admins/{ada.id}", json={"active": active})).status_code == 200
        refused(await client(token).get(f"{API}/auth/me"), 401)
    assert (await owner.delete(f"{API}/admins/{bob.id}")).status_code == 204
    refused(await client(other).get(f"{API}/auth/me"), 401)
    await connection.execute("UPDATE vault_api_keys SET created_at = now() - interval '1 h'")
    await core.api_keys.sweep()
    assert await connection.fetchval("SELECT count(*) FROM vault_api_keys") == 0


async def test_a_password_changed_leaves_keys_alone(owner: httpx.AsyncClient, core: Platform, client: Client) -> None:
    ada = await make_user(core, "ada")
    token = (await make_key(client(await session_of(core, ada))))["token"]
    assert (await owner.patch(f"{API}/admins/{ada.id}", json={"password": "another password"})).status_code == 200
    assert (await client(token).get(f"{API}/auth/me")).status_code == 200


async def test_with_its_app_a_bound_key_ends(owner: httpx.AsyncClient, client: Client) -> None:
    app = await make_app(owner, "shop")
    bound = client((await make_key(owner, "script:read", app_id=app))["token"])
    assert (await bound.get(f"{API}/auth/me")).status_code == 200
    assert (await owner.delete(f"{API}/apps/{app}")).status_code == 204
    refused(await bound.get(f"{API}/auth/me"), 401)


async def test_the_sweep_leaves_what_is_about_to_begin(owner: httpx.AsyncClient, core: Platform, connection: asyncpg.Connection) -> None:
    made = await make_key(owner)
    await core.api_keys.mint(UUID(int=7))
    await core.api_keys.sweep()
    assert await connection.fetchval("SELECT count(*) FROM vault_api_keys") == 2
    await connection.execute("UPDATE vault_api_keys SET created_at = now() - interval '1 h'")
    await core.api_keys.sweep()
    assert await connection.fetchval("SELECT key_id FROM vault_api_keys") == UUID(made["id"])


async def test_whoever_acts_by_a_key_acts_while_it_lives(owner: httpx.AsyncClient, core: Platform, client: Client, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "shop")
    ada = await make_user(core, "ada")
    await owner.post(f"{API}/apps/{app}/members", json={"user_id": str(ada.id), "role": "app_admin"})
    session = client(await session_of(core, ada))
    until = datetime.now(UTC) + timedelta(hours=1)
    keys = [await make_key(session, "script:read", "app:admin", app_id=app, expires_at=until.isoformat()) for _ in range(3)]
    for made in keys:
        principal = await principal_of_actor(core.reader, f"key:{made['id']}")
        assert principal is not None
        identity = await core.authentication.authenticate(made["token"])
        assert identity is not None
        assert principal == identity.principal
        assert (principal.kind, principal.app_roles, principal.bound_app) == ("key", {UUID(app): "app_admin"}, UUID(app))
        assert principal.scopes == frozenset[Scope]({"script:read", "app:admin"})
    assert (await session.delete(f"{KEYS}/{keys[0]['id']}")).status_code == 204
    await connection.execute("UPDATE api_keys SET expires_at = now() WHERE key_id = $1", UUID(keys[1]["id"]))
    assert await principal_of_actor(core.reader, f"key:{keys[0]['id']}") is None
    assert await principal_of_actor(core.reader, f"key:{keys[1]['id']}") is None
    await change_user(core, ada, active=False)
    assert await principal_of_actor(core.reader, f"key:{keys[2]['id']}") is None
    for nobody in (f"user:{ada.id}", f"key:{UNKNOWN_ID}", "key:", "key:x", PUBLIC.actor, "root"):
        assert await principal_of_actor(core.reader, nobody) is None


async def test_a_trigger_that_a_key_has_made_runs_as_the_key_and_skips_when_it_has_ended(owner: httpx.AsyncClient, client: Client) -> None:
    app = await make_app(owner, "shop")
    script = await make_script(owner, app, source="def handler(ctx):\n    return kv.collection('in').get('a')\n")
    made = await make_key(owner, "script:read", "app:admin", app_id=app)
    trigger = await client(made["token"]).post(f"{API}/apps/{app}/triggers/kv", json={"script_id": script, "collection_glob": "in", "ops": []})
    assert trigger.status_code == 201, trigger.text
    assert trigger.json()["registrant"] == f"key:{made['id']}"

    async def newest() -> dict[str, Any]:
        items = (await owner.get(f"{API}/apps/{app}/executions")).json()["items"]
        return items[0] if items else {}

    await owner.put(f"{API}/apps/{app}/kv/in/a", json={"value": 1})
    first = await eventually(newest, lambda found: found.get("status") == "succeeded")
    await owner.delete(f"{KEYS}/{made['id']}")
    await owner.put(f"{API}/apps/{app}/kv/in/b", json={"value": 1})
    await eventually(newest, lambda found: found["execution_id"] != first["execution_id"] and found["status"] == "skipped")


async def test_whoever_is_deactivated_meanwhile_makes_no_key(core: Platform, connection: asyncpg.Connection) -> None:
    """Between being recognised and the commit; also when he acts through a key that is revoked then."""
    ada = await make_user(core, "ada")
    identity = await core.authentication.authenticate(await session_of(core, ada))
    assert identity is not None
    call = AdminCall(core, identity, "request", ())
    made = await own_keys_of(call).create(WantedKey(name="first", scopes=["instance:admin"]), call.acting)
    by_key = await core.authentication.authenticate(made.token)
    assert by_key is not None
    through = AdminCall(core, by_key, "request", ())
    await own_keys_of(call).revoke(made.id, call.acting)
    for late in (through, call):
        if late is call:
            await change_user(core, ada, active=False)
        with pytest.raises(Conflict) as refused_:
            await own_keys_of(late).create(WantedKey(name="late", scopes=["instance:admin"]), late.acting)
        assert refused_.value.code == "authority_changed"
    assert await connection.fetchval("SELECT count(*) FROM api_keys") == 0
    assert await connection.fetchval("SELECT count(*) FROM vault_api_keys") == 0
