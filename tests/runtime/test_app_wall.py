"""What a run reads by finds nothing of another app, even where a bug names it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from domain.docs.events import CreateDoc
from domain.docs.filters import AllOf
from domain.docs.queries import parse_query
from domain.errors import ReadConflict
from domain.kv import SetKey, entry_stream
from domain.ports import Reader
from domain.units import Read
from projections.control.reads import read_script
from projections.docs.reads import count_documents, find_documents, read_document
from projections.kv.live import get_entry, page_entries
from runtime.admin.streams import StreamHead, read_heads
from runtime.platform import Platform
from tests.runtime.world import App, new_app, running

pytestmark = pytest.mark.anyio

ONE = msgspec.Raw(b"1")


@pytest.fixture
async def platform(dsn: str) -> AsyncIterator[Platform]:
    async with running(dsn) as opened:
        yield opened


@pytest.fixture
async def other(platform: Platform) -> App:
    """An app with an entry and a document."""
    app = await new_app(platform)
    await app.append(SetKey(collection="c", key="k", value=ONE), CreateDoc(collection="c", id="d", data=msgspec.Raw(b'{"n":1}')))
    return app


async def found(reader: Reader, other: App) -> list[bool]:
    """Which of the ways to another app's data lead there."""
    now, query = other.platform.clock(), parse_query({"n": 1})
    (head,) = await read_heads(reader, other.id, entry_stream("c", "k"))
    documents, _ = await find_documents(reader, other.id, "c", query, max_bytes=1 << 20)
    return [
        await get_entry(reader, other.id, "c", "k", now) is not None,
        bool(await page_entries(reader, other.id, "c", "", None, now, limit=10, max_bytes=1 << 20)),
        await read_document(reader, other.id, "c", "d") is not None,
        bool(documents),
        await count_documents(reader, other.id, "c", AllOf(())) > 0,
        head != StreamHead(),
    ]


async def test_a_read_that_names_another_app_finds_nothing(platform: Platform, other: App) -> None:
    mine = await new_app(platform)
    script_id = await other.script("def handler(ctx):\n    return 1\n")
    assert all(await found(platform.app_readers(other.id), other))
    assert not any(await found(platform.app_readers(mine.id), other))
    assert await read_script(platform.app_readers(mine.id), other.id, script_id) is None
    assert await read_script(platform.app_readers(other.id), other.id, script_id) is not None


async def test_runs_are_given_such_readers(platform: Platform, other: App) -> None:
    executor = platform.executor
    assert executor.readers is platform.app_readers
    with pytest.raises(ReadConflict):
        await executor.check_reads(other.id, [Read(entry_stream("c", "k"), 2)], platform.clock())
    await executor.check_reads(other.id, [Read(entry_stream("c", "k"), 1)], platform.clock())
