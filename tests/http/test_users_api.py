from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import anyio
import asyncpg
import httpx
import pytest

from runtime.platform import Platform
from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, UNKNOWN_ID, nothing_changes, refused, send
from tests.http.conftest import OWNER, Owned, client_of
from tests.http.users_support import PASSWORD, change, make_user, person, token_of, told

pytestmark = pytest.mark.anyio

ADMINS = f"{API}/admins"
LOGIN = f"{API}/auth/login"
ME = f"{API}/auth/me"


async def log_in(client: httpx.AsyncClient, username: str, password: str = PASSWORD) -> int:
    status = (await client.post(LOGIN, json={"username": username, "password": password})).status_code
    client.cookies.clear()
    return status


@pytest.fixture
async def ada(core: Platform, url: str, owner: httpx.AsyncClient) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """An admin."""
    async with person(core, url, owner, "ada") as made:
        yield made


@pytest.fixture
async def bob(core: Platform, url: str, owner: httpx.AsyncClient) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """A second owner."""
    async with person(core, url, owner, "bob", "owner") as made:
        yield made


async def test_a_user_is_made_shown_changed_and_removed(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    made = await owner.post(ADMINS, json={"username": "Ada", "password": PASSWORD, "email": "ada@example.com"})
    assert made.status_code == 201
    ada = made.json()
    assert set(ada) == {"id", "username", "email", "instance_role", "active", "created_at"}
    assert (ada["username"], ada["email"], ada["instance_role"], ada["active"]) == ("Ada", "ada@example.com", "admin", True)
    assert (await owner.get(f"{ADMINS}/{ada['id']}")).json() == ada
    assert [user["username"] for user in (await owner.get(ADMINS)).json()["items"]] == ["owner", "Ada"]
    assert await log_in(anonymous, "ada") == 200

    changed = await change(owner, ada["id"], username="lovelace", email=None, instance_role="member")
    assert changed.json() == {**ada, "username": "lovelace", "email": None, "instance_role": "member"}
    assert (await owner.get(f"{ADMINS}/{ada['id']}")).json() == changed.json()
    assert (await log_in(anonymous, "ada"), await log_in(anonymous, "lovelace")) == (401, 200)

    assert (await owner.delete(f"{ADMINS}/{ada['id']}")).status_code == 204
    refused(await owner.get(f"{ADMINS}/{ada['id']}"), 404, "not_found")
    refused(await owner.delete(f"{ADMINS}/{ada['id']}"), 404, "not_found")
    assert await log_in(anonymous, "lovelace") == 401


async def test_a_patch_keeps_what_it_does_not_name(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    ada = await make_user(owner, "ada", email="ada@example.com")
    before = (await owner.get(f"{ADMINS}/{ada}")).json()
    async with nothing_changes(connection):
        assert (await change(owner, ada)).json() == before
        assert (await change(owner, ada, username="ada", email="ada@example.com", active=True, instance_role="admin")).json() == before
    assert (await change(owner, ada, active=False)).json() == {**before, "active": False}


async def test_names_belong_to_one_user_whatever_their_letter_case(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    ada, bob = await make_user(owner, "ada"), await make_user(owner, "bob")
    refused(await owner.post(ADMINS, json={"username": "ADA", "password": PASSWORD}), 409, "username_taken", "username")
    refused(await change(owner, bob, username="Ada"), 409, "username_taken", "username")
    assert (await change(owner, ada, username="ADA")).json()["username"] == "ADA", "his own name in another case"
    assert (await change(owner, ada, username="countess")).status_code == 200
    assert (await change(owner, bob, username="ada")).status_code == 200, "a name that was given up is free"
    assert (await owner.delete(f"{ADMINS}/{bob}")).status_code == 204
    assert await log_in(anonymous, "ada") == 401
    await make_user(owner, "ada")
    assert await log_in(anonymous, "ada") == 200


async def test_of_two_who_want_one_name_one_gets_it(owner: httpx.AsyncClient) -> None:
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await owner.post(ADMINS, json={"username": "ada", "password": PASSWORD}))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(ask)
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"username_taken"}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"username": ""}, "username"),
    ({"username": "a b"}, "username"),
    ({"username": "-a"}, "username"),
    ({"username": "a" * 65}, "username"),
    ({"username": "é"}, "username"),
    ({"username": 1}, "$.username"),
    ({"username": None}, "$.username"),
    ({"password": "1234567"}, "password"),
    ({"password": "x" * 1025}, "password"),
    ({"password": None}, "$.password"),
    ({"email": "ada"}, "email"),
    ({"email": "a da@example.com"}, "email"),
    ({"email": f"{'a' * 250}@b.de"}, "email"),
    ({"email": "a\n@example.com"}, "email"),
    ({"email": ""}, "email"),
    ({"instance_role": "god"}, "$.instance_role"),
    ({"instance_role": None}, "$.instance_role"),
    ({"active": "yes"}, "$.active"),
    ({"active": None}, "$.active"),
    ({"id": UNKNOWN_ID}, "$.id"),
    ({"session_epoch": 7}, "$.session_epoch"),
]


