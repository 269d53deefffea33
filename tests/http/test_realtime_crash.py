"""Subscribers of a PiCloud that is killed and started again: each of them ends with the log's own sequence."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import httpx
import pytest

from tests.runtime.world import eventually
from tests.served import Served, serve, workplace
from tests.sse import subscribe

pytestmark = pytest.mark.anyio

OWNER = {"username": "admin", "password": "correct horse battery"}
HOST = "localhost"
SUBSCRIBERS = 30
MESSAGES = 120
BREAKS = (asyncio.IncompleteReadError, OSError, IndexError)
"""How an answer ends whose server was killed: in a chunk, in its head, or before it."""

Seen = list[tuple[int | None, Any]]


class Place:
    """Where PiCloud is now."""

    def __init__(self, served: Served) -> None:
        self.served = served


async def follow(place: Place, seen: Seen) -> None:
    """Subscribe for ever, and go on behind the last event that was seen."""
    while True:
        with suppress(*BREAKS):
            last = str(seen[-1][0] if seen else 0)
            stream = await subscribe(place.served.url, HOST, "/realtime/topics/news", last_event_id=last)
            try:
                async for event in stream.events():
                    if not event.name:
                        seen.append((event.id, event.data["message"]))
            finally:
                stream.close()
        await anyio.sleep(0.02)  # as a browser would, before it connects again


@asynccontextmanager
async def admin(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """The owner's client."""
    async with httpx.AsyncClient(base_url=f"{served.url}/api/v1/admin", timeout=20) as client:
        token = (await client.post("auth/login", json=OWNER)).raise_for_status().json()["token"]
        client.headers["authorization"] = f"Bearer {token}"
        yield client


async def publish(client: httpx.AsyncClient, numbers: range) -> None:
    for number in numbers:
        (await client.post("apps/default/topics/news:publish", json={"message": number})).raise_for_status()


async def published(client: httpx.AsyncClient) -> Seen:
    """What the log says."""
    answer = await client.get("apps/default/events", params={"topic": "pubsub.Published", "limit": 200})
    return [(event["position"], event["data"]["message"]) for event in answer.raise_for_status().json()["items"]]


@pytest.mark.alone
async def test_no_subscriber_misses_or_repeats_anything_when_the_process_is_killed() -> None:
    with workplace() as cwd, ExitStack() as served:
        place = Place(await asyncio.to_thread(served.enter_context, serve(cwd, PICLOUD_ADMIN_PASSWORD=OWNER["password"])))
        sequences: list[Seen] = [[] for _ in range(SUBSCRIBERS)]
        async with admin(place.served) as client:
            topic = {"name": "news", "external_subscribable": True, "auth_mode": "public"}
            (await client.post("apps/default/topics", json=topic)).raise_for_status()
            async with anyio.create_task_group() as tasks:
                for seen in sequences:
                    tasks.start_soon(follow, place, seen)
                await publish(client, range(MESSAGES // 2))
                place.served.process.send_signal(signal.SIGKILL)
                place.served.process.wait()
                place.served = await asyncio.to_thread(served.enter_context, serve(cwd))
                async with admin(place.served) as after:
                    await publish(after, range(MESSAGES // 2, MESSAGES))
                    log = await published(after)

                async def shortest() -> int:
                    return min(map(len, sequences))

                await eventually(shortest, lambda count: count >= len(log))
                tasks.cancel_scope.cancel()
        assert [message for _, message in log] == list(range(MESSAGES))
        assert all(seen == log for seen in sequences)
