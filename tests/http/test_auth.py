from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import asyncpg
import httpx
import pytest

from tests.http.conftest import OWNER

pytestmark = pytest.mark.anyio

LOGIN = "/api/v1/admin/auth/login"
LOGOUT = "/api/v1/admin/auth/logout"
ME = "/api/v1/admin/auth/me"
WRONG = {**OWNER, "password": "not the password"}


async def log_in(client: httpx.AsyncClient) -> str:
    answer = await client.post(LOGIN, json=OWNER)
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["token"]
    return token


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] == f"urn:picloud:problem:{code}"
    assert document["detail"]
    return document


async def test_login_gives_a_token_that_me_knows(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.post(LOGIN, json=OWNER)
    assert answer.status_code == 200
    session = answer.json()
    assert set(session) == {"token", "expires_at", "user"}
    assert session["user"] == {"id": session["user"]["id"], "username": "owner", "email": None, "instance_role": "owner"}
    left = datetime.fromisoformat(session["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    assert answer.headers["cache-control"] == "no-store"
    anonymous.cookies.clear()
    me = await anonymous.get(ME, headers=bearer(session["token"]))
    assert me.json() == {"user": session["user"], "expires_at": session["expires_at"]}


async def test_names_are_told_apart_without_letter_case(anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.post(LOGIN, json={**OWNER, "username": "OWNER"})).status_code == 200


async def test_the_cookie_is_for_http_alone_and_lives_as_long_as_the_session(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.post(LOGIN, json=OWNER)
    cookie = answer.headers["set-cookie"]
    assert cookie == f"picloud_session={answer.json()['token']}; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"
    assert (await anonymous.get(ME)).status_code == 200


async def test_logout_ends_the_session_at_once(anonymous: httpx.AsyncClient) -> None:
    token = await log_in(anonymous)
    other = await log_in(anonymous)
    anonymous.cookies.clear()
    answer = await anonymous.post(LOGOUT, headers=bearer(token))
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert_problem(await anonymous.get(ME, headers=bearer(token)), 401, "unauthenticated")
    assert (await anonymous.get(ME, headers=bearer(other))).status_code == 200


async def test_invalid_credentials_are_401_with_a_challenge(anonymous: httpx.AsyncClient) -> None:
    token = await log_in(anonymous)
    anonymous.cookies.clear()
    tampered = ("A" if token[0] != "A" else "B") + token[1:]
    values = [f"Bearer {tampered}", f"Bearer {token}x", "Bearer", f"Basic {token}", token, "", f"Bearer {'x' * 4000}"]
    for value in [None, *values]:
        headers = {} if value is None else {"authorization": value}
        answer = await anonymous.get(ME, headers=headers)
        assert_problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert (await anonymous.get(ME, headers={"authorization": f"bearer {token}"})).status_code == 200


async def test_a_bad_header_is_not_saved_by_a_good_cookie(anonymous: httpx.AsyncClient) -> None:
    await log_in(anonymous)
    assert_problem(await anonymous.get(ME, headers=bearer("nonsense")), 401, "unauthenticated")


async def test_wrong_password_and_unknown_user_look_alike(anonymous: httpx.AsyncClient) -> None:
    wrong = assert_problem(await anonymous.post(LOGIN, json=WRONG), 401, "wrong_credentials")
    unknown = assert_problem(await anonymous.post(LOGIN, json={**WRONG, "username": "nobody"}), 401, "wrong_credentials")
    assert wrong == unknown


async def test_five_failures_a_minute_throttle_this_user_alone(anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    for _ in range(5):
        assert_problem(await anonymous.post(LOGIN, json=WRONG), 401, "wrong_credentials")
    for body in (WRONG, OWNER, {**OWNER, "username": "oWnEr"}):
        answer = await anonymous.post(LOGIN, json=body)
        problem = assert_problem(answer, 429, "too_many_logins")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert problem["detail"] == f"too many failed logins; try again in {answer.headers['retry-after']} s"
    assert_problem(await anonymous.post(LOGIN, json={**WRONG, "username": "other"}), 401, "wrong_credentials")
    await connection.execute("UPDATE login_failures SET failed_at = failed_at - interval '61 seconds'")
    assert (await anonymous.post(LOGIN, json=OWNER)).status_code == 200


async def test_failures_at_the_same_time_are_all_counted(anonymous: httpx.AsyncClient) -> None:
    statuses: list[int] = []

    async def fail() -> None:
        statuses.append((await anonymous.post(LOGIN, json=WRONG)).status_code)

    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(fail)
    assert sorted(statuses) == [401] * 5 + [429] * 7


async def test_a_login_forgets_failures(anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    for _ in range(4):
        assert_problem(await anonymous.post(LOGIN, json=WRONG), 401, "wrong_credentials")
    await log_in(anonymous)
    assert await connection.fetchval("SELECT count(*) FROM login_failures") == 0


async def test_an_expired_session_is_nobodys(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    assert (await owner.get(ME)).status_code == 200
    await connection.execute("UPDATE vault_sessions SET expires_at = now() - interval '1 second'")
    assert_problem(await owner.get(ME), 401, "unauthenticated")


async def test_a_session_slides_at_most_once_a_minute_and_renews_its_cookie(anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    token = await log_in(anonymous)
    before = await connection.fetchval("SELECT expires_at FROM vault_sessions")
    fresh = await anonymous.get(ME)
    assert "set-cookie" not in fresh.headers
    assert await connection.fetchval("SELECT expires_at FROM vault_sessions") == before
    await connection.execute("UPDATE vault_sessions SET seen_at = now() - interval '2 minutes', expires_at = now() + interval '1 hour'")
    used = await anonymous.get(ME)
    assert used.headers["set-cookie"].startswith(f"picloud_session={token}; Path=/; Max-Age=86400;")
    after = await connection.fetchval("SELECT expires_at FROM vault_sessions")
    assert after >= before
    assert used.json()["expires_at"] == after.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("end", ["UPDATE users SET active = false", "DELETE FROM users"])
async def test_sessions_end_with_their_user(owner: httpx.AsyncClient, connection: asyncpg.Connection, end: str) -> None:
    await connection.execute(end)
    assert_problem(await owner.get(ME), 401, "unauthenticated")
    assert_problem(await owner.post(LOGIN, json=OWNER), 401, "wrong_credentials")


async def test_a_change_by_cookie_needs_an_origin_of_this_host(anonymous: httpx.AsyncClient, url: str) -> None:
    await log_in(anonymous)
    host = url.removeprefix("http://")
    foreign = [
        None,
        "null",
        "",
        "https://evil.example",
        f"http://evil.example@{host}",
        f"http://{host}.evil.example",
        "http://127.0.0.1:1",
        "http://[",
        f"ftp://{host}",
    ]
    for origin in foreign:
        headers = {} if origin is None else {"origin": origin}
        problem = assert_problem(await anonymous.post(LOGOUT, headers=headers), 403, "foreign_origin")
        assert problem["field"] == "origin"
    assert (await anonymous.get(ME, headers={"origin": "https://evil.example"})).status_code == 200, "reading changes nothing"
    assert (await anonymous.post(LOGOUT, headers={"origin": url})).status_code == 204


async def test_another_sites_page_cannot_log_its_visitor_in(anonymous: httpx.AsyncClient, url: str) -> None:
    """As a form of text/plain can: what it sends is JSON, and the answer would set the cookie."""
    for origin in ("https://evil.example", "null", ""):
        answer = await anonymous.post(LOGIN, content=json.dumps(OWNER), headers={"origin": origin, "content-type": "text/plain"})
        assert_problem(answer, 403, "foreign_origin")
        assert "set-cookie" not in answer.headers
    assert (await anonymous.post(LOGIN, json=OWNER, headers={"origin": url})).status_code == 200


async def test_a_change_by_bearer_needs_no_origin(anonymous: httpx.AsyncClient) -> None:
    token = await log_in(anonymous)
    anonymous.cookies.clear()
    assert (await anonymous.post(LOGOUT, headers={**bearer(token), "origin": "https://evil.example"})).status_code == 204


async def test_neither_tokens_nor_passwords_are_stored(anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    token = await log_in(anonymous)
    for table in ("vault_sessions", "vault_passwords", "events", "users"):
        for (row,) in await connection.fetch(f"SELECT to_jsonb(t)::text FROM {table} t"):
            assert token not in row
            assert OWNER["password"] not in row
    for (state,) in await connection.fetch("SELECT state FROM events"):
        assert b"argon2" not in state
    assert (await connection.fetchval("SELECT hash FROM vault_passwords")).startswith("$argon2id$")
