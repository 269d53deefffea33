"""What a run that commits nothing has read is checked by versions: the values, which may be many and long, are not read again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from adapters.postgres.mapper import StructMapper
from adapters.postgres.readcheck import ReadCheck
from domain.errors import ReadConflict
from domain.events import Event
from domain.kv import DeleteKey, SetKey, entry_stream
from domain.registry import EVENTS, RULES
from domain.units import ABSENT, Read
from runtime.platform import Platform
from tests.runtime.world import App

pytestmark = pytest.mark.anyio

THERE, DELETED, NEVER = (entry_stream("c", key) for key in ("there", "deleted", "never"))


class Decoded:
    """Decodes events, and remembers which."""

    def __init__(self) -> None:
        self._codec = StructMapper(EVENTS)
        self.topics: list[str] = []

    def __call__(self, topic: str, state: Any) -> Event:
        self.topics.append(topic)
        return self._codec.decode(topic, state)


@pytest.fixture
async def filled(app: App) -> App:
    for key in ("there", "deleted"):
        await app.append(SetKey(collection="c", key=key, value=msgspec.Raw(b"1")))
    await app.append(DeleteKey(collection="c", key="deleted"))
    return app


async def test_values_that_were_found_are_not_read_again(filled: App, platform: Platform) -> None:
    decoded = Decoded()
    reads = [Read(THERE, 1), Read(DELETED, ABSENT), Read(NEVER, ABSENT)]
    await ReadCheck(platform.app_readers, RULES, decoded)(filled.id, reads, platform.clock())
    assert decoded.topics == ["kv.KvDeleted"]


@pytest.mark.parametrize("read", [Read(THERE, 2), Read(THERE, ABSENT), Read(DELETED, 1), Read(NEVER, 1)], ids=str)
async def test_what_has_changed_is_found(filled: App, platform: Platform, read: Read) -> None:
    with pytest.raises(ReadConflict) as conflict:
        await ReadCheck(platform.app_readers, RULES, Decoded())(filled.id, [read], platform.clock())
    assert conflict.value.extra["stream"] == read.stream
