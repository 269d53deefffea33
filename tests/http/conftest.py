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
from litestar import Litestar

from adapters.postgres.vault import User
from runtime.environment import Secret
from runtime.platform import Platform, open_platform
from runtime.settings import Admin, Http, Settings
from tests.postgres import cloned, execute, with_database
from web.app import before, control_plane
from web.dataplane import DataPlane
from web.front import App

OWNER = {"username": "owner", "password": "correct horse battery"}
OWNED = "template_owned"
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


class Owned(msgspec.Struct, frozen=True):
    """A database with the owner, to be cloned."""

    template: str
    user: User


@pytest.fixture(scope="session")
async def owned(server_dsn: str, template: str) -> Owned:
    """Made once: to hash the owner's password for each test would take longer than all else that a test needs."""
    await execute(server_dsn, f"CREATE DATABASE {OWNED} TEMPLATE {template}")
    async with open_platform(with_database(server_dsn, OWNED), SETTINGS) as platform:
        await platform.accounts.bootstrap(SETTINGS.admin, lambda _: None)
        session = await platform.accounts.log_in(**OWNER, address="127.0.0.1", user_agent="test")
        await platform.accounts.log_out(session.token)
        return Owned(OWNED, session.user)


@pytest.fixture
async def dsn(server_dsn: str, owned: Owned) -> AsyncIterator[str]:
    """A database of this test's own, with the owner."""
    async with cloned(server_dsn, owned.template) as own:
        yield own


@pytest.fixture
async def core(dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    """The parts behind `url`."""
    async with open_platform(dsn, msgspec.structs.replace(SETTINGS, data_dir=tmp_path)) as platform:
        yield platform


@pytest.fixture(scope="session")
def controls() -> dict[int, Litestar]:
    """Control planes by the largest body, made once: that takes half of what a test needs before it begins."""
    return {}


@pytest.fixture
async def url(core: Platform, controls: dict[int, Litestar]) -> AsyncIterator[str]:
    """A running PiCloud's base URL."""
    largest = core.settings.http.max_body_bytes
    control = controls[largest] = controls.get(largest) or control_plane(core)
    control.state.core = core
    async with serve(before(control, core, DataPlane(core))) as base_url:
        yield base_url


@pytest.fixture
async def anonymous(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client without credentials."""
    async with httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.fixture
async def owner(url: str, core: Platform, owned: Owned) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the owner's token."""
    async with client_of(url, await new_session(core, owned)) as client:
        yield client


def client_of(url: str, token: str) -> httpx.AsyncClient:
    """A client with a token."""
    return httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {token}"})


async def new_session(core: Platform, owned: Owned) -> str:
    """The token of a session that begins as a login's does, but for the password."""
    return (await core.accounts._begin(owned.user, "127.0.0.1", "test")).token
