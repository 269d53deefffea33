"""Long values that units have read: versions are enough to judge them, so the writer does not read them all."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from adapters.postgres.mapper import StructMapper
from domain.events import Event
from domain.registry import EVENTS
from domain.units import ABSENT, Read
from tests.adapters.log_support import appended, delete_key, entry, increment, open_test_log, set_key, unit

pytestmark = pytest.mark.anyio

LONG = "".join(map(chr, range(256, 55_000))) * 4
SHORT = range(300)


class Decoding(StructMapper):
    """Remembers what was decoded."""

    def __init__(self) -> None:
        super().__init__(EVENTS)
        self.decoded: list[Event] = []

    def decode(self, topic: str, state: Any) -> Event:
        event = super().decode(topic, state)
        self.decoded.append(event)
        return event


@pytest.fixture
async def app(dsn: str) -> UUID:
    """An app whose entries another process has written."""
    app_id = uuid4()
    async with open_test_log(dsn) as log:
        await log.append(unit(app_id, set_key("long", LONG), set_key("number", 1), set_key("gone", LONG)))
        await log.append(unit(app_id, delete_key("gone")))
        await log.append(unit(app_id, *(set_key(f"short{number}") for number in SHORT)))
    return app_id


async def test_what_is_long_or_much_is_judged_by_its_version(dsn: str, app: UUID) -> None:
    codec = Decoding()
    async with open_test_log(dsn, codec=codec) as log:
        reads = [Read(entry("long"), 1), *(Read(entry(f"short{number}"), 1) for number in SHORT)]
        assert await appended(log, unit(app, set_key("new"), reads=reads)) == ["appended"]
        assert codec.decoded == []
        for read in (Read(entry("long"), 2), Read(entry("long"), ABSENT), Read(entry("gone"), 1), Read(entry("never"), 1)):
            assert await appended(log, unit(app, set_key("new"), reads=[read])) == ["read_conflict"]


async def test_units_of_one_batch_may_need_more_of_it(dsn: str, app: UUID) -> None:
    async with open_test_log(dsn) as log:
        units = [
            unit(app, set_key("a"), reads=[Read(entry("number"), 1)]),
            unit(app, increment("number"), reads=[Read(entry("number"), 1), Read(entry("gone"), ABSENT)]),
            unit(app, set_key("b"), reads=[Read(entry("long"), 1)]),
            unit(app, delete_key("long"), reads=[Read(entry("long"), 1)]),
            unit(app, set_key("c"), reads=[Read(entry("long"), ABSENT)]),
        ]
        assert await appended(log, *units) == ["appended"] * 5
        assert [(event.stream, event.version) for event in await log.read(app, 304, 10)][1:2] == [(entry("number"), 2)]
