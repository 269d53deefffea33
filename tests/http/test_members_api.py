from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import asyncpg
import httpx
import msgspec
import pytest

from adapters.postgres.vault import User
from domain.apps import AppDeleted, app_stream
from domain.ids import parse_uuid
from runtime.platform import Platform
from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, UNKNOWN_ID, make_app, make_script, nested, nothing_changes, refused, send
from tests.http.conftest import Owned, client_of
from tests.http.people import change_user, delete_user, make_user, put, session_of, shown

pytestmark = pytest.mark.anyio


class Team(msgspec.Struct):
    """An app, its app_admin, and a user without a role anywhere."""

    app: str
    admin: httpx.AsyncClient
    admin_user: User
    other: httpx.AsyncClient
    other_user: User

    @property
    def members(self) -> str:
        return f"{API}/apps/{self.app}/members"

    def add(self, role: str = "viewer", user: Any = None) -> dict[str, Any]:
        return {"user_id": str(user or self.other_user.id), "role": role}


@pytest.fixture
async def team(owner: httpx.AsyncClient, core: Platform, url: str) -> AsyncIterator[Team]:
    app = await make_app(owner, "shop")
    async with AsyncExitStack() as stack:

        async def person(name: str) -> tuple[httpx.AsyncClient, User]:
            user = await make_user(core, name)
            return await stack.enter_async_context(client_of(url, await session_of(core, user))), user

        admin, admin_user = await person("ada")
        other, other_user = await person("bob")
        added = await owner.post(f"{API}/apps/{app}/members", json={"user_id": str(admin_user.id), "role": "app_admin"})
        assert added.status_code == 201, added.text
        yield Team(app, admin, admin_user, other, other_user)


async def test_a_member_is_added_changed_and_removed(team: Team) -> None:
    refused(await team.other.get(f"{API}/apps/{team.app}"), 404, "app_not_found")
    added = await team.admin.post(team.members, json=team.add("viewer"))
    assert added.status_code == 201
    member = added.json()
    assert member == {
        "user_id": str(team.other_user.id),
        "username": "bob",
        "email": None,
        "active": True,
        "role": "viewer",
        "created_at": member["created_at"],
    }
    assert (await team.other.get(f"{API}/apps/{team.app}")).json()["my_role"] == "viewer"
    refused(await team.other.get(team.members), 403)

    changed = await team.admin.patch(f"{team.members}/{team.other_user.id}", json={"role": "editor"})
    assert changed.status_code == 200
    assert changed.json() == {**member, "role": "editor"}
    assert (await team.other.post(f"{API}/scripts", json={"app_id": team.app, "name": "a", "source": "def handler(ctx):\n    return 1\n"})).status_code == 201

    assert (await team.admin.delete(f"{team.members}/{team.other_user.id}")).status_code == 204
    refused(await team.other.get(f"{API}/apps/{team.app}"), 404, "app_not_found")
    assert [shown(item) for item in (await team.admin.get(team.members)).json()["items"]] == [(str(team.admin_user.id), "app_admin")]


async def test_the_log_tells_who_gave_what_to_whom(team: Team, owner: httpx.AsyncClient) -> None:
    await team.admin.post(team.members, json=team.add("viewer"))
    await team.admin.patch(f"{team.members}/{team.other_user.id}", json={"role": "editor"})
    await team.admin.delete(f"{team.members}/{team.other_user.id}")
    stream = f"member:{team.app}:{team.other_user.id}"
    events = (await owner.get(f"{API}/events", params={"stream": stream})).json()["items"]
    whom = {"app_id": team.app, "user_id": str(team.other_user.id)}
    assert [(event["topic"], event["data"]) for event in events] == [
        ("members.MemberAdded", {**whom, "role": "viewer"}),
        ("members.MemberRoleChanged", {**whom, "role": "editor", "replaces": "viewer"}),
        ("members.MemberRemoved", {**whom, "role": "editor"}),
    ]
    assert {event["metadata"]["actor"] for event in events} == {f"user:{team.admin_user.id}"}


async def test_members_see_their_apps_alone(team: Team, owner: httpx.AsyncClient) -> None:
    elsewhere = await make_app(owner, "elsewhere")
    script = await make_script(owner, elsewhere)
    assert [app["id"] for app in (await team.admin.get(f"{API}/apps")).json()["items"]] == [team.app]
    assert (await team.other.get(f"{API}/apps")).json()["items"] == []
    refused(await team.admin.get(f"{API}/scripts/{script}"), 404)
    refused(await team.admin.get(f"{API}/apps/{elsewhere}/members"), 404, "app_not_found")
    refused(await team.admin.post(f"/api/v1/execute/{script}"), 404)
    own = await make_script(owner, team.app)
    assert (await team.admin.post(f"/api/v1/execute/{own}")).status_code == 200


