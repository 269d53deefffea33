"""Several equal processes behind one port: the parent keeps the database open, starts them, starts anew whichever dies, and passes a stop on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from types import FrameType
from typing import Final

import structlog

from runtime.server import bind
from runtime.settings import Settings

_LOOK_EVERY_S: Final = 0.1
_RESTART_AFTER_S: Final = 1.0
_STOP_WITHIN_S: Final = 30.0

log = structlog.get_logger(__name__)


def supervise(dsn: str, settings: Settings, marker: str, flags: Mapping[str, str]) -> int:
    """Run `settings.process.workers` processes until SIGINT or SIGTERM; returns the exit status. `flags` are the variables that the command line has set."""
    stopping = False
    # Held for as long as we run: no stranger gets the port while a process is being replaced, and a port 0 is one port for all of them.
    reserved = bind(settings, reserve=True)
    host, port = reserved.getsockname()[:2]
    children = _Children({**flags, "DATABASE_URL": dsn, "PICLOUD_BIND": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}, marker)

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        del number, frame
        stopping = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    for index in range(settings.process.workers):
        children.start(index)
    while not stopping:
        time.sleep(_LOOK_EVERY_S)
        children.replace_dead()
    return children.stop()


class _Children:
    def __init__(self, settings: dict[str, str], marker: str) -> None:
        self._settings = settings
        self._marker = marker
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._started: dict[int, float] = {}

    def start(self, index: int) -> None:
        """Start (again) the process of this index. It gets a process group of its own: the parent passes Ctrl-C on when it is time."""
        environment = {**os.environ, **self._settings, self._marker: str(index)}
        command = [sys.executable, "-m", "web.main", "serve"]
        self._running[index] = subprocess.Popen(command, env=environment, start_new_session=True)
        self._started[index] = time.monotonic()

    def replace_dead(self) -> None:
        """Start anew whoever has ended, not more often than once a second each."""
        for index, child in list(self._running.items()):
            if child.poll() is not None and time.monotonic() - self._started[index] > _RESTART_AFTER_S:
                log.warning("process_ended", index=index, status=child.returncode)
                self.start(index)

    def stop(self) -> int:
        """End them all, in good order if they can."""
        for child in self._running.values():
            child.terminate()
        deadline = time.monotonic() + _STOP_WITHIN_S
        for child in self._running.values():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
        return 0
