"""Results that the executor makes of a run: fit to be stored, or failed for what came after it."""

from __future__ import annotations

from typing import Final

import msgspec

from domain.errors import PiCloudError
from domain.sandbox import Ending, RunResult, ScriptError

_MAX_MESSAGE_CHARS: Final = 4096
_MAX_HEADER_CHARS: Final = 32 * 1024


def contention() -> RunResult:
    """The result of an execution that was run again until its time was up."""
    message = "the execution lost to concurrent writers until its time was up"
    return RunResult(ending="contention", error=ScriptError(type="Contention", message=message))


def storable(result: RunResult) -> RunResult:
    """A script's error ends up in events, records and read models, some of which take no NUL; its headers in an answer that must have an end."""
    error, reply = result.error, result.reply
    if reply is not None and sum(len(name) + len(value) for name, value in reply.headers.items()) > _MAX_HEADER_CHARS:
        return failed(result, ScriptError(type="BudgetExceeded", message=f"the answer's headers are longer than {_MAX_HEADER_CHARS} bytes"))
    if error is None or ("\x00" not in error.message and len(error.message) <= _MAX_MESSAGE_CHARS):
        return result
    message = error.message[:_MAX_MESSAGE_CHARS].replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return msgspec.structs.replace(result, error=msgspec.structs.replace(error, message=message))


def failed(result: RunResult, error: ScriptError) -> RunResult:
    """The result of a run whose effects or answer cannot be accepted."""
    ending: Ending = "budget" if error.type == "BudgetExceeded" else "raised"
    return msgspec.structs.replace(result, ending=ending, reply=None, effects=(), error=error)


def refused(result: RunResult, error: PiCloudError) -> RunResult:
    """The log has refused the effects (an increment of something that is no number, too much at once)."""
    kind = "BudgetExceeded" if error.code == "unit_too_large" else "ValueError"
    return failed(result, ScriptError(type=kind, message=error.detail))
