"""Names whose lookup takes long: threads cannot be cancelled, so their number is what must have an end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from uuid import UUID

import pytest

from domain.outbound import CallFailed
from tests.adapters.outbound_support import APP, Observed, get, response, serving

pytestmark = pytest.mark.anyio

PLACES = 8


class SlowNames:
    """The system's resolver, which is asked for `slow.test` and does not answer."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.answer = threading.Event()

    def __call__(self, host: object, port: int, **_: object) -> list[object]:
        if host != "slow.test":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        self.asked.append(host)
        self.answer.wait(30)
        raise OSError(-2, "Name or service not known")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowNames]:
    names = SlowNames()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    yield names
    names.answer.set()


async def test_a_lookup_that_nobody_waits_for_keeps_its_place(names: SlowNames) -> None:
    client = Observed().client
    for _ in range(2 * PLACES):
        with pytest.raises(CallFailed, match=r"^timed out$"):
            await client.call(APP, get("http://slow.test/", timeout_s=0.05))
    assert len(names.asked) == PLACES
    async with serving(response(b"x")) as server:
        url = f"http://quick.test:{server.port}/"
        assert (await client.call(UUID(int=2), get(url))).body == b"x"
        names.answer.set()
        assert (await client.call(APP, get(url))).body == b"x"
    assert len(names.asked) == PLACES
