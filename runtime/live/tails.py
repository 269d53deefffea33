"""What administration can follow: every event of an app, and executions as they end. Both see all events, behind filters; there is no snapshot of either."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from domain.events import Event, Recorded
from domain.ports import Reader
from domain.registry import EVENTS
from runtime.admin.event_items import event_item
from runtime.live.channel import Key, LiveName, Only
from runtime.live.ends import ENDS, EndTail, end_of
from runtime.live.frames import tail_frame


class EventTail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events; None means any."""

    topic: str | None = None
    stream: str | None = None
    actor: str | None = None
    correlation_id: UUID | None = None

    def passes(self, recorded: Recorded) -> bool:
        """Whether an event is one of these."""
        metadata = recorded.metadata
        return (
            self.topic in {None, recorded.event.TOPIC}
            and self.stream in {None, recorded.stream}
            and self.actor in {None, metadata.actor}
            and self.correlation_id in {None, metadata.correlation_id}
        )


class Tail:
    """What both have in common."""

    has_snapshot = False

    def name_of(self, event: Event) -> str:
        """See `LiveKind`; there is one of each tail in an app."""
        return ""

    def asks_before(self, event: Event) -> bool:
        """See `LiveKind`."""
        return False

    def facts(self, recorded: Recorded, before: Event | None) -> Recorded:
        """See `LiveKind`."""
        return recorded

    async def pages(self, reader: Reader, app_id: UUID, name: str, text: str, now: datetime) -> Any:
        """See `LiveKind`."""
        yield [], False


class Events(Tail):
    """Every event."""

    kind: LiveName = "events"
    events: tuple[type[Event], ...] = tuple(EVENTS[topic] for topic in sorted(EVENTS.topics()))

    def only(self, key: Key) -> Only:
        """See `LiveKind`."""
        tail = event_tail(key.filter)
        topics = None if tail.topic is None else (tail.topic,)
        correlation_id = None if tail.correlation_id is None else str(tail.correlation_id)
        return Only(topics=topics, stream=tail.stream, actor=tail.actor, correlation_id=correlation_id)

    def how(self, event: Event, facts: Any, text: str) -> str | None:
        """See `LiveKind`."""
        return "event" if facts is None or event_tail(text).passes(facts) else None

    def frame(self, recorded: Recorded, how: str) -> bytes:
        """See `LiveKind`."""
        return tail_frame(recorded.position, event_item(recorded))


class Ends(Tail):
    """Executions that have an outcome in the log. Those that have none are offered beside (`runtime.live.runs`)."""

    kind: LiveName = "executions"
    events: tuple[type[Event], ...] = ENDS

    def only(self, key: Key) -> Only:
        """See `LiveKind`."""
        return Only(topics=tuple(event.TOPIC for event in ENDS))

    def how(self, event: Event, facts: Any, text: str) -> str | None:
        """See `LiveKind`."""
        return "end" if facts is None or end_tail(text).passes(end_of(facts)) else None

    def frame(self, recorded: Recorded, how: str) -> bytes:
        """See `LiveKind`."""
        return tail_frame(recorded.position, end_of(recorded))


@lru_cache(maxsize=1024)
def event_tail(text: str) -> EventTail:
    """A filter of events from the text that channels are told apart by."""
    return msgspec.json.decode(text or "{}", type=EventTail)


@lru_cache(maxsize=1024)
def end_tail(text: str) -> EndTail:
    """A filter of executions from the text that channels are told apart by."""
    return msgspec.json.decode(text or "{}", type=EndTail)


def text_of(tail: EventTail | EndTail) -> str:
    """The text that channels are told apart by; empty for a filter that lets everything pass."""
    text = msgspec.json.encode(tail).decode()
    return "" if text == "{}" else text
