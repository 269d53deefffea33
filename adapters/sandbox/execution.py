"""One run, step by step: from its start, or from the answer to a host call, to the next host call or the end.

Steps block and run in the sandbox's threads, one at a time; between two steps the run holds its worker but no thread.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
import psutil
from pydantic_monty import (
    CollectString,
    ExternalResult,
    FunctionSnapshot,
    FutureSnapshot,
    Monty,
    MontyComplete,
    MontyCrashedError,
    MontyError,
    MontySession,
    NameLookupSnapshot,
    OSPolicy,
    ResourceLimits,
)

from adapters.sandbox import endings
from adapters.sandbox.output import parse_output
from adapters.sandbox.prelude import EXPORTS, ctx_input, plan
from adapters.sandbox.reply import make_effects, make_reply
from adapters.sandbox.settings import MAX_PRINT_BYTES
from adapters.sandbox.workers import Worker
from domain.sandbox import LATER, Call, Ending, Job, LogLine, RawEffect, Reply, RunResult, ScriptError

OTHER_SUSPENSIONS: Final = 1000
"""Imports and undefined names that one run may meet, beside its host calls."""

MIN_TIMEOUT_S: Final = 0.001

PRINT_FLUSH_S: Final = 0.1
"""How long the worker may hold prints back; what it holds is lost when it is killed."""

OWN_FRAMES: Final = 8
"""Calls of the prelude above and below the script's, on top of its recursion limit."""

PARKED_BYTES: Final = 16 * 1024 * 1024
"""Of a worker whose run is parked; without a run it has about 11 MiB. A dump takes three times what it dumps, out of the run's memory, and as much time."""

OUT_OF_TIME: Final = object()
"""In the place of a host call's answer: there was no time left to wait for it."""

_MIB: Final = 1024 * 1024

_INTO_THE_SCRIPT: Final = frozenset({ValueError, KeyError, TypeError, PermissionError, RuntimeError})

Snapshot = FunctionSnapshot | NameLookupSnapshot | FutureSnapshot | MontyComplete


def raised_into_script(error: Exception) -> Exception:
    """An error of the host that is an answer to the script. Raises any other."""
    if type(error) not in _INTO_THE_SCRIPT:
        raise error
    return error


def resumption(answer: Any) -> ExternalResult:
    """What Monty goes on with."""
    return {"exception": answer} if isinstance(answer, BaseException) else {"return_value": answer}


