"""One serving process: the platform, and uvicorn before it on a socket that was bound already."""

from __future__ import annotations

import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
import structlog
import uvicorn

from runtime.platform import Platform, open_platform
from runtime.settings import Settings

_GRACE_S: Final = 10
_BACKLOG: Final = 2048
_LOOK_EVERY_S: Final = 0.005

BuildApp = Callable[[Platform], Any]
"""Makes the ASGI app; handed in, because the web layer stands above this one."""

Step = Callable[[Platform], Awaitable[None]]

log = structlog.get_logger(__name__)


def bind(settings: Settings) -> socket.socket:
    """The listening socket. Several processes may share the port."""
    address = settings.http.bind
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if settings.process.workers > 1:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((address.host, address.port))
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening


async def serve(dsn: str, settings: Settings, build_app: BuildApp, prepare: Step, ready: Step) -> None:
    """Serve until SIGINT or SIGTERM: then finish what is under way, give back what is not, and leave.

    `prepare` is awaited before the first request is taken, `ready` once requests are answered.
    """
    async with open_platform(dsn, settings) as platform:
        await prepare(platform)
        if "web" in settings.process.roles:
            await _serve_http(platform, settings, build_app, ready)
        else:
            await ready(platform)
            await _signalled()


async def _serve_http(platform: Platform, settings: Settings, build_app: BuildApp, ready: Step) -> None:
    server = _server(build_app(platform))
    with bind(settings) as listening:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listening])
            try:
                while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                    await anyio.sleep(_LOOK_EVERY_S)
                await ready(platform)
                await _signalled()
            finally:
                server.should_exit = True


def _server(app: Any) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
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
