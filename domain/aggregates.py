"""One registration per kind of stream: its events, and how its effects are decided. `domain/registry.py` lists them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from domain.events import Event
from domain.units import Decide, Effect, Exists


class TriggerSubject(msgspec.Struct, frozen=True):
    """What triggers can match an event by: its source (`kv`), its op, and every pattern text that would match it."""

    source: str
    op: str
    patterns: tuple[str, ...]


class Aggregate(msgspec.Struct, frozen=True, kw_only=True):
    """What the log and the outbox need to know of one kind of stream.

    `exists(last event, now)` says whether the stream's subject is there; `subject(event)` what triggers can match (None: no trigger ever does).
    """

    kind: str
    events: tuple[type[Event], ...]
    deciders: Mapping[type[Effect], Decide]
    exists: Exists
    subject: Callable[[Event], TriggerSubject | None] | None = None


def always(last: Event, now: datetime) -> bool:
    """`exists` for streams whose subject is never deleted."""
    del last, now
    return True
