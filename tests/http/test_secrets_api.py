from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from domain.secrets import MAX_VALUE_BYTES
from runtime.platform import Platform, open_platform
from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, make_app, make_script, nested, nothing_changes, refused, send
from tests.http.conftest import SETTINGS

pytestmark = pytest.mark.anyio

VALUE = "the value of a secret"


@pytest.fixture
async def core(dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    """One with a data directory of its own."""
    async with open_platform(dsn, msgspec.structs.replace(SETTINGS, data_dir=tmp_path / "data")) as platform:
        await platform.accounts.bootstrap(SETTINGS.admin, lambda _: None)
        yield platform


async def put(client: httpx.AsyncClient, app: str, name: str, value: str = VALUE) -> dict[str, Any]:
    answer = await client.put(f"{API}/apps/{app}/secrets/{name}", json={"value": value})
    assert answer.status_code == 200, answer.text
    assert value not in answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_secret_is_set_listed_replaced_and_deleted(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    made = await put(owner, app, "KEY")
    assert made == {"name": "KEY", "version": 1, "updated_at": made["updated_at"]}
    again = await put(owner, "one", "KEY", "other")
    assert again["version"] == 2
    listed = await owner.get(f"{API}/apps/{app}/secrets")
    assert listed.json() == {"items": [again], "next_cursor": None}
    assert (await owner.delete(f"{API}/apps/{app}/secrets/KEY")).status_code == 204
    refused(await owner.delete(f"{API}/apps/{app}/secrets/KEY"), 404)
    assert (await owner.get(f"{API}/apps/{app}/secrets")).json()["items"] == []
    assert (await put(owner, app, "KEY"))["version"] == 4


async def test_no_answer_and_no_event_has_a_value(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    await put(owner, app, "KEY")
    events = (await owner.get(f"{API}/apps/{app}/events")).json()["items"]
    (said,) = [event for event in events if event["topic"] == "secrets.SecretSet"]
    assert said["data"]["name"] == "KEY"
    assert said["metadata"]["actor"].startswith("user:")
    assert VALUE not in str(events)
    refused(await owner.get(f"{API}/apps/{app}/secrets/KEY"), 405)
    await owner.delete(f"{API}/apps/{app}/secrets/KEY")
    assert await connection.fetchval("SELECT count(*) FROM vault_secrets") == 0
    topics = [event["topic"] for event in (await owner.get(f"{API}/apps/{app}/events")).json()["items"]]
    assert topics[-1] == "secrets.SecretDeleted"


async def test_a_replaced_value_is_removed(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    for number in range(3):
        await put(owner, app, "KEY", f"value {number}")
    assert await connection.fetchval("SELECT count(*) FROM vault_secrets") == 1


async def test_a_script_uses_what_was_set(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    await put(owner, app, "KEY")
    script = await make_script(owner, app, source="def handler(ctx):\n    return [secrets.get('KEY'), secrets.get('NONE')]\n")
    assert (await owner.post(f"/api/v1/execute/{script}")).json() == [VALUE, None]


async def test_pages(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    for name in ("b", "a", "B", "_"):
        await put(owner, app, name)
    first = (await owner.get(f"{API}/apps/{app}/secrets", params={"limit": 3})).json()
    second = (await owner.get(f"{API}/apps/{app}/secrets", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [secret["name"] for secret in (*first["items"], *second["items"])] == ["B", "_", "a", "b"]
    assert second["next_cursor"] is None
    for cursor in BAD_CURSORS:
        refused(await owner.get(f"{API}/apps/{app}/secrets", params={"cursor": cursor}), 422, field="cursor")
    for limit in ("0", "201", "x"):
        refused(await owner.get(f"{API}/apps/{app}/secrets", params={"limit": limit}), 422, field="limit")


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "x",
        {},
        {"value": None},
        {"value": 1},
        {"value": "x", "more": 1},
        {"value": ["x"]},
        {"value": nested(70)},
    ],
)
async def test_a_wrong_body_changes_nothing(owner: httpx.AsyncClient, connection: asyncpg.Connection, body: Any) -> None:
    app = await make_app(owner, "one")
    async with nothing_changes(connection):
        refused(await send(owner, "PUT", f"/apps/{app}/secrets/KEY", body), 422)


@pytest.mark.parametrize("value", ["", "\x00", "x" * (MAX_VALUE_BYTES + 1)])
async def test_a_wrong_value_changes_nothing(owner: httpx.AsyncClient, connection: asyncpg.Connection, value: str) -> None:
    app = await make_app(owner, "one")
    async with nothing_changes(connection):
        refused(await send(owner, "PUT", f"/apps/{app}/secrets/KEY", {"value": value}), 422)
    assert await connection.fetchval("SELECT count(*) FROM vault_secrets") == 0


@pytest.mark.parametrize("name", ["9", "a%20b", "a%2Fb", "%C3%A4", "a" * 129, "-", "a%0A"])
async def test_a_wrong_name_changes_nothing(owner: httpx.AsyncClient, connection: asyncpg.Connection, name: str) -> None:
    app = await make_app(owner, "one")
    async with nothing_changes(connection):
        refused(await send(owner, "PUT", f"/apps/{app}/secrets/{name}", {"value": "x"}), 422, field="name")
        refused(await owner.delete(f"{API}/apps/{app}/secrets/{name}"), 422, field="name")


async def test_other_peoples_apps_are_missing(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    for reference in NO_IDS[:-2]:
        assert (await owner.get(f"{API}/apps/{reference}/secrets")).status_code in {400, 404}
    for method, path in (("GET", ""), ("PUT", "/KEY"), ("DELETE", "/KEY")):
        refused(await anonymous.request(method, f"{API}/apps/{app}/secrets{path}"), 401)


async def test_too_many_are_refused(owner: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.admin.data_secrets.MAX_SECRETS", 2)
    app = await make_app(owner, "one")
    for name in ("a", "b", "a"):
        await put(owner, app, name)
    refused(await send(owner, "PUT", f"/apps/{app}/secrets/c", {"value": "x"}), 409, "too_many_secrets")


async def test_a_key_file_that_others_can_read_is_said(owner: httpx.AsyncClient, core: Platform) -> None:
    app = await make_app(owner, "one")
    file = core.settings.data_dir / "secrets.key"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x")
    file.chmod(0o644)
    document = refused(await send(owner, "PUT", f"/apps/{app}/secrets/KEY", {"value": VALUE}), 503)
    assert "can be read by others" in document["detail"]
    assert VALUE not in str(document)
    ready = await owner.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["secrets"]["ok"] is False
    assert "can be read by others" in ready.json()["secrets"]["problem"]
    file.unlink()
    await put(owner, app, "KEY")
    assert (await owner.get("/readyz")).json()["secrets"]["ok"] is True
