from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import anyio
import asyncpg
import httpx
import pytest

from domain.errors import Unauthenticated
from runtime.platform import Platform
from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, nothing_changes, refused
from tests.http.conftest import OWNER, Owned, client_of, new_session
from tests.http.users_support import PASSWORD, change, person, token_of, told

pytestmark = pytest.mark.anyio

LOGIN = f"{API}/auth/login"
LOGOUT = f"{API}/auth/logout"
ME = f"{API}/auth/me"
OWN = f"{API}/auth/sessions"
OWN_PASSWORD = f"{API}/auth/password"
NEW = "quite another password"


@pytest.fixture
async def ada(core: Platform, url: str, owner: httpx.AsyncClient) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """A member: sessions are everybody's."""
    async with person(core, url, owner, "ada", "member") as made:
        yield made


@pytest.fixture
async def elsewhere(core: Platform, url: str, ada: tuple[str, httpx.AsyncClient]) -> AsyncIterator[httpx.AsyncClient]:
    """Another session of hers."""
    async with client_of(url, await token_of(core, ada[0])) as client:
        yield client


async def listed(client: httpx.AsyncClient, path: str = OWN) -> list[dict[str, Any]]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_a_session_shows_when_and_from_where(anonymous: httpx.AsyncClient, url: str) -> None:
    token = (await anonymous.post(LOGIN, json=OWNER, headers={"user-agent": "a browser"})).json()["token"]
    async with client_of(url, token) as client:
        (session,) = await listed(client)
    assert set(session) == {"id", "created_at", "seen_at", "expires_at", "address", "user_agent", "current"}
    assert (session["address"], session["user_agent"], session["current"]) == ("127.0.0.1", "a browser", True)
    assert token not in str(session)