class Execution:
    """The state of one run."""

    def __init__(self, job: Job, answer_now: Callable[[Call], Any]) -> None:
        self.job = job
        self._answer_now = answer_now
        self.spent_s = 0.0
        self.waited_s = 0.0
        self.pid: int | None = None
        self._step_began: float | None = None
        self._expired = False
        self._killed = False
        self._session: MontySession | None = None
        self._snapshot: FunctionSnapshot | None = None
        self._output_cap = MAX_PRINT_BYTES + job.limits.output_bytes
        self._output = CollectString(self._output_cap)
        self._imports: dict[str, Any] = {}
        self._host_calls = 0
        self._others = 0
        self._tail_start = 0

    @property
    def is_open(self) -> bool:
        """Whether it holds a session of a worker."""
        return self._session is not None

    @property
    def remaining_s(self) -> float:
        """What is left of the time limit, after sandbox time and host calls; waiting for a thread or a worker does not count."""
        return self.job.timeout_s - self.spent_s - self.waited_s

    # Steps, in a thread

    def start(self, worker: Worker) -> Call | RunResult:
        """Begin. Raises MontyError when no worker can be started."""
        session = self._check_out(worker.pool())
        planned = plan(self.job)
        self._tail_start = planned.tail_start
        inputs = {**planned.inputs, "_picloud_ctx": ctx_input(self.job.ctx, planned.ctx_names)}
        if self.job.denied:
            inputs["_picloud_denied"] = dict(self.job.denied)
        return self._advance(lambda: session.feed_start(planned.code, inputs=inputs, print_callback=self._output))

    def resume(self, answer: Any) -> Call | RunResult:
        """Go on with the host's answer; an exception is raised into the script."""
        snapshot, self._snapshot = self._snapshot, None
        assert snapshot is not None
        return self._go_on(snapshot, answer)

    def park(self) -> bytes | RunResult | None:
        """Dump the suspended run and give the session up. The dump never leaves this process. None: it holds too much for that and stays where it is."""
        assert self._snapshot is not None
        if self._holds_bytes() > PARKED_BYTES:
            return None
        try:
            state = self._snapshot.dump()
        except MontyError as error:
            return self._concluded(self._failed(error))
        self._snapshot = None
        self.close()
        return state

    def unpark(self, worker: Worker, state: bytes, answer: Any) -> Call | RunResult:
        """Go on with a parked run on any worker of its app. Its clock, seed and limits come from the dump."""
        session = self._check_out(worker.pool())
        try:
            snapshot = session.load_snapshot(state, print_callback=self._output)
        except MontyError as error:
            return self._failed(error)
        assert isinstance(snapshot, FunctionSnapshot)
        return self._go_on(snapshot, answer)

    def _go_on(self, snapshot: FunctionSnapshot, answer: Any) -> Call | RunResult:
        if answer is OUT_OF_TIME:
            return self._concluded(self._ended("timed_out", error=endings.timed_out(self.job)))
        return self._advance(lambda: snapshot.resume(resumption(answer)))

    def close(self) -> None:
        """Give the worker's session up, whatever state it is in."""
        session, self._session, self.pid = self._session, None, None
        if session is not None:
            with suppress(MontyError):
                session.__exit__(None, None, None)

    def _holds_bytes(self) -> int:
        """Memory of the worker. After an earlier, larger run it may hold more than this one needs, but never less."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:  # it has died, which the next step finds
            return 0

    def kill(self) -> None:
        """Kill the worker, so that a step in progress ends now; one that is about to check out a worker, as soon as it has one."""
        self._killed = True
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def expire(self) -> bool:
        """Kill the worker if the step in progress has overrun what is left of the run's time. False for a step that still waits for its thread."""
        began = self._step_began
        if began is None or time.perf_counter() - began < self.remaining_s:
            return False
        self._expired = True
        self.kill()
        return True

    def _check_out(self, pool: Monty) -> MontySession:
        job = self.job
        policy: OSPolicy = {"datetime": job.clock, "timezone": "utc", "sleep": "zero", "random_start": {"seed": job.seed}}
        limits: ResourceLimits = {
            "max_feed_duration_secs": max(job.timeout_s, MIN_TIMEOUT_S),
            "max_memory": job.limits.memory_mib * _MIB,
            "max_recursion_depth": job.limits.recursion + OWN_FRAMES,
            "max_suspensions": job.limits.host_calls + 2 * OTHER_SUSPENSIONS,
        }
        session = pool.checkout(limits=limits, os_policy=policy, print_flush_interval=PRINT_FLUSH_S)
        try:
            session.__enter__()
        except MontyCrashedError:  # it died while it was idle, and that was noticed only now: nothing has run, so take its successor
            session = pool.checkout(limits=limits, os_policy=policy, print_flush_interval=PRINT_FLUSH_S)
            session.__enter__()
        self._session = session
        self.pid = session.worker_pid
        if self._killed:
            self.kill()
        return session

    def _advance(self, step: Callable[[], Snapshot]) -> Call | RunResult:
        """Run one step and all that needs no answer from the host's loop."""
        self._step_began = time.perf_counter()
        try:
            outcome = self._settle(step())
        except MontyError as error:
            outcome = self._failed(error)
        except (TypeError, ValueError, RecursionError) as error:  # a source, ctx or answer that Monty cannot take (lone surrogates, nesting)
            outcome = self._ended("raised", error=ScriptError(type(error).__name__, f"a value cannot enter the sandbox: {error}"))
        finally:
            self.spent_s += time.perf_counter() - self._step_began
            self._step_began = None
        return self._concluded(outcome) if isinstance(outcome, RunResult) else outcome

    def _concluded(self, result: RunResult) -> RunResult:
        self.close()
        return msgspec.structs.replace(result, duration_s=self.spent_s + self.waited_s)

    def _failed(self, error: MontyError) -> RunResult:
        if self._expired:
            return self._ended("timed_out", error=endings.timed_out(self.job))
        ending, script_error = endings.classify(error, self.job, output_cap=self._output_cap)
        return self._ended(ending, error=script_error)

    def _settle(self, snapshot: Snapshot) -> Call | RunResult:
        while True:
            if isinstance(snapshot, MontyComplete):
                return self._completed(snapshot.output)
            if isinstance(snapshot, FunctionSnapshot) and not snapshot.is_os_function and snapshot.function_name.startswith("_sys_"):
                outcome = self._host_call(snapshot)
                if isinstance(outcome, Call | RunResult):
                    return outcome
                snapshot = snapshot.resume(outcome)
                continue
            if self._lacks_handler(snapshot):
                return self._ended("raised", error=ScriptError("NameError", "the script does not define handler(ctx)"))
            self._others += 1
            if self._others > OTHER_SUSPENSIONS:
                return self._ended("budget", error=ScriptError("RuntimeError", f"more than {OTHER_SUSPENSIONS} imports and undefined names"))
            snapshot = self._other(snapshot)

    def _lacks_handler(self, snapshot: Snapshot) -> bool:
        """Whether it is the appended call that asks for `handler`."""
        if not isinstance(snapshot, NameLookupSnapshot) or snapshot.variable_name != "handler":
            return False
        return snapshot.position.start >= self._tail_start

    def _host_call(self, snapshot: FunctionSnapshot) -> Call | RunResult | ExternalResult:
        """What the run resumes with when the call was answered here."""
        name, args = str(snapshot.function_name), snapshot.args
        if snapshot.kwargs:
            return self._ended("raised", error=ScriptError("TypeError", f"{name} takes no keyword arguments"))
        if name == "_sys_module":
            if len(args) == 2 and args[0] in self._importable():
                self._imports.setdefault(args[0], args[1])
            return {"return_value": None}
        if name == "_sys_abort":
            return self._aborted(args)
        self._host_calls += 1
        if self._host_calls > self.job.limits.host_calls:
            return self._ended("budget", error=ScriptError("RuntimeError", f"more than {self.job.limits.host_calls} host calls"))
        call = Call(name.removeprefix("_sys_"), args)
        answer = self._at_hand(call)
        if answer is LATER:
            self._snapshot = snapshot
            return call
        return resumption(answer)

    def _at_hand(self, call: Call) -> Any:
        try:
            return self._answer_now(call)
        except Exception as error:  # noqa: BLE001  # answered or raised again
            return raised_into_script(error)

    def _importable(self) -> set[str]:
        return {*EXPORTS, *(module.name for module in self.job.modules)}

    def _other(self, snapshot: FunctionSnapshot | NameLookupSnapshot | FutureSnapshot) -> Snapshot:
        if isinstance(snapshot, NameLookupSnapshot):
            return snapshot.resume()
        if isinstance(snapshot, FutureSnapshot):
            return snapshot.resume({call: {"exc_type": "RuntimeError", "message": "host calls cannot be awaited"} for call in snapshot.pending_call_ids})
        if not snapshot.is_os_function:
            return snapshot.resume({"exc_type": "NameError", "message": f"name {snapshot.function_name!r} is not defined"})
        if snapshot.function_name == "import":
            name = snapshot.args[0] if snapshot.args else None
            if name in self._imports:
                return snapshot.resume({"return_value": self._imports[name]})
        return snapshot.resume_not_handled()

    # Endings

    def _completed(self, output: Any) -> RunResult:
        try:
            answer, effects = output
            return self._ended("returned", reply=make_reply(answer), effects=make_effects(effects))
        except (TypeError, ValueError) as error:
            return self._ended("raised", error=ScriptError(type(error).__name__, str(error)))

    def _aborted(self, args: tuple[Any, ...]) -> RunResult:
        try:
            return self._ended("aborted", reply=make_reply(args[0] if args else None))
        except (TypeError, ValueError) as error:
            return self._ended("raised", error=ScriptError(type(error).__name__, str(error)))

    def _ended(self, ending: Ending, *, reply: Reply | None = None, effects: tuple[RawEffect, ...] = (), error: ScriptError | None = None) -> RunResult:
        logs, printed_bytes, logged_bytes = parse_output(self._output.output)
        body_bytes = len(reply.body) if reply is not None else 0
        if reply is not None and printed_bytes > MAX_PRINT_BYTES:
            return self._over_output(logs, f"the script printed more than {MAX_PRINT_BYTES} bytes")
        if reply is not None and body_bytes + logged_bytes > self.job.limits.output_bytes:
            return self._over_output(logs, f"answer and logs are longer than {self.job.limits.output_bytes} bytes")
        return RunResult(ending=ending, reply=reply, effects=effects, error=error, logs=logs)

    def _over_output(self, logs: tuple[LogLine, ...], message: str) -> RunResult:
        return RunResult(ending="budget", error=ScriptError("RuntimeError", message), logs=logs)
