"""A process that tests may kill: a platform of its own, with the roles and times of its environment, until it is ended.

`python -m tests.runtime.worker DSN` says `ready` once it runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import anyio

from runtime.platform import open_platform
from runtime.settings import load_settings

TIMES = {"PICLOUD_WORKER_BEAT_S": "0.1", "PICLOUD_WORKER_DEAD_S": "0.5", "PICLOUD_TAIL_POLL_MS": "50", "PICLOUD_SWEEP_INTERVAL_S": "0.1"}


def start(dsn: str, roles: str = "reactor", **settings: str) -> subprocess.Popen[str]:
    """A running worker process. Blocks; the caller ends it."""
    environment = {**os.environ, **TIMES, "PICLOUD_ROLES": roles, **settings}
    process = subprocess.Popen([sys.executable, "-m", "tests.runtime.worker", dsn], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    """End it without a word, and reap it."""
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


async def main(dsn: str) -> None:
    """Run until SIGTERM."""
    async with open_platform(dsn, load_settings({name: value for name, value in os.environ.items() if name.startswith("PICLOUD_")})):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                return


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], backend_options={"use_uvloop": True})
