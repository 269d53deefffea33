"""Events: what has happened, as frozen structs with a stable topic, and how they are read back.

An event carries the complete value after it, so the state of a stream is its last event: `decide` needs no fold and no read model. Changing a topic or the
meaning of a field breaks every log ever written; add fields with defaults, or raise `CLASS_VERSION` and say in `upcast` how the old shape becomes the new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events. `TOPIC` is the name in the log (`kv.KvSet`); it never changes once an event was written."""

    TOPIC: ClassVar[str]
    CLASS_VERSION: ClassVar[int] = 1

    @classmethod
    def upcast(cls, fields: dict[str, Any], class_version: int) -> dict[str, Any]:
        """Turn the fields of an older `class_version` into those of `CLASS_VERSION`. The default knows no older version."""
        msg = f"{cls.TOPIC} has no upcast from class_version {class_version}"
        raise LookupError(msg)


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who and what caused an event. One per unit; every event of the unit carries it.

    `actor` is `user:<id>`, `key:<id>`, `public` or `system`. `correlation_id` is the root execution (or the unit, for admin writes). `causation` is the
    position of the event that caused this one in the same log, None for a root. `depth` is 0 at the root.
    """

    unit_id: UUID
    actor: str = "system"
    correlation_id: UUID | None = None
    causation: int | None = None
    depth: int = 0
    request_id: str | None = None
    execution_id: UUID | None = None
    script_id: UUID | None = None
    script_version: int | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event with its place in a log."""

    app_id: UUID
    position: int
    stream: str
    version: int
    event: Event
    metadata: Metadata
    recorded_at: datetime


def json_bytes(event: Event | None) -> int:
    """How many bytes of an event are JSON that is still to be parsed."""
    values = () if event is None else (getattr(event, name) for name in event.__struct_fields__)
    return sum(len(bytes(value)) for value in values if isinstance(value, msgspec.Raw))


class EventRegistry:
    """The topics that this program knows."""

    def __init__(self, types: Iterable[type[Event]]) -> None:
        self._types: dict[str, type[Event]] = {}
        for event_type in types:
            if self._types.setdefault(event_type.TOPIC, event_type) is not event_type:
                msg = f"topic {event_type.TOPIC} is claimed by two event types"
                raise ValueError(msg)

    def __getitem__(self, topic: str) -> type[Event]:
        """Raises LookupError for a topic that this program does not know (a log written by a newer one)."""
        try:
            return self._types[topic]
        except KeyError:
            msg = f"unknown event topic {topic!r}"
            raise LookupError(msg) from None

    def topics(self) -> frozenset[str]:
        """All known topics."""
        return frozenset(self._types)
