"""The SQL of filters and orders against the evaluator, on random documents and random filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch
from uuid import UUID

import msgspec
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from adapters.postgres.connect import open_pool
from adapters.postgres.reader import PgReader
from domain.docs.evaluate import in_order, matches, place_of
from domain.docs.events import DocCreated, check_data, doc_stream
from domain.docs.queries import next_cursor, parse_query
from domain.events import Metadata, Recorded
from projections.docs import Documents, reads
from projections.docs.reads import count_documents, find_documents
from tests.domain.given import NOW
from tests.model.documents import documents, filters, sorts

Stored = dict[str, dict[str, Any]]
IDS = [f"{letter}{number}" for number in range(6) for letter in ("a", "B", "é", "\U00010000")]

queries = st.tuples(filters, sorts, st.integers(1, 4))


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio", {"use_uvloop": True}) as opened:
        yield opened


def test_sql_finds_what_the_evaluator_does(dsn: str, portal: BlockingPortal, anyio_backend: object) -> None:
    del anyio_backend  # runs the fixture of `dsn`; the pool lives in the portal's loop
    with portal.wrap_async_context_manager(open_pool(dsn, 1)) as pool:
        reader = PgReader(pool)

        @settings(max_examples=4 * settings().max_examples)
        @given(
            st.lists(documents, min_size=1, max_size=12),
            st.lists(st.tuples(filters, sorts, st.integers(1, 4)), min_size=1, max_size=5),
            st.sampled_from([0, 2, 4096]),
        )
        def check(data: list[dict[str, Any]], asked: list[tuple[dict[str, Any], Any, int]], most_indexed: int) -> None:
            if len(data) > 1:  # one that is too long for the index
                data[0] = {**data[0], "long": "x" * 20_000}
            stored = dict(zip(IDS, data, strict=False))
            app_id = portal.call(fill, reader, stored)
            for raw, sort, limit in asked:
                expected = evaluated(stored, raw, sort)
                with patch.object(reads, "_MOST_INDEXED", most_indexed):
                    found, count = portal.call(pages, reader, app_id, {**raw, "$sort": sort, "$limit": limit})
                assert (found, count) == (expected, len(expected)), (stored, raw, sort)

        check()


async def fill(reader: PgReader, stored: Stored) -> UUID:
    """Let the projection write these documents of a new app."""
    app_id: UUID = uuid7()
    events = [
        Recorded(
            app_id=app_id,
            position=position,
            stream=doc_stream("c", doc_id),
            version=1,
            event=DocCreated(collection="c", id=doc_id, data=check_data(data), created_at=NOW),
            metadata=Metadata(unit_id=app_id),
            recorded_at=NOW,
        )
        for position, (doc_id, data) in enumerate(stored.items(), start=1)
    ]
    for stage in Documents().apply(events):
        for statement in stage:
            await reader.fetch(statement.sql, *statement.args)
    return app_id


def evaluated(stored: Stored, raw: dict[str, Any], sort: Any) -> list[str]:
    query = parse_query({**raw, "$sort": sort})
    places = [place_of(query.sort, doc_id, data) for doc_id, data in stored.items() if matches(query.only, data)]
    return [place.id for place in sorted(places, key=in_order(query.sort))]


async def pages(reader: PgReader, app_id: UUID, raw: dict[str, Any]) -> tuple[list[str], int]:
    """Everything that a query finds, a page after another by both sorts of cursors, and how many that are."""
    found: list[str] = []
    more, cursor = True, None
    while more:
        query = parse_query({**raw, "$cursor": cursor})
        page, more = await find_documents(reader, app_id, "c", query, max_bytes=1 << 20)
        found += [document.id for document in page]
        if page:
            data = msgspec.json.decode(page[-1].data)
            cursor = {"id": page[-1].id, "data": data} if len(found) % 2 else next_cursor(query.sort, page[-1].id, data)
    return found, await count_documents(reader, app_id, "c", parse_query(raw).only)
