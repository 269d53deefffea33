"""What is too large for its field, though not for a request: on a server that takes large bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import httpx
import msgspec
import pytest

from runtime.platform import Platform, open_platform
from runtime.settings import Http
from tests.http.admin_support import API, ENDPOINT, make_app, make_script, nothing_changes, refused
from tests.http.conftest import SETTINGS

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture
async def core(dsn: str) -> AsyncIterator[Platform]:
    """An instance whose scripts take bodies of 4 MiB."""
    async with open_platform(dsn, msgspec.structs.replace(SETTINGS, http=Http(max_body_bytes=4 * MIB))) as platform:
        yield platform


async def test_a_value_has_at_most_a_mebibyte(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    path = f"{API}/apps/{app}/kv/c/k"
    async with nothing_changes(connection):
        refused(await owner.put(path, json={"value": "x" * (MIB - 1)}), 422, field="value")
        for size in (2 * MIB, 5 * MIB):
            assert refused(await owner.put(path, json={"value": "x" * size}), 413, "too_large")["max_body_bytes"] == 2 * MIB
        refused(await owner.put(path, content=chunks(2 * MIB + 1)), 413, "too_large")
    assert (await owner.put(path, json={"value": "x" * (MIB - 2)})).status_code == 200
    assert len((await owner.get(path)).json()["value"]) == MIB - 2


async def chunks(size: int) -> AsyncIterator[bytes]:
    """A body without a content-length."""
    for start in range(0, size, 65536):
        yield b" " * min(65536, size - start)


async def test_a_long_body_is_refused_as_a_short_one_is(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    path = f"{API}/apps/{await make_app(owner, 'one')}/kv/c/k"
    many = [0] * 300_000
    async with nothing_changes(connection):
        refused(await owner.put(path, json={"value": [*many, "\x00"]}), 422, "invalid", "$.value")
        refused(await owner.put(path, json={"value": 1, "other": many}), 422, "invalid", "$.other")
        refused(await owner.put(path, content=b'{"value": [' + b"0," * 300_000), 400, "malformed")
    assert (await owner.put(path, json={"value": many})).json()["value"] == many


async def test_a_source_has_at_most_a_quarter_mebibyte(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app, "a", ENDPOINT + "#" * (MIB // 4 - len(ENDPOINT)))
    async with nothing_changes(connection):
        for source in (ENDPOINT + "#" * (MIB // 4 - len(ENDPOINT) + 1), ENDPOINT + "#" + "ä" * (MIB // 8)):
            refused(await owner.post(f"{API}/scripts", json={"app_id": app, "name": "b", "source": source}), 422, field="source")
            refused(await owner.put(f"{API}/scripts/{script}", json={"source": source}), 422, field="source")
            refused(await owner.post(f"{API}/scripts:check", json={"app_id": app, "source": source}), 422, field="source")
