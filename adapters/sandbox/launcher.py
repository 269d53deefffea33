"""Prepares the executables that Monty starts in the place of its binary, and finds out what they achieve on this machine.

They are written at start-up, because a shebang needs this interpreter's path, and removed at the end. Where they do not work the bare binary is used,
and `hardening` says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import structlog
from pydantic_monty import Monty, MontyError
from pydantic_monty._binary import find_monty_binary

PROBE_TIMEOUT_S: Final = 20.0
MEASURES: Final = ("clean_environment", "no_new_privileges", "unprivileged_user", "resource_limits", "landlock", "seccomp")

_FOLDER: Final = Path(__file__).parent
_SHEBANG_MAX: Final = 120

_log = structlog.get_logger("picloud.sandbox")


class Launchers:
    """Paths to hand to Monty as `binary_path` (None: the bare binary), and which measures are active."""

    def __init__(self, run: str | None, check: str | None, hardening: dict[str, bool]) -> None:
        self.run = run
        self.check = check
        self.hardening = hardening


def prepare(folder: Path, *, run_bytes: int, check_bytes: int) -> Launchers:
    """Write the launchers into `folder`, try them, fall back when they do not work. Blocks for some tens of milliseconds."""
    try:
        run = _write(folder / "run", run_bytes)
        check = _write(folder / "check", check_bytes)
        hardening = _probe(run)
        _try_out(run)
        _try_out(check)
    except (OSError, ValueError, subprocess.SubprocessError, MontyError) as error:
        _log.warning("sandbox_hardening_unavailable", reason=str(error))
        return Launchers(None, None, dict.fromkeys(MEASURES, False))
    return Launchers(run, check, hardening)


def _write(path: Path, address_space_bytes: int) -> str:
    call = f"launch.main({find_monty_binary()!r}, {address_space_bytes}, sys.argv[1:])"
    body = f"import sys\nsys.path.insert(0, {str(_FOLDER)!r})\nfrom hardening import launch\n{call}\n"
    interpreter = sys.executable
    if len(interpreter) > _SHEBANG_MAX or any(char.isspace() for char in interpreter):
        source = path.with_suffix(".py")
        source.write_text(body)
        path.write_text(f'#!/bin/sh\nexec "{interpreter}" -IS "{source}" "$@"\n')
    else:
        path.write_text(f"#!{interpreter} -IS\n{body}")
    path.chmod(0o700)
    return str(path)


def _probe(launcher: str) -> dict[str, bool]:
    """Ask a process that has given up everything what it can still do."""
    done = subprocess.run([launcher, "--probe"], capture_output=True, timeout=PROBE_TIMEOUT_S, check=True, text=True)
    if done.stderr:
        _log.info("sandbox_hardening_partial", detail=done.stderr.strip())
    found = json.loads(done.stdout)
    return {measure: found[measure] is True for measure in MEASURES}


def _try_out(launcher: str) -> None:
    with Monty(binary_path=launcher, max_processes=1, request_timeout=PROBE_TIMEOUT_S) as pool, pool.checkout() as session:
        session.feed_run("1")
