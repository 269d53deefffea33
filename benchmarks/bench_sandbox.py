"""What running a script costs, without HTTP and log: in this process, in the sandbox's workers, and beside Monty alone.

`one` runs one after another, `eight` keeps eight in flight. Host calls are answered at once, writes are buffered by the SDK as always. `bare Monty` is the
interpreter's own session with the trivial script and nothing of ours: no SDK, no `ctx`, no threads; `checkout` a session that is opened and closed.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import psutil
from pydantic_monty import Monty
from uuid_utils.compat import uuid7

from adapters.sandbox import MontySandbox, open_sandbox
from benchmarks.common import Table, arguments, report
from benchmarks.load import CPU_PARTS, Found, cpu, in_turns, run, share, spread, values
from domain.clock import utc_now
from domain.sandbox import LATER, Call, Job, Source

_TRIVIAL = "def handler(ctx):\n    return 1\n"
_READ_WRITE = """
def handler(ctx):
    visits = kv.collection("visits")
    n = (visits.get("bob") or 0) + 1
    visits.set("bob", n)
    return {"n": n}
"""
_TEN_READS = """
def handler(ctx):
    visits = kv.collection("visits")
    return [visits.get("k" + str(i)) for i in range(10)]
"""
_REMEMBERED = {"1 read remembered, 1 write": _READ_WRITE, "10 reads remembered": _TEN_READS}
SCRIPTS = {"trivial": _TRIVIAL, "1 read, 1 write": _READ_WRITE, "10 reads": _TEN_READS, **_REMEMBERED}
_READS = {_TRIVIAL: 0, _READ_WRITE: 1, _TEN_READS: 10}
_BARE = "bare Monty"
_IN_FLIGHT = 8
_MEMORY_BYTES = 64 * 1024 * 1024
_CTX: dict[str, Any] = {
    "request": {"method": "GET", "path": "/", "host": "h", "headers": {}, "query": {}, "params": {}, "rest": None, "body": None, "body_bytes": b""},
}


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Runs a round."""

    runs: int = 500


class _Host:
    """Answers every read with the same entry: at once, or, where it is `remembered`, in the sandbox's thread."""

    def __init__(self, *, remembered: bool) -> None:
        self.calls = 0
        self._remembered = remembered

    def is_slow(self, name: str) -> bool:
        return False

    def parked(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def answer_now(self, call: Call) -> object:
        if not self._remembered:
            return LATER
        return self._entry()

    async def call(self, call: Call) -> object:
        return self._entry()

    def _entry(self) -> object:
        self.calls += 1
        return {"value": "3", "version": 1, "updated_at": "2026-01-01T00:00:00Z"}


async def run_script(sandbox: MontySandbox, name: str, size: Size) -> dict[str, float]:
    """Alone, then several in flight; CPU is that of the latter."""
    app_id, host = uuid7(), _Host(remembered=name in _REMEMBERED)

    async def one(_: int) -> None:
        result = await sandbox.run(_job(app_id, name), host)
        assert result.ending == "returned", result

    await share(range(_IN_FLIGHT), one, _IN_FLIGHT)
    waits = []
    for number in range(size.runs // 4):
        begun = time.perf_counter()
        await one(number)
        waits.append((time.perf_counter() - begun) * 1000)
    before, begun = cpu(psutil.Process()), time.perf_counter()
    await share(range(size.runs), one, _IN_FLIGHT)
    rate = size.runs / (time.perf_counter() - begun)
    used = cpu(psutil.Process()).since(before).each_ms(size.runs)
    assert host.calls == _READS[SCRIPTS[name]] * (_IN_FLIGHT + size.runs // 4 + size.runs)
    return {"one": statistics.median(waits), "eight": rate, **used}


def _job(app_id: UUID, name: str) -> Job:
    return Job(app_id=app_id, script=Source("bench", SCRIPTS[name]), ctx=_CTX, clock=utc_now(), seed=secrets.token_hex(16), timeout_s=10.0)


async def run_bare(pool: Monty, code: str | None, size: Size) -> dict[str, float]:
    """Monty's own sessions, one after another; without code they are only opened and closed."""
    waits = []
    before, began = cpu(psutil.Process()), time.perf_counter()
    for _ in range(size.runs):
        begun = time.perf_counter()
        with pool.checkout(limits={"max_memory": _MEMORY_BYTES}) as session:
            if code is not None:
                assert session.feed_run(code) == 1
        waits.append((time.perf_counter() - begun) * 1000)
    rate = size.runs / (time.perf_counter() - began)
    return {"one": statistics.median(waits), "eight": rate, **cpu(psutil.Process()).since(before).each_ms(size.runs)}


async def measure(rounds: int, size: Size) -> list[Table]:
    async with open_sandbox() as sandbox:
        with Monty(max_processes=1) as pool:
            bare: dict[str, Callable[[], Awaitable[dict[str, float]]]] = {
                _BARE: partial(run_bare, pool, f"{SCRIPTS['trivial']}\nhandler(None)", size),
                "bare Monty, checkout": partial(run_bare, pool, None, size),
            }
            found = await in_turns(rounds, {**bare, **{name: partial(run_script, sandbox, name, size) for name in SCRIPTS}})
    columns = ["", "one, ms", "ratio", "executions/s", "CPU ms each", "process", "workers", "PostgreSQL"]
    return [Table("sandbox, 8 in flight (bare Monty: 1); ratio to bare Monty", columns, _rows(found), values(found))]


def _rows(found: Found) -> list[list[str]]:
    bare = found[_BARE]["one"]
    return [
        [name, spread(series["one"]), f"{series['one'].over(bare):.2f}", str(series["eight"]), *(f"{series[part].median:.2f}" for part in CPU_PARTS)]
        for name, series in found.items()
    ]


def main() -> None:
    asked = arguments(__doc__ or "")
    report("sandbox", run(measure, asked.rounds, Size()), asked.json)


if __name__ == "__main__":
    main()
