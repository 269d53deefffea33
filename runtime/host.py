"""The host of one run: answers its calls, keeps its read set and its journal, and turns what it has buffered into changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from domain.sandbox import Call, RawEffect, ScriptError
from domain.units import MAX_UNIT_EVENTS, Change
from runtime.sdk import CALLS, EFFECTS, SLOW
from runtime.services import Access

MAX_JOURNAL_BYTES: Final = 256 * 1024


class Answer(msgspec.Struct, frozen=True):
    """One host call and what it was answered, for the journal."""

    call: str
    args: tuple[Any, ...]
    value: Any = None
    error: str | None = None


class RunHost:
    """Implements `domain.sandbox.Host` on the registered services."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.journal: list[Answer] = []

    def is_slow(self, name: str) -> bool:
        """See `Host.is_slow`."""
        return name in SLOW

    async def call(self, call: Call) -> Any:
        """Answer a call that the script, or a forger in it, makes."""
        handler = CALLS.get(call.name)
        if handler is None:
            raise RuntimeError(f"there is no host call {call.name!r}")
        try:
            value = await _invoke(handler, self._access, call)
        except (ValueError, KeyError, TypeError, PermissionError, RuntimeError) as error:
            self.journal.append(Answer(call.name, call.args, error=repr(error)))
            raise
        self.journal.append(Answer(call.name, call.args, value))
        return value

    def changes(self, effects: Sequence[RawEffect]) -> tuple[Change, ...]:
        """The changes that the run asks for, in call order. Raises EffectRefused."""
        if len(effects) > MAX_UNIT_EVENTS:
            raise EffectRefused("BudgetExceeded", f"an execution may have at most {MAX_UNIT_EVENTS} effects, not {len(effects)}")
        return tuple(self._change(effect) for effect in effects)

    def _change(self, effect: RawEffect) -> Change:
        to_change = EFFECTS.get(effect.name)
        if to_change is None:
            raise EffectRefused("RuntimeError", f"there is no effect {effect.name!r}")
        try:
            return to_change(self._access, *effect.args)
        except (ValueError, TypeError, PermissionError) as error:
            raise EffectRefused(type(error).__name__, _message(error, effect.name)) from error


class EffectRefused(Exception):  # the script's error, carried to where it becomes the run's ending
    """An effect that cannot be accepted; the whole run is refused."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.error = ScriptError(type=kind, message=message)


async def _invoke(handler: Any, access: Access, call: Call) -> Any:
    try:
        pending = handler(access, *call.args)
    except TypeError as error:
        # A forged call with too few or too many arguments; a real one never has.
        raise TypeError(f"{call.name}: wrong number of arguments") from error
    return await pending


def _message(error: Exception, name: str) -> str:
    text = str(error)
    return f"{name}: wrong number of arguments" if "positional argument" in text else text
