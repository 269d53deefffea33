"""Started in the place of a worker's binary (`python -IS`, standard library only): gives up what a worker does not need, then becomes the binary.

Each step is best effort, so that a kernel without one of them still runs scripts. Called with `--probe` it becomes nothing but says, by trying, what a
worker can no longer do.
"""

from __future__ import annotations

import os
import sys

from . import restrict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable  # not at run time: a worker starts 2 ms sooner without

BINARY_FD = 200
"""Above `restrict.MAX_FILES`: no descriptor that a worker opens can have this number."""


def main(binary: str, address_space_bytes: int, arguments: list[str]) -> None:
    """Become `binary`, or print the probe's findings as JSON."""
    fd = os.open(binary, os.O_RDONLY)
    os.dup2(fd, BINARY_FD, inheritable=False)
    os.closerange(3, BINARY_FD)
    os.closerange(BINARY_FD + 1, 65536)
    if arguments == ["--probe"]:
        import json  # noqa: PLC0415 - a worker's start does not pay for the probe, and nothing can be imported after _restrict
        import socket  # noqa: PLC0415

        sys.stdout.write(json.dumps(_probe(_restrict(address_space_bytes), socket.socket)))
        sys.stdout.flush()
        return
    _restrict(address_space_bytes)
    os.execve(BINARY_FD, [binary, *arguments], {})  # noqa: S606 - becoming the binary is the purpose


def _restrict(address_space_bytes: int) -> set[str]:
    """Take every step that this kernel and user allow, in an order in which none forbids the next."""
    steps: dict[str, Callable[[], None]] = {
        "no_new_privileges": restrict.no_new_privileges,
        "unprivileged_user": restrict.drop_user,
        "resource_limits": lambda: restrict.limit_resources(address_space_bytes),
        "landlock": lambda: restrict.restrict_files(BINARY_FD),
        "seccomp": lambda: restrict.filter_syscalls(BINARY_FD),
    }
    done = set()
    for name, step in steps.items():
        try:
            step()
        except (OSError, ValueError) as error:
            sys.stderr.write(f"{name} is not available: {error}\n")
        else:
            done.add(name)
    return done


def _probe(done: set[str], open_socket: Callable[[], object]) -> dict[str, bool]:
    return {
        "clean_environment": True,
        "no_new_privileges": "no_new_privileges" in done,
        "unprivileged_user": os.geteuid() != 0 and os.getegid() != 0,
        "resource_limits": "resource_limits" in done,
        "landlock": "landlock" in done and _refused(lambda: os.close(os.open("/", os.O_RDONLY))),
        "seccomp": "seccomp" in done and _refused(open_socket) and _refused(lambda: os.fork() or os._exit(0)),
    }


def _refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return True
    except OSError:
        return False
    return False
