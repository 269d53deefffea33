"""What is too large for its field, though not for a request: on a server that takes large bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import httpx
import msgspec
import pytest

from runtime.platform import open_platform
from runtime.settings import Http
from tests.http.admin_support import API, ENDPOINT, make_app, make_script, nothing_changes, refused
from tests.http.conftest import OWNER, SETTINGS, serve
from web.main import build

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture
async def owner(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    """The owner of an instance that takes bodies of 4 MiB."""
    async with open_platform(dsn, msgspec.structs.replace(SETTINGS, http=Http(max_body_bytes=4 * MIB))) as platform:
        await platform.accounts.bootstrap(SETTINGS.admin, lambda _: None)
        async with serve(build(platform)) as url, httpx.AsyncClient(base_url=url) as client:
            answer = await client.post(f"{API}/auth/login", json=OWNER)
            client.headers["authorization"] = f"Bearer {answer.json()['token']}"
            client.cookies.clear()
            yield client


async def test_a_value_has_at_most_a_mebibyte(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    path = f"{API}/apps/{app}/kv/c/k"
    async with nothing_changes(connection):
        refused(await owner.put(path, json={"value": "x" * (MIB - 1)}), 422, field="value")
        refused(await owner.put(path, json={"value": "x" * 5 * MIB}), 413)
    assert (await owner.put(path, json={"value": "x" * (MIB - 2)})).status_code == 200
    assert len((await owner.get(path)).json()["value"]) == MIB - 2


async def test_a_source_has_at_most_a_quarter_mebibyte(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app, "a", ENDPOINT + "#" * (MIB // 4 - len(ENDPOINT)))
    async with nothing_changes(connection):
        for source in (ENDPOINT + "#" * (MIB // 4 - len(ENDPOINT) + 1), ENDPOINT + "#" + "ä" * (MIB // 8)):
            refused(await owner.post(f"{API}/scripts", json={"app_id": app, "name": "b", "source": source}), 422, field="source")
            refused(await owner.put(f"{API}/scripts/{script}", json={"source": source}), 422, field="source")
            refused(await owner.post(f"{API}/scripts:check", json={"app_id": app, "source": source}), 422, field="source")
