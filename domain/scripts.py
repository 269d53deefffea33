"""Scripts of an app: each version of a source is kept in the log; the newest is what runs."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec

from domain.aggregates import Aggregate
from domain.errors import Invalid
from domain.events import Event
from domain.ids import stream
from domain.sandbox import Limits, ScriptKind

MAX_SOURCE_BYTES: Final = 256 * 1024
MAX_NAME_CHARS: Final = 64
DEFAULT_TIMEOUT_S: Final = 10.0
MODULES_GUARD: Final = "modules"


class ScriptSaved(Event, frozen=True, kw_only=True):
    """A script has this source and these settings now. `source_version` counts its sources from 1; settings alone do not raise it."""

    TOPIC = "scripts.ScriptSaved"
    script_id: UUID
    name: str
    kind: ScriptKind
    source: str
    source_version: int
    timeout_s: float
    limits: Limits


class ScriptDeleted(Event, frozen=True, kw_only=True):
    """A script is gone; its versions stay readable in the log."""

    TOPIC = "scripts.ScriptDeleted"
    script_id: UUID
    name: str


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """The most that this instance lets a script ask for. Synchronous answers wait at most `timeout_s`, queued runs `async_timeout_s`."""

    timeout_s: float = 60.0
    async_timeout_s: float = 300.0
    memory_mib: int = 512
    host_calls: int = 10_000
    output_bytes: int = 10 * 1024 * 1024
    recursion: int = 1000


def script_stream(script_id: UUID) -> str:
    """The stream of a script."""
    return stream("script", script_id)


def check_timeout(timeout_s: float, ceiling: Ceiling) -> float:
    """Over 0 and at most the ceiling for queued runs (synchronous ones are cut at theirs); raises Invalid with `requested` and `ceiling`."""
    if not timeout_s > 0:
        raise Invalid("timeout_seconds: must be over 0", field="timeout_seconds", requested=timeout_s)
    if timeout_s > ceiling.async_timeout_s:
        raise _above("timeout_seconds", timeout_s, ceiling.async_timeout_s)
    return timeout_s


def check_limits(limits: Limits, ceiling: Ceiling) -> Limits:
    """Each limit at least 1 and at most the instance's ceiling; raises Invalid naming the field, what was requested and the ceiling."""
    for name in Limits.__struct_fields__:
        requested, highest = getattr(limits, name), getattr(ceiling, name)
        if requested < 1:
            raise Invalid(f"limits.{name}: must be at least 1", field=f"limits.{name}", requested=requested)
        if requested > highest:
            raise _above(f"limits.{name}", requested, highest)
    return limits


def _above(field: str, requested: float, ceiling: float) -> Invalid:
    return Invalid(
        f"{field}: {requested} is above this instance's ceiling of {ceiling}", field=field, code="above_ceiling", requested=requested, ceiling=ceiling
    )


AGGREGATES: Final = (Aggregate(kind="script", events=(ScriptSaved, ScriptDeleted), deciders={}, exists=lambda last, _: isinstance(last, ScriptSaved)),)
