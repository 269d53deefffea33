"""The server that `bench_sse` measures: PiCloud with one app and a public topic.

Run as a process of its own: `python -m benchmarks.sse_server DSN`. It prints one JSON line, its port and the host to name, when it answers; for each number on
its standard input it publishes so many messages and prints when they were committed; and it stops when its standard input is closed.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec
import uvicorn

from benchmarks.load import run
from benchmarks.seeding import Seeder, append, record
from domain.pubsub import Publish
from domain.topics import Topic, TopicSaved, registry_stream
from domain.units import Change
from runtime.platform import Platform, open_platform
from runtime.server import bind
from runtime.settings import load_settings
from web.main import build
from web.protocol import ProblemProtocol

TOPIC = "news"
MESSAGE = msgspec.Raw(msgspec.json.encode({"text": "x" * 180}))
_UNIT_MESSAGES = 100
_LOOK_EVERY_S = 0.005
_SETTINGS = {"PICLOUD_BIND": "127.0.0.1:0", "PICLOUD_LIVE_MAX": "20000", "PICLOUD_LIVE_MAX_PER_APP": "20000", "PICLOUD_LIVE_MAX_PER_ADDRESS": "20000"}


class Ready(msgspec.Struct, frozen=True):
    """Where it answers."""

    port: int
    host: str


async def publish(platform: Platform, app_id: UUID, count: int) -> None:
    """Messages in units, one after another, as scripts in a row would publish them."""
    for start in range(0, count, _UNIT_MESSAGES):
        await append(platform.log, app_id, *(Change(Publish(topic=TOPIC, message=MESSAGE)) for _ in range(min(_UNIT_MESSAGES, count - start))))


async def seeded(platform: Platform) -> Seeder:
    """An app with the topic."""
    seeder = Seeder(platform)
    await seeder.app()
    topic = Topic(kind="topic", name=TOPIC, external_subscribable=True, auth_mode="public")
    await append(platform.log, seeder.app_id, record(registry_stream("topic", TOPIC), TopicSaved(topic=topic)))
    return seeder


async def serve(dsn: str) -> None:
    settings = load_settings(_SETTINGS)
    async with open_platform(dsn, settings) as platform, anyio.create_task_group() as tasks:
        seeder = await seeded(platform)
        config = uvicorn.Config(
            build(platform), loop="uvloop", http=ProblemProtocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False
        )
        server = uvicorn.Server(config)
        with bind(settings) as listening:
            tasks.start_soon(partial(server.serve, [listening]))
            while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                await anyio.sleep(_LOOK_EVERY_S)
            print(msgspec.json.encode(Ready(listening.getsockname()[1], seeder.host)).decode(), flush=True)
            while line := await anyio.to_thread.run_sync(sys.stdin.readline):
                await publish(platform, seeder.app_id, int(line))
                print(time.monotonic(), flush=True)
            platform.live.close()
            server.should_exit = True


if __name__ == "__main__":
    run(serve, *sys.argv[1:])
