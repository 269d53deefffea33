"""The system account of the embedded PostgreSQL when PiCloud runs as root, because PostgreSQL refuses to run as root.

An account of its own, not `nobody`: sandbox workers also run under an unprivileged uid, and an escape from one must not own the database's files.
Directories on the way to the data and to the binaries get search permission (`o+x`) where the account needs it, never permission to list or read.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Final, TypedDict

import msgspec
import structlog

from adapters.postgres.faults import DatabaseUnusable

ACCOUNT_NAME: Final = "picloud-pg"
_CREATE_WITHIN_S: Final = 5.0
_CREATE_AGAIN_S: Final = 0.1
WAY_OUT: Final = "start picloud as an ordinary user, or name a PostgreSQL server in DATABASE_URL"

_log = structlog.get_logger(__name__)


class RunAs(TypedDict, total=False):
    """The arguments of `subprocess.Popen` that change the child's identity; empty where it stays the same."""

    user: int
    group: int
    extra_groups: list[int]


class Account(msgspec.Struct, frozen=True):
    """Who owns the data and runs the server."""

    uid: int
    gid: int

    def run_as(self) -> RunAs:
        """What `subprocess` needs in order to start a child under this account."""
        return {} if self.uid == os.geteuid() else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Make this account the owner of `path`, where it is not."""
        if path.lstat().st_uid != self.uid:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def let_reach(self, path: Path) -> None:
        """Let this account walk to `path`. Only root can need it: an ordinary user's server is started by who owns the directories."""
        if self.uid == os.geteuid():
            return
        for directory in path.parents:
            status = directory.stat()
            if status.st_uid != self.uid and not status.st_mode & stat.S_IXOTH:
                directory.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
                _log.warning("search permission granted to others, so that the database can start", directory=str(directory))


def server_account() -> Account:
    """The account for the server: the caller's own, or for root the dedicated one, created at first use. Raises DatabaseUnusable."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    entry = _find() or _create()
    return Account(entry.pw_uid, entry.pw_gid)


def _find() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(ACCOUNT_NAME)
    except KeyError:
        return None


def _create() -> pwd.struct_passwd:
    command = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if command is None:
        raise DatabaseUnusable(f"PostgreSQL cannot run as root and there is no useradd to create the account {ACCOUNT_NAME}: {WAY_OUT}")
    arguments = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false", ACCOUNT_NAME]
    deadline = time.monotonic() + _CREATE_WITHIN_S
    while True:
        done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
        entry = _find()
        if entry is not None or time.monotonic() > deadline:
            break
        time.sleep(_CREATE_AGAIN_S)  # a concurrent starter may hold the lock on the list of accounts, with the account not there yet
    if entry is None:
        raise DatabaseUnusable(f"PostgreSQL cannot run as root and the account {ACCOUNT_NAME} could not be created ({done.stderr.strip()}): {WAY_OUT}")
    return entry