async def test_sessions_are_listed_newest_first_in_pages(ada: tuple[str, httpx.AsyncClient], core: Platform) -> None:
    ada_id, client = ada
    for _ in range(3):
        await token_of(core, ada_id)
    everything = await listed(client)
    assert [session["current"] for session in everything] == [False, False, False, True]
    assert [session["id"] for session in everything] == sorted((session["id"] for session in everything), reverse=True)
    first = (await client.get(OWN, params={"limit": 3})).json()
    second = (await client.get(OWN, params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [*first["items"], *second["items"]] == everything
    assert second["next_cursor"] is None
    for cursor in BAD_CURSORS:
        refused(await client.get(OWN, params={"cursor": cursor}), 422, field="cursor")


async def test_what_has_expired_is_not_listed(ada: tuple[str, httpx.AsyncClient], elsewhere: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    (old,) = [session for session in await listed(ada[1]) if not session["current"]]
    await connection.execute("UPDATE vault_sessions SET expires_at = now() WHERE session_id = $1", UUID(old["id"]))
    assert [session["current"] for session in await listed(ada[1])] == [True]
    refused(await ada[1].delete(f"{OWN}/{old['id']}"), 404)
    refused(await elsewhere.get(ME), 401)


async def test_one_session_is_ended(ada: tuple[str, httpx.AsyncClient], elsewhere: httpx.AsyncClient) -> None:
    (other,) = [session for session in await listed(ada[1]) if not session["current"]]
    answer = await ada[1].delete(f"{OWN}/{other['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    refused(await elsewhere.get(ME), 401, "unauthenticated")
    refused(await ada[1].delete(f"{OWN}/{other['id']}"), 404)
    assert len(await listed(ada[1])) == 1


async def test_somebody_elses_session_is_missing(ada: tuple[str, httpx.AsyncClient], owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    (session,) = await listed(owner)
    async with nothing_changes(connection):
        missing = refused(await ada[1].delete(f"{OWN}/{session['id']}"), 404)
        for bad in NO_IDS:
            answer = await ada[1].delete(f"{OWN}/{bad}")
            assert refused(answer, 400 if bad == "%00" else 404)["detail"] == missing["detail"] or bad == "%00"
    assert (await owner.get(ME)).status_code == 200


async def test_all_others_are_ended_at_once(ada: tuple[str, httpx.AsyncClient], elsewhere: httpx.AsyncClient, owner: httpx.AsyncClient) -> None:
    assert (await ada[1].delete(OWN)).status_code == 204
    refused(await elsewhere.get(ME), 401)
    assert (await ada[1].get(ME)).status_code == 200
    assert (await ada[1].delete(OWN)).status_code == 204, "idempotent"
    assert (await owner.get(ME)).status_code == 200


async def test_admins_see_and_end_the_sessions_of_others(
    ada: tuple[str, httpx.AsyncClient], elsewhere: httpx.AsyncClient, owner: httpx.AsyncClient, core: Platform, owned: Owned
) -> None:
    path = f"{API}/admins/{ada[0]}/sessions"
    sessions = await listed(owner, path)
    assert [session["current"] for session in sessions] == [False, False]
    refused(await ada[1].get(path), 403)
    assert (await owner.delete(path)).status_code == 204
    for client in (ada[1], elsewhere):
        refused(await client.get(ME), 401)
    assert await listed(owner, path) == []
    (revoked,) = await told(core, "access.SessionsRevoked")
    assert (revoked["user_id"], revoked["count"], revoked["actor"]) == (ada[0], 2, f"user:{owned.user.id}")
    assert set(revoked["session_ids"]) == {session["id"] for session in sessions}


async def test_ones_own_password_ends_all_other_sessions(
    ada: tuple[str, httpx.AsyncClient], elsewhere: httpx.AsyncClient, anonymous: httpx.AsyncClient, core: Platform, connection: asyncpg.Connection
) -> None:
    ada_id, client = ada
    answer = await client.post(OWN_PASSWORD, json={"current_password": PASSWORD, "new_password": NEW})
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.get(ME)).status_code == 200
    refused(await elsewhere.get(ME), 401)
    assert [session["current"] for session in await listed(client)] == [True]
    refused(await anonymous.post(LOGIN, json={"username": "ada", "password": PASSWORD}), 401, "wrong_credentials")
    assert (await anonymous.post(LOGIN, json={"username": "ada", "password": NEW})).status_code == 200
    assert await connection.fetchval("SELECT count(*) FROM vault_passwords WHERE user_id = $1", UUID(ada_id)) == 1
    (changed,) = await told(core, "access.PasswordChanged")
    (current,) = [session["id"] for session in await listed(client) if session["current"]]
    assert (changed["user_id"], changed["kept_session_id"], changed["actor"]) == (ada_id, current, f"user:{ada_id}")


async def test_the_current_password_is_asked_for_and_throttled_as_a_login(
    ada: tuple[str, httpx.AsyncClient], anonymous: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    wrong = {"current_password": "not the password", "new_password": NEW}
    async with nothing_changes(connection):
        for _ in range(5):
            refused(await ada[1].post(OWN_PASSWORD, json=wrong), 422, "wrong_password", "current_password")
        for body in (wrong, {**wrong, "current_password": PASSWORD}):
            answer = await ada[1].post(OWN_PASSWORD, json=body)
            refused(answer, 429, "too_many_logins")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        refused(await anonymous.post(LOGIN, json={"username": "ada", "password": PASSWORD}), 429, "too_many_logins")
    assert (await ada[1].get(ME)).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"current_password": PASSWORD}, "$.new_password"),
        ({"new_password": NEW}, "$.current_password"),
        ({"current_password": PASSWORD, "new_password": "short"}, "new_password"),
        ({"current_password": PASSWORD, "new_password": "x" * 1025}, "new_password"),
        ({"current_password": "", "new_password": NEW}, "$.current_password"),
        ({"current_password": PASSWORD, "new_password": None}, "$.new_password"),
        ({"current_password": PASSWORD, "new_password": NEW, "user_id": "x"}, "$.user_id"),
    ],
)
async def test_bad_passwords_are_refused_by_name(ada: tuple[str, httpx.AsyncClient], connection: asyncpg.Connection, body: dict[str, Any], field: str) -> None:
    async with nothing_changes(connection):
        answer = await ada[1].post(OWN_PASSWORD, json=body)
        refused(answer, 422, field=field)
    assert PASSWORD not in answer.text


async def test_of_two_sessions_that_change_the_password_at_once_one_goes_on(ada: tuple[str, httpx.AsyncClient], elsewhere: httpx.AsyncClient) -> None:
    answers: dict[str, int] = {}

    async def ask(name: str, client: httpx.AsyncClient) -> None:
        answers[name] = (await client.post(OWN_PASSWORD, json={"current_password": PASSWORD, "new_password": f"{NEW} {name}"})).status_code

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "here", ada[1])
        tasks.start_soon(ask, "there", elsewhere)
    winner = next(name for name, status in answers.items() if status == 204)
    loser = {"here": "there", "there": "here"}[winner]
    # Beaten in the log, its session has ended; beaten before that, its password was wrong already or its credential refused at the door.
    assert answers[loser] in {401, 422}
    clients = {"here": ada[1], "there": elsewhere}
    assert (await clients[winner].get(ME)).status_code == 200
    refused(await clients[loser].get(ME), 401)


