"""The command `picloud`.

Serve, rebuild, verify, rotate secrets, help those who cannot log in. Settings come from the environment; the flags of `serve` stand for the variables that
people change by hand.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Final, TypeVar

import anyio

from adapters.postgres.embedded import kept_running, open_embedded
from domain.errors import Invalid, PiCloudError
from domain.users import check_password
from runtime.access.owners import create_owner, reset_password
from runtime.database import prepare_database
from runtime.logging import configure_logging
from runtime.server import Web, serve
from runtime.settings import Settings, load_settings, settings_help
from runtime.supervisor import supervise
from runtime.upkeep import rebuild, rotate_secrets, verify
from runtime.welcome import Welcome

T = TypeVar("T")

WORKER_OF: Final = "PC_WORKER_INDEX"
"""Set for the processes that `--workers` starts: the parent has the database open and prepared."""


def run(web: Web, argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status. `web` is the web layer, which stands above this one."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments, web)
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        known = _known(error)
        if known is None:
            raise
        print(f"picloud: {known.detail}", file=sys.stderr)
        return 2


def _run(arguments: argparse.Namespace, web: Web) -> int:
    flags = _flags(arguments)
    settings = load_settings({**_environment(), **flags})
    configure_logging(settings.log)
    if arguments.command == "serve":
        return _serve(settings, web, flags)
    if settings.pg.url is None and not settings.data_dir.is_dir():
        raise Invalid(f"PICLOUD_DATA_DIR: there is no instance in {settings.data_dir}", field="PICLOUD_DATA_DIR")
    password = _password() if getattr(arguments, "password_stdin", False) else None
    with _database(settings) as dsn:
        if arguments.command == "secrets":
            return _anyio(rotate_secrets, dsn, settings)
        if arguments.command == "admin":
            return _anyio(create_owner if arguments.action == "create-owner" else reset_password, dsn, arguments.username, password)
        return _anyio(rebuild if arguments.command == "rebuild" else verify, dsn, arguments.names)


def _known(error: BaseException) -> PiCloudError | None:
    """What a person can be told: one of our errors, alone or within the groups that task groups make of it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, PiCloudError) else None


def _serve(settings: Settings, web: Web, flags: Mapping[str, str]) -> int:
    if WORKER_OF in os.environ:
        return _worker(settings, web)
    with _database(settings) as dsn, kept_running(settings.data_dir) if settings.pg.url is None else nullcontext():
        _anyio(prepare_database, dsn)
        if settings.process.workers > 1:
            return supervise(dsn, settings, WORKER_OF, flags)
        welcome = Welcome(settings, embedded=settings.pg.url is None)
        _anyio(serve, dsn, settings, web, welcome.prepare, welcome.show)
    return 0


def _worker(settings: Settings, web: Web) -> int:
    """One of several equal processes: the first of them, by the log's verdict, bootstraps; all of them serve."""
    if settings.pg.url is None:
        raise PiCloudError("a worker process needs DATABASE_URL")
    welcome = Welcome(settings, embedded=False, quiet=os.environ[WORKER_OF] != "0")
    _anyio(serve, settings.pg.url.value, settings, web, welcome.prepare, welcome.show)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="picloud", description="A self-hosted serverless backend: every mutation is an event in an append-only log.")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser(
        "serve",
        help="serve HTTP, run triggers and schedules",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"environment variables:\n\n{settings_help()}",
    )
    for flag in _FLAGS:
        serving.add_argument(flag, metavar=flag.removeprefix("--").upper(), help=f"the same as {_FLAGS[flag]}")
    for name, text in (("rebuild", "rebuild read models from the log while traffic flows"), ("verify", "compare read models with the log, row by row")):
        command = commands.add_parser(name, help=text)
        command.add_argument("names", nargs="*", metavar="NAME", help="projections; all when none is named")
        command.add_argument("--data-dir", metavar="DATA-DIR", help="the same as PICLOUD_DATA_DIR")
    keeping = commands.add_parser("secrets", help="encrypt all secrets with the current key")
    keeping.add_argument("action", choices=["rotate"])
    keeping.add_argument("--data-dir", metavar="DATA-DIR", help="the same as PICLOUD_DATA_DIR")
    managing = commands.add_parser("admin", help="make an owner, or give somebody another password, whether the instance is being served or not")
    managing.add_argument("action", choices=["create-owner", "reset-password"])
    managing.add_argument("username", metavar="USERNAME")
    managing.add_argument("--password-stdin", action="store_true", help="the password is the first line of standard input; else one is made and shown")
    managing.add_argument("--data-dir", metavar="DATA-DIR", help="the same as PICLOUD_DATA_DIR")
    return parser


_FLAGS: Final[Mapping[str, str]] = {"--bind": "PICLOUD_BIND", "--workers": "PICLOUD_WORKERS", "--roles": "PICLOUD_ROLES", "--data-dir": "PICLOUD_DATA_DIR"}


def _environment() -> dict[str, str]:
    """The environment without what PiCloud's own processes tell each other."""
    return {name: value for name, value in os.environ.items() if name != WORKER_OF}


def _flags(arguments: argparse.Namespace) -> dict[str, str]:
    """The flags that were given, as the variables that they stand for."""
    given = {variable: getattr(arguments, flag.removeprefix("--").replace("-", "_"), None) for flag, variable in _FLAGS.items()}
    return {variable: value for variable, value in given.items() if value is not None}


def _password() -> str:
    """The first line of standard input, without its end. Raises Invalid."""
    return check_password(sys.stdin.readline().rstrip("\r\n"), "password")


@contextmanager
def _database(settings: Settings) -> Iterator[str]:
    """The database of the settings; the embedded server runs as long as the context lasts."""
    if settings.pg.url is not None:
        yield settings.pg.url.value
        return
    with open_embedded(settings.data_dir) as dsn:
        yield dsn


def _anyio(function: Callable[..., Awaitable[T]], *args: object) -> T:
    return anyio.run(function, *args, backend="asyncio", backend_options={"use_uvloop": True})
