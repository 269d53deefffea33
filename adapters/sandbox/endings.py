"""From what Monty raised to how the run ended, in the script's own terms."""

from __future__ import annotations

import re
from typing import Final

from pydantic_monty import Frame as MontyFrame
from pydantic_monty import MontyCrashedError, MontyError, MontyRuntimeError, MontySyntaxError

from adapters.sandbox.prelude import LINES_BEFORE, MODULE_LINE, line_count
from domain.sandbox import Ending, Frame, Job, ScriptError

MAX_MESSAGE_CHARS: Final = 4096
MAX_FRAMES: Final = 50

_TIME_LIMIT: Final = re.compile(r"(feed|turn) time limit exceeded: ")
_MEMORY_LIMIT: Final = re.compile(r"memory limit exceeded: \d+ bytes > (\d+) bytes$")
_CANNOT_SUSPEND: Final = re.compile(r"external function '_sys_\w+' cannot suspend")
_NOT_FROM_A_CALLBACK: Final = "the SDK cannot be called from within sorted(key=...), map, filter and the like: read first, then sort or filter"
_UNSUPPORTED: Final = "The monty syntax parser does not yet support"


def classify(error: MontyError, job: Job, *, output_cap: int) -> tuple[Ending, ScriptError]:
    """How a run that Monty ended with `error` has ended."""
    if isinstance(error, MontyCrashedError):
        if error.timed_out:
            return "timed_out", timed_out(job)
        return "crashed", ScriptError("WorkerCrashed", "the worker process died while the script ran")
    inner = error.exception()
    message = str(inner)[:MAX_MESSAGE_CHARS]
    frames = _frames(error, job)
    if isinstance(inner, TimeoutError) and _TIME_LIMIT.match(message):
        return "timed_out", timed_out(job)
    limit = _MEMORY_LIMIT.match(message) if isinstance(inner, MemoryError) else None
    if limit is not None and int(limit[1]) == output_cap:
        return "budget", ScriptError("RuntimeError", f"prints and logs are longer than {output_cap} bytes", frames)
    if limit is not None:
        return "budget", ScriptError("MemoryError", f"the script used more than {job.limits.memory_mib} MiB of memory", frames)
    if isinstance(inner, RecursionError):
        return "budget", ScriptError("RecursionError", f"calls nested deeper than {job.limits.recursion}", frames)
    if isinstance(error, MontySyntaxError) or (isinstance(inner, NotImplementedError) and message.startswith(_UNSUPPORTED)):
        return "invalid", ScriptError("SyntaxError", message.replace("The monty syntax parser", "the sandbox"), frames or (_last_line(job),))
    return "raised", ScriptError(type(inner).__name__, _NOT_FROM_A_CALLBACK if _CANNOT_SUSPEND.match(message) else message, frames)


def timed_out(job: Job) -> ScriptError:
    """The error of a run whose time is over."""
    return ScriptError("TimeoutError", f"the script ran longer than {job.timeout_s:g} s")


def _last_line(job: Job) -> Frame:
    """Where a script ends in the middle of a statement, which is found out below its last line."""
    return Frame(job.script.name, line_count(job.script.source), 1)


def _frames(error: MontyError, job: Job) -> tuple[Frame, ...]:
    if not isinstance(error, MontyRuntimeError | MontySyntaxError):
        return ()
    found = (_frame(frame, job) for frame in error.traceback())
    return tuple(frame for frame in found if frame is not None)[-MAX_FRAMES:]


def _frame(frame: MontyFrame, job: Job) -> Frame | None:
    """None for frames of the prelude and of the appended call."""
    function = None if frame.function_name in (None, "<module>") else frame.function_name
    if frame.filename != "<string>":
        line = frame.line - LINES_BEFORE
        inside = 1 <= line <= line_count(job.script.source)
        return Frame(job.script.name, line, frame.column, function) if inside else None
    line = frame.line - MODULE_LINE + 1
    for module in job.modules:
        lines = line_count(module.source)
        if 1 <= line <= lines:
            return Frame(module.name, line, frame.column, function)
        line -= lines
    return None
