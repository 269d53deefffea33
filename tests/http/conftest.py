"""A whole PiCloud behind a real port for each test that asks, on a database of its own."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import httpx
import msgspec
import pytest
import uvicorn

from runtime.environment import Secret
from runtime.platform import Platform, open_platform
from runtime.settings import Admin, Http, Settings
from web.front import App
from web.main import build

OWNER = {"username": "owner", "password": "correct horse battery"}
MAX_BODY_BYTES = 256 * 1024
SETTINGS = Settings(admin=Admin(username=OWNER["username"], password=Secret(OWNER["password"])), http=Http(max_body_bytes=MAX_BODY_BYTES))


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

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """See the base class; a test run's signals are pytest's."""
        yield


@pytest.fixture
async def core(dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    """The parts behind `url`, with the owner bootstrapped."""
    async with open_platform(dsn, msgspec.structs.replace(SETTINGS, data_dir=tmp_path)) as platform:
        await platform.accounts.bootstrap(SETTINGS.admin, lambda _: None)
        yield platform


@pytest.fixture
async def url(core: Platform) -> AsyncIterator[str]:
    """A running PiCloud's base URL."""
    async with serve(build(core)) as base_url:
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