@pytest.mark.parametrize(("fields", "field"), BAD, ids=[str(fields)[:40] for fields, _ in BAD])
async def test_bad_fields_are_refused_by_name(
    owner: httpx.AsyncClient, owned: Owned, connection: asyncpg.Connection, fields: dict[str, Any], field: str
) -> None:
    async with nothing_changes(connection):
        refused(await send(owner, "POST", "/admins", {"username": "new", "password": PASSWORD, **fields}), 422, field=field)
        refused(await send(owner, "PATCH", f"/admins/{owned.user.id}", fields), 422, field=field)
    assert await connection.fetchval("SELECT count(*) FROM vault_passwords") == 1


async def test_what_must_be_given_is_asked_for(owner: httpx.AsyncClient) -> None:
    refused(await owner.post(ADMINS, json={"username": "ada"}), 422, field="$.password")
    refused(await owner.post(ADMINS, json={"password": PASSWORD}), 422, field="$.username")


async def test_ids_and_cursors_that_are_none(owner: httpx.AsyncClient) -> None:
    for bad in NO_IDS:
        for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/sessions"), ("DELETE", "/sessions")):
            answer = await owner.request(method, f"{ADMINS}/{bad}{path}", json={} if method == "PATCH" else None)
            refused(answer, 400 if bad == "%00" else 404)
    for cursor in BAD_CURSORS:
        refused(await owner.get(ADMINS, params={"cursor": cursor}), 422, field="cursor")


