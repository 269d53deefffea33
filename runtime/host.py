"""The host of one run: answers its calls, keeps its read set and its journal, and turns what it has buffered into changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from typing import Any, Final

import msgspec

from domain.errors import Invalid
from domain.sandbox import LATER, Call, RawEffect, ScriptError
from domain.units import MAX_UNIT_BYTES, MAX_UNIT_EVENTS, Change, Read
from runtime.offloop import MAX_ON_LOOP_BYTES, off_loop, weigh
from runtime.outside import MAX_KEPT_BYTES, Kept
from runtime.sdk import CALLS, CONFIDENTIAL, EFFECTS, NEEDS, NOW, OUTSIDE, SLOW
from runtime.services import Access, lacking

MAX_JOURNAL_BYTES: Final = 256 * 1024
_SCRIPT_ERRORS: Final[tuple[type[Exception], ...]] = (KeyError, PermissionError, TypeError, ValueError, RuntimeError)
"""What a script may catch; the first that an error is an instance of is what the script gets."""
_ANSWERS: Final[tuple[type[Exception], ...]] = (*_SCRIPT_ERRORS, ArithmeticError, Invalid)


class Answer(msgspec.Struct, frozen=True):
    """One host call and what it was answered, for the journal."""

    call: str
    args: tuple[Any, ...]
    value: Any = None
    error: str | None = None


class RunHost:
    """Implements `domain.sandbox.Host` on the registered services. `journal` has all answers, or none once they were more than is kept."""

    def __init__(self, access: Access, parked: Callable[[], AbstractAsyncContextManager[None]] = nullcontext) -> None:
        self._access = access
        self.parked = parked  # see `Host.parked`
        self._journal_bytes = 0
        self._calls = 0
        self.journal: list[Answer] = []

    def is_slow(self, name: str) -> bool:
        """See `Host.is_slow`."""
        return name in SLOW

    def reads_may_differ(self, reads: Sequence[Read]) -> bool:
        """Whether what was read may be of different moments (one call reads at one), or of one that has passed."""
        return bool(reads) and (self._access.recalled or (self._calls > 1 and len(reads) > 1))

    def denied(self) -> dict[str, str]:
        """The effects that the run may not ask for, each with what the script is told."""
        if self._access.principal is None:
            return {}
        return {effect: lacking(service, capability) for effect, (service, capability) in NEEDS.items() if not self._access.may(capability)}

    def answer_now(self, call: Call) -> Any:
        """See `Host.answer_now`. What the outside world has answered to this execution already is at hand."""
        kept = self._access.outside.again(call) if call.name in OUTSIDE else None
        if kept is not None:
            return self._given_again(kept)
        answer = NOW.get(call.name)
        if answer is None:
            return LATER
        with self._raising(call):
            value = _invoke(answer, self._access, call)
        if value is not LATER:
            self._answered(call, value, 0 if call.name not in OUTSIDE else weigh((call.args, value), MAX_KEPT_BYTES))
        return value

    async def call(self, call: Call) -> Any:
        """Answer a call that the script, or a forger in it, makes."""
        handler = CALLS.get(call.name)
        if handler is None:
            raise RuntimeError(f"there is no host call {call.name[:80]!r}")
        with self._raising(call):
            value = await _invoke(handler, self._access, call)
        self._answered(call, value, 0 if call.name not in OUTSIDE else await _weight((call.args, value)))
        return value

    async def changes(self, effects: Sequence[RawEffect]) -> tuple[Change, ...]:
        """The changes that the run asks for, in call order. Raises EffectRefused."""
        if len(effects) > MAX_UNIT_EVENTS:
            raise EffectRefused("BudgetExceeded", f"an execution may have at most {MAX_UNIT_EVENTS} effects, not {len(effects)}")
        # As they are: what they are compressed to in the log does not matter to whoever reads them later.
        size = weigh([effect.args for effect in effects], MAX_UNIT_BYTES)
        if size > MAX_UNIT_BYTES:
            raise EffectRefused("BudgetExceeded", f"an execution's effects may have at most {MAX_UNIT_BYTES} bytes")
        return await off_loop(size, lambda: tuple(self._change(effect) for effect in effects))

    def _change(self, effect: RawEffect) -> Change:
        to_change = EFFECTS.get(effect.name)
        if to_change is None:
            raise EffectRefused("RuntimeError", f"there is no effect {effect.name[:80]!r}")
        try:
            return to_change(self._access, *effect.args)
        except (ValueError, TypeError, PermissionError) as error:
            raise EffectRefused(type(_plain(error)).__name__, _message(error, effect.name)) from error

    @contextmanager
    def _raising(self, call: Call) -> Iterator[None]:
        """Errors of a call as the script sees them; they are answers, too."""
        try:
            yield
        except _ANSWERS as error:
            raised = _seen(call, error)
            if call.name in OUTSIDE:
                self._access.outside.keep(Kept(call, error=raised), weigh((call.args, str(raised)), MAX_ON_LOOP_BYTES))
            self._note(Answer(call.name, call.args, error=repr(raised)))
            raise raised from error

    def _answered(self, call: Call, value: Any, size: int) -> None:
        if call.name in OUTSIDE:
            self._access.outside.keep(Kept(call, value), size)
        self._note(Answer(call.name, call.args, None if call.name in CONFIDENTIAL else value))

    def _given_again(self, kept: Kept) -> Any:
        """Answer as in the run before."""
        error = None if kept.error is None else repr(kept.error)
        self._note(Answer(kept.call.name, kept.call.args, None if kept.call.name in CONFIDENTIAL else kept.value, error))
        if kept.error is not None:
            raise kept.error
        return kept.value

    def _note(self, answer: Answer) -> None:
        self._calls += 1
        if self._journal_bytes > MAX_JOURNAL_BYTES:
            return
        self._journal_bytes += weigh((answer.args, answer.value), MAX_JOURNAL_BYTES)
        self.journal.append(answer)
        if self._journal_bytes > MAX_JOURNAL_BYTES:
            self.journal.clear()


class EffectRefused(Exception):  # the script's error, carried to where it becomes the run's ending
    """An effect that cannot be accepted; the whole run is refused."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.error = ScriptError(type=kind, message=message)


def _invoke(handler: Any, access: Access, call: Call) -> Any:
    try:
        return handler(access, *call.args)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # from within
        # A forged call with too few or too many arguments; a real one never has.
        raise TypeError(f"{call.name}: wrong number of arguments") from error


async def _weight(value: Any) -> int:
    return await off_loop(weigh(value, MAX_ON_LOOP_BYTES), lambda: weigh(value, MAX_KEPT_BYTES))


def _seen(call: Call, error: Exception) -> Exception:
    """An error as the script gets it."""
    if isinstance(error, Invalid):
        return ValueError(error.detail)
    return ValueError(f"{call.name}: {error}") if isinstance(error, ArithmeticError) else _plain(error)


def _plain(error: Exception) -> Exception:
    """The error as one of exactly the types that scripts know (UnicodeError is a ValueError, RecursionError a RuntimeError)."""
    kind = next(kind for kind in _SCRIPT_ERRORS if isinstance(error, kind))
    return error if type(error) is kind else kind(str(error))


def _message(error: Exception, name: str) -> str:
    text = str(error)
    return f"{name}: wrong number of arguments" if "positional argument" in text else text