async def test_adding_twice_is_a_conflict(team: Team, connection: asyncpg.Connection) -> None:
    await team.admin.post(team.members, json=team.add("viewer"))
    async with nothing_changes(connection):
        refused(await team.admin.post(team.members, json=team.add("editor")), 409, "already_member", "user_id")


async def test_whoever_was_removed_can_come_back(team: Team) -> None:
    first = (await team.admin.post(team.members, json=team.add("viewer"))).json()
    await team.admin.delete(f"{team.members}/{team.other_user.id}")
    again = await team.admin.post(team.members, json=team.add("editor"))
    assert again.status_code == 201
    assert again.json()["created_at"] > first["created_at"]
    listed = (await team.admin.get(team.members)).json()["items"]
    assert again.json() in listed


async def test_who_cannot_be_a_member(team: Team, core: Platform, owned: Owned, connection: asyncpg.Connection) -> None:
    gone, idle = await make_user(core, "gone"), await make_user(core, "idle")
    root = await make_user(core, "root", "admin")
    await delete_user(core, gone)
    await change_user(core, idle, active=False)
    async with nothing_changes(connection):
        for user_id, code in (
            (UNKNOWN_ID, "unknown_user"),
            (gone.id, "unknown_user"),
            (idle.id, "inactive_user"),
            (root.id, "implicit_authority"),
            (owned.user.id, "implicit_authority"),
        ):
            refused(await team.admin.post(team.members, json=team.add(user=user_id)), 422, code, "user_id")


async def test_a_member_who_became_inactive_or_an_admin_is_not_changed_but_removed(team: Team, core: Platform, connection: asyncpg.Connection) -> None:
    await team.admin.post(team.members, json=team.add("viewer"))
    one = f"{team.members}/{team.other_user.id}"
    await change_user(core, team.other_user, active=False)
    async with nothing_changes(connection):
        refused(await team.admin.patch(one, json={"role": "editor"}), 422, "inactive_user", "user_id")
    assert [item["active"] for item in (await team.admin.get(team.members)).json()["items"]] == [True, False]
    await change_user(core, team.other_user, role="admin")
    async with nothing_changes(connection):
        refused(await team.admin.patch(one, json={"role": "editor"}), 422, "implicit_authority", "user_id")
    assert (await team.admin.delete(one)).status_code == 204
    assert len((await team.admin.get(team.members)).json()["items"]) == 1


async def test_a_change_to_the_same_role_is_no_event(team: Team, connection: asyncpg.Connection) -> None:
    added = await team.admin.post(team.members, json=team.add("viewer"))
    async with nothing_changes(connection):
        same = await team.admin.patch(f"{team.members}/{team.other_user.id}", json={"role": "viewer"})
        assert (same.status_code, same.json()) == (200, added.json())


async def test_who_is_no_member(team: Team, connection: asyncpg.Connection) -> None:
    async with nothing_changes(connection):
        for user_id in (team.other_user.id, UNKNOWN_ID):
            refused(await team.admin.patch(f"{team.members}/{user_id}", json={"role": "viewer"}), 404, "member_not_found")
            for _ in range(2):
                assert (await team.admin.delete(f"{team.members}/{user_id}")).status_code == 204
        for segment in NO_IDS[:4]:
            refused(await team.admin.patch(f"{team.members}/{segment}", json={"role": "viewer"}), 404)
            refused(await team.admin.delete(f"{team.members}/{segment}"), 404)


BAD_MEMBERS: list[tuple[Any, str]] = [
    ({"role": "viewer"}, "$.user_id"),
    ({"user_id": UNKNOWN_ID}, "$.role"),
    ({"user_id": UNKNOWN_ID, "role": "owner"}, "$.role"),
    ({"user_id": UNKNOWN_ID, "role": "viewer", "x": 1}, "$.x"),
    ({"user_id": "x", "role": "viewer"}, "$.user_id"),
    ({"user_id": 1, "role": "viewer"}, "$.user_id"),
    ({"user_id": UNKNOWN_ID, "role": nested(70)}, "$.role"),
]


@pytest.mark.parametrize(("body", "field"), BAD_MEMBERS, ids=range(len(BAD_MEMBERS)))
async def test_wrong_bodies_change_nothing(team: Team, connection: asyncpg.Connection, body: Any, field: str) -> None:
    async with nothing_changes(connection):
        refused(await send(team.admin, "POST", f"/apps/{team.app}/members", body), 422, field=field)


