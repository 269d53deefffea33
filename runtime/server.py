"""One serving process: the platform, and uvicorn before it on a socket that was bound already."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import anyio
import msgspec
import structlog
import uvicorn

from domain.errors import Invalid
from runtime.platform import Platform, open_platform
from runtime.settings import Settings

_GRACE_S: Final = 10
_BACKLOG: Final = 2048
_LOOK_EVERY_S: Final = 0.005


class Web(msgspec.Struct, frozen=True):
    """The web layer, handed in because it stands above this one: what makes the ASGI app of a platform, and uvicorn's protocol class."""

    build_app: Callable[[Platform], Any]
    protocol: type[asyncio.Protocol]


Step = Callable[[Platform], Awaitable[None]]

log = structlog.get_logger(__name__)


def bind(settings: Settings, *, reserve: bool = False) -> socket.socket:
    """The listening socket; several processes may share the port. `reserve` holds the port without taking connections. Raises Invalid."""
    address = settings.http.bind
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if settings.process.workers > 1:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((address.host, address.port))
        if not reserve:
            bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        message = f"PICLOUD_BIND: cannot listen on {address.host}:{address.port}: {error.strerror}"
        raise Invalid(message, field="PICLOUD_BIND", code="cannot_listen") from error
    bound.setblocking(False)
    return bound


async def serve(dsn: str, settings: Settings, web: Web, prepare: Step, ready: Step) -> None:
    """Serve until SIGINT or SIGTERM: then finish what is under way, give back what is not, and leave.

    `prepare` is awaited before the first request is taken, `ready` once requests are answered.
    """
    listening = bind(settings) if "web" in settings.process.roles else None
    try:
        async with open_platform(dsn, settings) as platform:
            await prepare(platform)
            if listening is None:
                await ready(platform)
                await _signalled()
            else:
                await _serve_http(_server(web.build_app(platform), web, settings.http.trusted_proxies), listening, lambda: ready(platform), platform.live.close)
    finally:
        if listening is not None:
            listening.close()


async def _serve_http(server: uvicorn.Server, listening: socket.socket, ready: Callable[[], Awaitable[None]], stopping: Callable[[], None]) -> None:
    """`stopping` is called before the server waits for what is under way."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listening])
        try:
            while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                await anyio.sleep(_LOOK_EVERY_S)
            await ready()
            await _signalled()
        finally:
            stopping()
            server.should_exit = True


def _server(app: Any, web: Web, proxies: Sequence[str]) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=web.protocol,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Signals are ours: the platform outlives the server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None are captured."""
        yield


async def _signalled() -> None:
    """Return at the first SIGINT or SIGTERM; a second one ends the process at once."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            return
