"""What the tests of the control plane share: apps and scripts made over HTTP, and proof that a refused request has changed nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx

API: Final = "/api/v1/admin"
ENDPOINT: Final = "def handler(ctx):\n    return 1\n"
UNKNOWN_ID: Final = "018f0000-0000-7000-8000-000000000000"
NO_IDS: Final = ("x", "1", "018f0000", UNKNOWN_ID[:-1] + "g", UNKNOWN_ID, "%00", "..%2F..", "%F0%9F%98%80")
"""What stands in a path where an id belongs and finds nothing; `%00` is refused by the front already."""
BAD_CURSORS: Final = ("", "x", "%00", "!!!", "WzEsMl0", "W10", "A" * 7000)


async def make_app(client: httpx.AsyncClient, slug: str) -> str:
    """A new app's id."""
    answer = await client.post(f"{API}/apps", json={"name": slug, "slug": slug})
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


async def make_script(client: httpx.AsyncClient, app: str, name: str = "main", source: str = ENDPOINT, **more: Any) -> str:
    """A new script's id."""
    answer = await client.post(f"{API}/scripts", json={"app_id": app, "name": name, "source": source, **more})
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


async def make_route(client: httpx.AsyncClient, script: str, path: str = "/a", **more: Any) -> str:
    """A new route's id."""
    answer = await client.post(f"{API}/scripts/{script}/routes", json={"path": path, **more})
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


async def send(client: httpx.AsyncClient, method: str, path: str, body: Any) -> httpx.Response:
    """Send JSON as hostile clients may: lone surrogates escaped, NaN and infinities as Python writes them."""
    return await client.request(method, f"{API}{path}", content=json.dumps(body), headers={"content-type": "application/json"})


def nested(depth: int) -> Any:
    """Arrays in arrays."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def refused(answer: httpx.Response, status: int, code: str | None = None, field: str | None = None) -> dict[str, Any]:
    """Assert that an answer is a problem document of this kind; returns it."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["detail"]
    assert code is None or document["code"] == code, document
    assert field is None or document.get("field") == field, document
    return document


async def heads(connection: asyncpg.Connection) -> dict[UUID, int]:
    """Where every log of a database ends, but for what tells of refusals: that is appended a while after them."""
    rows = await connection.fetch("SELECT app_id, max(position) AS position FROM events WHERE topic NOT LIKE 'access.%' GROUP BY app_id")
    return {row["app_id"]: row["position"] for row in rows}


@asynccontextmanager
async def nothing_changes(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Assert that what is done inside appends nothing to any log, but for what tells of it."""
    before = await heads(connection)
    yield
    assert await heads(connection) == before