async def test_pages_follow_each_other(owner: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c"):
        await make_user(owner, name, "member")
    first = (await owner.get(ADMINS, params={"limit": 2})).json()
    second = (await owner.get(ADMINS, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [[user["username"] for user in page["items"]] for page in (first, second)] == [["owner", "a"], ["b", "c"]]
    assert second["next_cursor"] is None


async def test_members_and_strangers_manage_nobody(core: Platform, url: str, owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, owned: Owned) -> None:
    async with person(core, url, owner, "mem", "member") as (_, member):
        for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{owned.user.id}"), ("PATCH", f"/{owned.user.id}"), ("DELETE", f"/{owned.user.id}")):
            body: dict[str, Any] | None = {} if method in {"POST", "PATCH"} else None
            refused(await member.request(method, f"{ADMINS}{path}", json=body), 403, "forbidden")
            refused(await anonymous.request(method, f"{ADMINS}{path}", json=body), 401, "unauthenticated")


async def test_nobody_grants_a_role_above_his_own(ada: tuple[str, httpx.AsyncClient], owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    ada_id, client = ada
    member = await make_user(owner, "mem", "member")
    async with nothing_changes(connection):
        answer = await client.post(ADMINS, json={"username": "new", "password": PASSWORD, "instance_role": "owner"})
        refused(answer, 422, "cannot_escalate", "instance_role")
        for user in (member, ada_id):
            refused(await change(client, user, instance_role="owner"), 422, "cannot_escalate", "instance_role")
    assert (await change(client, member, instance_role="admin")).status_code == 200
    assert (await change(client, member, instance_role="member")).status_code == 200
    assert (await change(client, ada_id, instance_role="member")).status_code == 200, "anybody may step down"
    refused(await client.get(ADMINS), 403)


async def test_nobody_touches_a_user_above_himself(
    ada: tuple[str, httpx.AsyncClient], owned: Owned, connection: asyncpg.Connection, owner: httpx.AsyncClient
) -> None:
    _, client = ada
    boss = str(owned.user.id)
    async with nothing_changes(connection):
        for fields in ({"password": PASSWORD}, {"active": False}, {"instance_role": "member"}, {"username": "servant"}, {"email": "a@b.de"}, {}):
            refused(await change(client, boss, **fields), 403, "above_you")
        refused(await client.delete(f"{ADMINS}/{boss}"), 403, "above_you")
        refused(await client.get(f"{ADMINS}/{boss}/sessions"), 403, "above_you")
        refused(await client.delete(f"{ADMINS}/{boss}/sessions"), 403, "above_you")
    assert (await client.get(f"{ADMINS}/{boss}")).status_code == 200, "that he exists is no secret"
    assert (await owner.get(ME)).status_code == 200


async def test_the_last_active_owner_stays(owner: httpx.AsyncClient, owned: Owned, bob: tuple[str, httpx.AsyncClient], connection: asyncpg.Connection) -> None:
    bob_id, bobs = bob
    me = str(owned.user.id)
    assert (await change(owner, bob_id, active=False)).status_code == 200
    async with nothing_changes(connection):
        for fields in ({"instance_role": "admin"}, {"instance_role": "member"}, {"active": False}):
            refused(await change(owner, me, **fields), 409, "last_owner")
        refused(await owner.delete(f"{ADMINS}/{me}"), 409, "last_owner")
    refused(await bobs.get(ME), 401)
    assert (await change(owner, bob_id, active=True)).status_code == 200
    assert (await change(owner, me, instance_role="member")).status_code == 200, "he is not the last one any more"


async def test_an_inactive_owner_is_none(owner: httpx.AsyncClient, owned: Owned) -> None:
    await make_user(owner, "idle", "owner", active=False)
    refused(await change(owner, str(owned.user.id), active=False), 409, "last_owner")


async def test_two_owners_who_demote_each_other_have_one_winner(owner: httpx.AsyncClient, owned: Owned, core: Platform, url: str) -> None:
    me = str(owned.user.id)
    for round_ in range(6):
        other = await make_user(owner, f"other{round_}", "owner")
        async with client_of(url, await token_of(core, other)) as others:
            answers: dict[str, httpx.Response] = {}

            async def act(name: str, client: httpx.AsyncClient, victim: str, answers: dict[str, httpx.Response] = answers) -> None:
                answers[name] = await change(client, victim, instance_role="admin")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(act, "me", owner, other)
                tasks.start_soon(act, "other", others, me)
            assert sorted(answer.status_code for answer in answers.values()) == [200, 403], [answer.text for answer in answers.values()]
            if answers["other"].status_code == 200:
                assert (await change(others, me, instance_role="owner")).status_code == 200
            assert (await owner.delete(f"{ADMINS}/{other}")).status_code == 204


@pytest.mark.parametrize("how", ["demote", "deactivate", "delete"])
async def test_two_owners_who_leave_at_once_leave_one(owner: httpx.AsyncClient, owned: Owned, bob: tuple[str, httpx.AsyncClient], how: str) -> None:
    bob_id, bobs = bob
    statuses: list[int] = []

    async def leave(client: httpx.AsyncClient, user_id: str) -> None:
        if how == "delete":
            answer = await client.delete(f"{ADMINS}/{user_id}")
        else:
            answer = await change(client, user_id, **({"active": False} if how == "deactivate" else {"instance_role": "member"}))
        statuses.append(answer.status_code)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave, owner, str(owned.user.id))
        tasks.start_soon(leave, bobs, bob_id)
    assert (min(statuses) in {200, 204}, max(statuses)) == (True, 409)


async def test_deactivation_ends_sessions_for_good(owner: httpx.AsyncClient, ada: tuple[str, httpx.AsyncClient], anonymous: httpx.AsyncClient) -> None:
    ada_id, client = ada
    assert (await client.get(ME)).status_code == 200
    await change(owner, ada_id, active=False)
    refused(await client.get(ME), 401)
    assert await log_in(anonymous, "ada") == 401
    await change(owner, ada_id, active=True)
    refused(await client.get(ME), 401)
    assert await log_in(anonymous, "ada") == 200


async def test_a_demoted_user_is_so_at_once_and_stays_logged_in(owner: httpx.AsyncClient, ada: tuple[str, httpx.AsyncClient]) -> None:
    ada_id, client = ada
    await change(owner, ada_id, instance_role="member")
    refused(await client.get(ADMINS), 403)
    assert (await client.get(ME)).json()["user"]["instance_role"] == "member"


async def test_another_password_from_an_admin_ends_sessions(
    owner: httpx.AsyncClient, ada: tuple[str, httpx.AsyncClient], anonymous: httpx.AsyncClient, core: Platform, connection: asyncpg.Connection
) -> None:
    ada_id, client = ada
    assert (await change(owner, ada_id, password="another password")).status_code == 200
    refused(await client.get(ME), 401)
    assert (await log_in(anonymous, "ada"), await log_in(anonymous, "ada", "another password")) == (401, 200)
    assert await connection.fetchval("SELECT count(*) FROM vault_passwords WHERE user_id = $1", ada_id) == 1
    (changed,) = await told(core, "access.PasswordChanged")
    assert (changed["user_id"], changed["kept_session_id"]) == (ada_id, None)


async def test_ones_own_password_takes_the_current_one(owner: httpx.AsyncClient, owned: Owned, connection: asyncpg.Connection) -> None:
    async with nothing_changes(connection):
        refused(await change(owner, str(owned.user.id), password=PASSWORD), 422, "own_password", "password")
    assert await connection.fetchval("SELECT count(*) FROM vault_passwords") == 1


async def test_neither_passwords_nor_hashes_are_in_the_log(owner: httpx.AsyncClient, core: Platform, connection: asyncpg.Connection) -> None:
    ada = await make_user(owner, "ada")
    await change(owner, ada, password="another password")
    hashes = [row["hash"] for row in await connection.fetch("SELECT hash FROM vault_passwords")]
    assert len(hashes) == 2
    for (row,) in await connection.fetch("SELECT convert_from(state, 'UTF8') || metadata::text FROM events"):
        for secret in (PASSWORD, OWNER["password"], "another password", "argon2", *hashes):
            assert secret not in row
    assert len(await told(core, "users.UserChanged")) == 1


async def test_hashes_that_no_event_names_are_swept(
    owner: httpx.AsyncClient, core: Platform, connection: asyncpg.Connection, anonymous: httpx.AsyncClient
) -> None:
    ada = await make_user(owner, "ada")
    stray = await core.credentials.store(core.worker_id, PASSWORD)
    fresh = await core.credentials.store(core.worker_id, PASSWORD)
    await connection.execute("UPDATE vault_passwords SET changed_at = now() - interval '2 hours' WHERE credential_id <> $1", fresh)
    await core.accounts.sweep()
    left = {row["credential_id"] for row in await connection.fetch("SELECT credential_id FROM vault_passwords")}
    assert stray not in left
    assert fresh in left, "its event may be on the way"
    assert len(left) == 3, ada
    assert await log_in(anonymous, "ada") == 200


async def test_a_password_that_is_stored_does_not_count_before_its_event(owner: httpx.AsyncClient, core: Platform, anonymous: httpx.AsyncClient) -> None:
    ada = await make_user(owner, "ada")
    await core.credentials.store(UUID(ada), "not yet the password")
    assert (await log_in(anonymous, "ada", "not yet the password"), await log_in(anonymous, "ada")) == (401, 200)
