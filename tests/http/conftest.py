"""A whole PiCloud behind a real port for each test that asks, on a database of its own."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import anyio
import asyncpg
import httpx
import msgspec
import pytest
import uvicorn

from adapters.postgres.connect import open_pool
from adapters.postgres.log import PgLog, open_log
from adapters.postgres.mapper import StructMapper
from adapters.postgres.reader import PgReader
from adapters.postgres.vault import PgVault
from adapters.sandbox import open_sandbox
from domain.clock import Clock, utc_now
from domain.errors import NotFound
from domain.ports import Appender, Reader
from domain.registry import EVENTS, RULES
from domain.sandbox import Sandbox
from projections.project import projector
from projections.registry import PROJECTIONS
from runtime.accounts import Accounts
from runtime.database import prepare_database
from runtime.directory import Directory
from runtime.environment import Secret
from runtime.metrics import MeteredAppender, Metrics
from runtime.settings import Admin, Http, Settings
from web.app import build_app
from web.core import Core
from web.front import App, Receive, Scope, Send

OWNER = {"username": "owner", "password": "correct horse battery"}
MAX_BODY_BYTES = 256 * 1024
SETTINGS = Settings(admin=Admin(username=OWNER["username"], password=Secret(OWNER["password"])), http=Http(max_body_bytes=MAX_BODY_BYTES))


class Composed(msgspec.Struct, kw_only=True, eq=False):
    """What `build_app` needs, put together here."""

    settings: Settings
    clock: Clock
    log: PgLog
    appender: Appender
    reader: Reader
    sandbox: Sandbox
    accounts: Accounts
    directory: Directory
    metrics: Metrics


@asynccontextmanager
async def open_core(dsn: str, settings: Settings) -> AsyncIterator[Core]:
    """Everything behind the web, on a prepared database."""
    metrics = Metrics()
    codec = StructMapper(EVENTS)
    async with (
        open_pool(dsn, 4) as pool,
        open_log(dsn, pool, rules=RULES, codec=codec, project=projector(PROJECTIONS)) as log,
        open_sandbox() as sandbox,
    ):
        log.on_commit(metrics.committed)
        metrics.watch(sandbox_workers=lambda: sandbox.status().workers)
        appender, reader = MeteredAppender(log, metrics), PgReader(pool)
        yield Composed(
            settings=settings,
            clock=utc_now,
            log=log,
            appender=appender,
            reader=reader,
            sandbox=sandbox,
            accounts=Accounts(PgVault(pool), appender, settings.session, utc_now),
            directory=Directory(reader, uuid4(), settings.process.dead_s),
            metrics=metrics,
        )


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """A data plane without any app."""
    del scope, receive, send
    raise NotFound("no app answers for this host", code="unknown_host")


@asynccontextmanager
async def serve(app: App) -> AsyncIterator[str]:
    """Serve an app on a free port; yields its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, loop="uvloop", http="web.protocol:ProblemProtocol", ws="none", lifespan="off", log_config=None, access_log=False)
    server = _Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: server.serve([listener]))
        await server.ready.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True


class _Server(uvicorn.Server):
    """Says when it listens, and leaves the signals to pytest."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    def capture_signals(self) -> Any:
        """See the base class; a test run's signals are pytest's."""
        return _no_signals()


class _no_signals:  # noqa: N801  # used as a function
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
async def core(dsn: str) -> AsyncIterator[Core]:
    """The parts behind `url`, with the owner bootstrapped."""
    await prepare_database(dsn)
    async with open_core(dsn, SETTINGS) as opened:
        await opened.accounts.bootstrap(SETTINGS.admin, lambda _: None)
        yield opened


@pytest.fixture
async def url(core: Core) -> AsyncIterator[str]:
    """A running PiCloud's base URL."""
    async with serve(build_app(core, nothing_here)) as base_url:
        yield base_url


@pytest.fixture
async def anonymous(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client without credentials."""
    async with httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.fixture
async def owner(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the owner's token."""
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/api/v1/admin/auth/login", json=OWNER)
        assert answer.status_code == 200, answer.text
        client.cookies.clear()
        client.headers["authorization"] = f"Bearer {answer.json()['token']}"
        yield client


@pytest.fixture
async def database(dsn: str, core: Core) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own to the database behind `url`."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()