@pytest.mark.parametrize(("body", "field"), [({}, "$.role"), ({"role": None}, "$.role"), ({"role": "viewer", "user_id": UNKNOWN_ID}, "$.user_id")])
async def test_wrong_changes_change_nothing(team: Team, connection: asyncpg.Connection, body: Any, field: str) -> None:
    async with nothing_changes(connection):
        refused(await send(team.admin, "PATCH", f"/apps/{team.app}/members/{team.admin_user.id}", body), 422, field=field)


async def test_pages(team: Team, core: Platform) -> None:
    ids = [str(team.admin_user.id)]
    for number in range(3):
        user = await make_user(core, f"u{number}")
        assert (await team.admin.post(team.members, json=team.add(user=user.id))).status_code == 201
        ids.append(str(user.id))
    first = (await team.admin.get(team.members, params={"limit": 3})).json()
    second = (await team.admin.get(team.members, params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [item["user_id"] for item in (*first["items"], *second["items"])] == sorted(ids)
    assert second["next_cursor"] is None
    for cursor in BAD_CURSORS:
        refused(await team.admin.get(team.members, params={"cursor": cursor}), 422, field="cursor")
    for limit in ("0", "201", "x"):
        refused(await team.admin.get(team.members, params={"limit": limit}), 422, field="limit")


async def test_memberships_go_with_their_user_and_their_app(team: Team, core: Platform, owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    elsewhere = await make_app(owner, "elsewhere")
    for app in (team.app, elsewhere):
        assert (await owner.post(f"{API}/apps/{app}/members", json=team.add())).status_code == 201
    app_id = parse_uuid(elsewhere)
    assert app_id is not None
    await put(core, app_stream(app_id), AppDeleted(app_id=app_id, slug="elsewhere"))
    assert await connection.fetchval("SELECT count(*) FROM members WHERE app_id = $1", app_id) == 0
    refused(await owner.post(f"{API}/apps/{elsewhere}/members", json=team.add()), 404, "app_not_found")
    await delete_user(core, team.other_user)
    assert await connection.fetchval("SELECT count(*) FROM members WHERE user_id = $1", team.other_user.id) == 0
    refused(await team.other.get(f"{API}/apps"), 401)


async def test_of_two_who_add_the_same_user_one_does(team: Team, owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    answers = await at_once(
        team.admin.build_request("POST", team.members, json=team.add("viewer")),
        owner.build_request("POST", team.members, json=team.add("editor")),
        through=owner,
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    (loser,) = [answer for answer in answers if answer.status_code == 409]
    refused(loser, 409, "already_member")
    (won,) = [answer.json()["role"] for answer in answers if answer.status_code == 201]
    assert await connection.fetchval("SELECT role FROM members WHERE user_id = $1", team.other_user.id) == won


async def test_a_change_and_a_removal_at_once_leave_no_member(team: Team, owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    one = f"{team.members}/{team.other_user.id}"
    for _ in range(10):
        await owner.post(team.members, json=team.add("viewer"))
        change, removal = await at_once(team.admin.build_request("PATCH", one, json={"role": "editor"}), owner.build_request("DELETE", one), through=owner)
        assert change.status_code in {200, 404}
        assert removal.status_code == 204
        assert await connection.fetchval("SELECT count(*) FROM members WHERE user_id = $1", team.other_user.id) == 0


async def test_whoever_is_removed_meanwhile_loses(team: Team, owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    """Two app_admins remove each other: at most one can."""
    second = await owner.post(team.members, json=team.add("app_admin"))
    assert second.status_code == 201
    answers = await at_once(
        team.admin.build_request("DELETE", f"{team.members}/{team.other_user.id}"),
        team.other.build_request("DELETE", f"{team.members}/{team.admin_user.id}"),
        through=owner,
    )
    won, lost = sorted(answer.status_code for answer in answers)
    assert won == 204
    assert lost in {404, 409}
    assert await connection.fetchval("SELECT count(*) FROM members") == 1


async def at_once(*requests: httpx.Request, through: httpx.AsyncClient) -> list[httpx.Response]:
    """The answers to requests that are sent together."""
    answers: list[httpx.Response | None] = [None] * len(requests)

    async def ask(number: int) -> None:
        answers[number] = await through.send(requests[number])

    async with anyio.create_task_group() as together:
        for number in range(len(requests)):
            together.start_soon(ask, number)
    return [answer for answer in answers if answer is not None]
