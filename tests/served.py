"""PiCloud as people start it: a process of its own, with a data directory, an environment, and what it says on its terminal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path(__file__).parents[1]
READY_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 30.0
_LAST_LINE: Final = "the data stays"


class Served:
    """A serving process. `said` is its standard output up to when it was ready, `ready_s` how long that took."""

    def __init__(self, process: subprocess.Popen[str], address: str, said: str, ready_s: float, errors: Path) -> None:
        self.process = process
        self.address = address
        self.said = said
        self.ready_s = ready_s
        self._errors = errors

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def errors(self) -> str:
        """What it has written to its standard error."""
        return self._errors.read_text()

    def family(self) -> list[psutil.Process]:
        """The process and all that live of it: the database's server and the sandbox's workers."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = STOP_WITHIN_S) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(within_s)


@contextmanager
def workplace() -> Iterator[Path]:
    """An empty directory. Not pytest's: under root the database's account must be able to walk there, and each pytest that starts closes that way."""
    with tempfile.TemporaryDirectory(prefix="picloud-served-") as directory:
        yield Path(directory)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """The environment without settings of ours, and with these; `picloud` can be run from any directory, installed or not."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PICLOUD_") and name != "DATABASE_URL"}
    return {**kept, "PYTHONPATH": str(ROOT), **own}


def command(*arguments: str) -> list[str]:
    """The command `picloud`."""
    return [sys.executable, "-m", "web.main", *arguments]


def run(*arguments: str, cwd: Path, **own: str) -> subprocess.CompletedProcess[str]:
    """Run `picloud` to its end."""
    return subprocess.run(command(*arguments), cwd=cwd, env=environment(own), capture_output=True, text=True, timeout=READY_WITHIN_S, check=False)


@contextmanager
def serve(cwd: Path, *arguments: str, **own: str) -> Iterator[Served]:
    """`picloud serve` in a directory, from when it is ready; what is still running at the end is stopped."""
    address = f"127.0.0.1:{free_port()}"
    errors = cwd / "stderr.txt"
    with errors.open("a") as sink:
        began = time.monotonic()
        line = command("serve", "--bind", address, *arguments)
        process = subprocess.Popen(line, cwd=cwd, env=environment(own), stdout=subprocess.PIPE, stderr=sink, text=True, start_new_session=True)
    try:
        said = _until_ready(process, errors)
        yield Served(process, address, said, time.monotonic() - began, errors)
    finally:
        _end(process)


def _until_ready(process: subprocess.Popen[str], errors: Path) -> str:
    assert process.stdout is not None
    late = threading.Timer(READY_WITHIN_S, process.kill)
    late.start()
    said = ""
    try:
        for line in process.stdout:
            said += line
            if _LAST_LINE in line:
                return said
    finally:
        late.cancel()
    raise AssertionError(f"it ended before it was ready:\n{said}\n{errors.read_text()}")


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_WITHIN_S)
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
