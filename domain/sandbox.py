"""What running a script means: the job, the host that answers it, and how it ended. The adapter in `adapters/sandbox` implements `Sandbox`."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, Literal, Protocol
from uuid import UUID

import msgspec

ScriptKind = Literal["endpoint", "module"]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one run of a script may use. Memory in MiB, output in bytes (answer, logs and prints together)."""

    memory_mib: int = 64
    host_calls: int = 1000
    output_bytes: int = 1024 * 1024
    recursion: int = 200


class Source(msgspec.Struct, frozen=True):
    """One script's text under the name that tracebacks show."""

    name: str
    source: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one script, with everything that makes it repeatable.

    `modules` stand in load order (a module after all that it imports). `ctx` is the handler's argument as plain JSON values plus bytes, in the shape of
    script-sdk ("`ctx`"). `clock` and `seed` are all that the script sees of time and chance. `denied` are effects (`kv_set`) that it may not ask for, each with
    the message of the PermissionError that it gets instead.
    """

    app_id: UUID
    script: Source
    modules: tuple[Source, ...] = ()
    ctx: dict[str, Any]
    clock: datetime
    seed: str
    timeout_s: float
    limits: Limits = Limits()
    denied: Mapping[str, str] = {}


class Call(msgspec.Struct, frozen=True):
    """A flat host call (`kv_get`) with its arguments, untrusted: scripts can forge both."""

    name: str
    args: tuple[Any, ...]


LATER: Final = object()
"""Instead of an answer: it is not at hand, so `Host.call` must be awaited for it."""


class Host(Protocol):
    """Answers a running script. Errors of built-in types (ValueError, KeyError, TypeError, PermissionError, RuntimeError) are raised into the script.

    Any other exception ends the run and is raised by `Sandbox.run` as it is.
    """

    def is_slow(self, name: str) -> bool:
        """Whether this call may wait long (outbound HTTP): the run is then parked, its worker and thread given back while it waits."""
        ...

    def parked(self) -> AbstractAsyncContextManager[None]:
        """Entered while a run is parked, so that others can be run in its place."""
        ...

    def answer_now(self, call: Call) -> Any:
        """Answer one call from what is at hand, or return `LATER`. Called in the sandbox's thread; must not block. Raises as `call` does."""
        ...

    def call(self, call: Call) -> Awaitable[Any]:
        """Answer one call. Awaited on the event loop, never in the sandbox's thread."""
        ...


class LogLine(msgspec.Struct, frozen=True):
    """One captured `log.*` call or print. `data` is a JSON value or None."""

    level: Literal["trace", "debug", "info", "warn", "error", "print"]
    message: str
    data: Any = None


class Frame(msgspec.Struct, frozen=True):
    """A traceback's line: 1-based line and column in the script (or module) of that name."""

    script: str
    line: int
    column: int
    function: str | None = None


class ScriptError(msgspec.Struct, frozen=True):
    """What went wrong, in the script's own terms. Innermost frame last."""

    type: str
    message: str
    frames: tuple[Frame, ...] = ()


class Reply(msgspec.Struct, frozen=True):
    """An answer for a caller: `body` is ready to send."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawEffect(msgspec.Struct, frozen=True):
    """One buffered effect (`kv_set`) in call order, untrusted: the service that owns the name validates it."""

    name: str
    args: tuple[Any, ...]


Ending = Literal["returned", "aborted", "raised", "invalid", "timed_out", "budget", "crashed", "contention"]


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended.

    `returned`: `reply` is the answer and `effects` what it wants to happen. `aborted`: `reply` alone. `raised`, `invalid` (does not compile), `timed_out`,
    `budget` (memory, host calls, output, recursion), `crashed` (the worker died), `contention` (the executor gave up on conflicts, the sandbox never says
    so): `error` says why. Logs are there in every case.
    """

    ending: Ending
    reply: Reply | None = None
    effects: tuple[RawEffect, ...] = ()
    error: ScriptError | None = None
    logs: tuple[LogLine, ...] = ()
    duration_s: float = 0.0


class Diagnostic(msgspec.Struct, frozen=True):
    """One finding of the check at upload; 1-based line and column, in the script's own text."""

    line: int
    column: int
    severity: Literal["error", "warning"]
    code: str
    message: str


class SandboxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `readyz` and the start-up log show: workers alive, and which hardening is active (`seccomp`, `landlock`, `unprivileged_uid`, ...)."""

    workers: int
    hardening: dict[str, bool]


class Sandbox(Protocol):
    """Runs scripts, and checks them without running them."""

    async def run(self, job: Job, host: Host) -> RunResult:
        """Run one job to its end. Raises only what `host.call` raised on purpose, and Unavailable when no worker can be had."""
        ...

    async def check(self, kind: ScriptKind, script: Source, modules: tuple[Source, ...] = ()) -> list[Diagnostic]:
        """Compile and type-check against the SDK's stub, executing nothing. `modules` as in Job. No diagnostics of severity error: it may be stored."""
        ...

    def status(self) -> SandboxStatus:
        """Its state now."""
        ...
