"""The two servers that `bench_http` compares: PiCloud, and a Litestar handler that does by hand on asyncpg what the scripts do.

Run as a process of its own: `python -m benchmarks.http_servers picloud|plain DSN`. It prints one JSON line, its port and the host to name, when requests are
answered, and stops when its standard input is closed.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import asyncpg
import msgspec
import uvicorn
from litestar import Litestar, get, post
from litestar.datastructures import State

from benchmarks.load import run
from benchmarks.seeding import Seeder
from runtime.platform import open_platform
from runtime.server import bind
from runtime.settings import load_settings
from web.main import build
from web.protocol import ProblemProtocol

WRITE = """
def handler(ctx):
    visits = kv.collection("visits")
    key = ctx.request.query["key"]
    n = (visits.get(key) or 0) + 1
    visits.set(key, n)
    return {"n": n}
"""
READ = """
def handler(ctx):
    return {"n": kv.collection("visits").get(ctx.request.query["key"])}
"""
_LOOK_EVERY_S = 0.005


class Ready(msgspec.Struct, frozen=True):
    """Where a server answers."""

    port: int
    host: str


@post("/write", status_code=200)
async def plain_write(key: str, state: State) -> dict[str, int]:
    async with state.pool.acquire() as connection:
        found = await connection.fetchval("SELECT value::text FROM plain_kv WHERE collection = $1 AND key = $2", "visits", key)
        n = (0 if found is None else msgspec.json.decode(found)) + 1
        await connection.execute(
            "INSERT INTO plain_kv VALUES ($1, $2, $3::text::jsonb) ON CONFLICT (collection, key) DO UPDATE SET value = excluded.value", "visits", key, str(n)
        )
    return {"n": n}


@get("/read")
async def plain_read(key: str, state: State) -> dict[str, Any]:
    found = await state.pool.fetchval("SELECT value::text FROM plain_kv WHERE collection = $1 AND key = $2", "visits", key)
    return {"n": None if found is None else msgspec.json.decode(found)}


@asynccontextmanager
async def plain(dsn: str) -> AsyncIterator[tuple[uvicorn.Config, str]]:
    async with asyncpg.create_pool(dsn, min_size=10, max_size=10) as pool:
        await pool.execute("CREATE TABLE plain_kv (collection text, key text, value jsonb NOT NULL, PRIMARY KEY (collection, key))")
        app = Litestar([plain_write, plain_read], state=State({"pool": pool}), logging_config=None, openapi_config=None)
        yield _config(app, "httptools"), "localhost"


@asynccontextmanager
async def picloud(dsn: str) -> AsyncIterator[tuple[uvicorn.Config, str]]:
    async with open_platform(dsn, load_settings({})) as platform:
        seeder = Seeder(platform)
        await seeder.app()
        await seeder.route(await seeder.script(WRITE), "/write")
        await seeder.route(await seeder.script(READ), "/read")
        yield _config(build(platform), ProblemProtocol), seeder.host


SERVERS: dict[str, Callable[[str], AbstractAsyncContextManager[tuple[uvicorn.Config, str]]]] = {"picloud": picloud, "plain": plain}


async def serve(name: str, dsn: str) -> None:
    async with SERVERS[name](dsn) as (config, host), anyio.create_task_group() as tasks:
        server = uvicorn.Server(config)
        with bind(load_settings({"PICLOUD_BIND": "127.0.0.1:0"})) as listening:
            tasks.start_soon(partial(server.serve, [listening]))
            while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                await anyio.sleep(_LOOK_EVERY_S)
            print(msgspec.json.encode(Ready(listening.getsockname()[1], host)).decode(), flush=True)
            await anyio.to_thread.run_sync(sys.stdin.read)
            server.should_exit = True


def _config(app: Any, protocol: Any) -> uvicorn.Config:
    """The same for both, but for the protocol class that is part of PiCloud."""
    return uvicorn.Config(
        app, loop="uvloop", http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False, proxy_headers=False
    )


if __name__ == "__main__":
    run(serve, *sys.argv[1:])
