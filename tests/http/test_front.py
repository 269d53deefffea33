"""The front by itself: what a caller hears of a request that the server's stop cuts off."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from runtime.metrics import Metrics
from web.front import Front, Receive, Scope, Send

pytestmark = pytest.mark.anyio


def scope() -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/slow", "raw_path": b"/slow", "query_string": b"", "headers": [(b"host", b"localhost")]}


async def nothing() -> Any:
    await asyncio.Event().wait()


async def cut_off(*, answered: bool) -> list[dict[str, Any]]:
    """What is sent when the request's task is cancelled while its handler runs, perhaps in mid-answer."""
    sent: list[Any] = []
    running = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message)

    async def handler(_scope: Scope, receive: Receive, send: Send) -> None:
        if answered:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        running.set()
        await receive()

    front = Front(handler, handler, Metrics(), 1024, 1024)
    request = asyncio.ensure_future(front(scope(), nothing, send))
    await running.wait()
    request.cancel()
    await asyncio.wait([request])
    assert request.cancelled() is answered
    return sent


async def test_a_request_that_the_servers_stop_cuts_off_is_told_so() -> None:
    start, body = await cut_off(answered=False)
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    assert msgspec.json.decode(body["body"])["code"] == "unavailable"


async def test_an_answer_that_has_begun_is_broken_off() -> None:
    (start,) = await cut_off(answered=True)
    assert start["status"] == 200
