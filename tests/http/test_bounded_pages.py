"""Lists of what is large: pages end by bytes, and lose nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from uuid_utils.compat import uuid7

from domain.events import Metadata
from domain.kv import SetKey
from domain.units import Change, Unit
from tests.http.admin_support import API, make_app
from web.core import Core

pytestmark = pytest.mark.anyio

KEYS = [f"k{number:02}" for number in range(11)]
SIZE = 900_000


async def fill(core: Core, app: str, ttl_s: float | None = None, now: datetime | None = None) -> None:
    """Set every key to a value that compresses to next to nothing."""
    for key in KEYS:
        effect = SetKey(collection="c", key=key, value=msgspec.Raw(b'"' + b"x" * SIZE + b'"'), ttl_s=ttl_s)
        changes = (Change(effect),)
        await core.appender.append(Unit(app_id=UUID(app), metadata=Metadata(unit_id=uuid7()), now=now or core.clock(), changes=changes))


async def walk(client: httpx.AsyncClient, path: str, **params: Any) -> tuple[list[Any], list[int]]:
    """All items of a list, and how many each page had; no page may have more than 5 MiB."""
    items: list[Any] = []
    sizes: list[int] = []
    while True:
        answer = await client.get(f"{API}{path}", params=params)
        assert answer.status_code == 200, answer.text[:500]
        assert len(answer.content) < 5 * 1024 * 1024
        page = answer.json()
        items += page["items"]
        sizes.append(len(page["items"]))
        if page["next_cursor"] is None:
            return items, sizes
        params["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("params", [{}, {"at": len(KEYS)}])
async def test_entries(owner: httpx.AsyncClient, core: Core, params: dict[str, Any]) -> None:
    app = await make_app(owner, "one")
    await fill(core, app)
    items, sizes = await walk(owner, f"/apps/{app}/kv/c", limit=1000, **params)
    assert [item["key"] for item in items] == KEYS
    assert sizes == [5, 5, 1]
    items, sizes = await walk(owner, f"/apps/{app}/kv/c", limit=3, **params)
    assert ([item["key"] for item in items], sizes) == (KEYS, [3, 3, 3, 2])


async def test_events_and_history(owner: httpx.AsyncClient, core: Core) -> None:
    app = await make_app(owner, "one")
    await fill(core, app)
    items, sizes = await walk(owner, f"/apps/{app}/events", limit=200)
    assert ([item["position"] for item in items], sizes) == (list(range(1, 12)), [5, 5, 1])
    items, sizes = await walk(owner, f"/apps/{app}/history/kv/c/k00", limit=1)
    assert ([item["version"] for item in items], sizes) == ([1], [1])


async def test_entries_are_counted_by_the_ends_of_their_states(owner: httpx.AsyncClient, core: Core) -> None:
    app = await make_app(owner, "one")
    await fill(core, app, ttl_s=3600.0)
    # Written by a clock of an hour ago, so that its time is up without any waiting.
    await fill(core, app, ttl_s=60.0, now=datetime.now(UTC) - timedelta(hours=1))
    for at, entries in ((len(KEYS), len(KEYS)), (2 * len(KEYS) - 1, 1), (datetime.now(UTC).isoformat(), 0)):
        answer = await owner.get(f"{API}/apps/{app}/kv", params={"at": at})
        assert answer.json()["items"] == [{"collection": "c", "entries": entries}]