async def test_a_login_does_not_take_over_a_token_that_was_there(anonymous: httpx.AsyncClient, core: Platform, owned: Owned) -> None:
    planted = await new_session(core, owned)
    for value in (planted, "A" * 43):
        anonymous.cookies.set("picloud_session", value)
        token = (await anonymous.post(LOGIN, json=OWNER)).json()["token"]
        assert token != value
        anonymous.cookies.clear()
    made = {(await anonymous.post(LOGIN, json=OWNER)).json()["token"] for _ in range(2)}
    assert len(made) == 2


async def test_sessions_by_cookie_are_ended_from_this_host_alone(anonymous: httpx.AsyncClient, url: str, connection: asyncpg.Connection) -> None:
    await anonymous.post(LOGIN, json=OWNER)
    passwords = {"current_password": OWNER["password"], "new_password": NEW}
    async with nothing_changes(connection):
        for origin in ({}, {"origin": "https://evil.example"}):
            refused(await anonymous.delete(OWN, headers=origin), 403, "foreign_origin")
            refused(await anonymous.post(OWN_PASSWORD, json=passwords, headers=origin), 403, "foreign_origin")
            refused(await anonymous.post(f"{API}/admins", json={"username": "eve", "password": NEW}, headers=origin), 403, "foreign_origin")
    assert (await anonymous.delete(OWN, headers={"origin": url})).status_code == 204


async def test_a_login_by_the_old_password_is_refused_after_the_new_one(owner: httpx.AsyncClient, ada: tuple[str, httpx.AsyncClient], core: Platform) -> None:
    """A login that was verified before the change and let in after it would outlive it."""
    login = await core.credentials.prove("ada", PASSWORD, "127.0.0.1")
    assert (await change(owner, ada[0], password=NEW)).status_code == 200
    with pytest.raises(Unauthenticated):
        await core.accounts._begin(login.user, "127.0.0.1", "test", credential_id=login.credential_id)
    assert [event["user_id"] for event in await told(core, "access.LoggedIn")].count(ada[0]) == 1


async def test_an_api_key_is_no_session(owner: httpx.AsyncClient, url: str, connection: asyncpg.Connection) -> None:
    made = (await owner.post(f"{API}/api-keys", json={"name": "k", "scopes": ["instance:admin"]})).json()
    (session,) = await listed(owner)
    async with client_of(url, made["token"]) as client, nothing_changes(connection):
        for method, path in (("GET", OWN), ("DELETE", OWN), ("DELETE", f"{OWN}/{session['id']}"), ("POST", LOGOUT)):
            refused(await client.request(method, path), 403, "session_required")
        refused(await client.post(OWN_PASSWORD, json={"current_password": OWNER["password"], "new_password": NEW}), 403, "session_required")
    assert (await owner.get(ME)).status_code == 200


async def test_deactivation_ends_keys_and_another_password_does_not(ada: tuple[str, httpx.AsyncClient], owner: httpx.AsyncClient, url: str) -> None:
    made = (await ada[1].post(f"{API}/api-keys", json={"name": "k", "scopes": ["script:read"]})).json()
    async with client_of(url, made["token"]) as client:
        assert (await change(owner, ada[0], password=NEW)).status_code == 200
        assert (await client.get(ME)).status_code == 200
        await change(owner, ada[0], active=False)
        refused(await client.get(ME), 401)
        await change(owner, ada[0], active=True)
        refused(await client.get(ME), 401)
