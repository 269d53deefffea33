"""Answers that become long when they are decompressed: others are served meanwhile."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.adapters.outbound_support import APP, Observed, get, response, serving

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


class Counting:
    """A decompressor of zlib that counts how often it was asked since somebody else had a turn."""

    def __init__(self, real: Any, turns: Turns) -> None:
        self._real = real
        self._turns = turns

    def decompress(self, data: bytes, max_length: int) -> bytes:
        self._turns.asked += 1
        self._turns.most = max(self._turns.most, self._turns.asked)
        found: bytes = self._real.decompress(data, max_length)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Turns:
    """How many pieces were made at once."""

    def __init__(self) -> None:
        self.asked = self.most = 0

    async def take(self) -> None:
        while True:
            self.asked = 0
            await anyio.lowlevel.checkpoint()


async def test_pieces_are_made_in_turn_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, make = Turns(), zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", lambda bits: Counting(make(bits), turns))
    body = gzip.compress(bytes(9 * MIB))
    async with serving(response(body, content_encoding="gzip")) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(turns.take)
        answer = await Observed().client.call(APP, get(server.url))
        tasks.cancel_scope.cancel()
    assert len(answer.body) == 9 * MIB
    assert turns.most <= 2
