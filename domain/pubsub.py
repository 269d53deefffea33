"""Messages on topics: `pubsub:<topic>` streams.

A topic needs no declaration to be published to or to trigger scripts; who may listen from outside is in `domain.topics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from domain.aggregates import Aggregate, TriggerSubject, always
from domain.errors import Invalid
from domain.events import Event
from domain.globs import topic_candidates
from domain.ids import stream
from domain.units import Effect
from domain.values import check_text

MAX_TOPIC_BYTES: Final = 256
MAX_MESSAGE_BYTES: Final = 1024 * 1024


class Published(Event, frozen=True, kw_only=True):
    """A message was published. `message` is its canonical JSON text, `published_at` its publisher's clock."""

    TOPIC = "pubsub.Published"
    op: Literal["publish"] = "publish"
    topic: str
    message: msgspec.Raw
    published_at: datetime


class Publish(Effect, frozen=True, kw_only=True):
    """Publish a message. `message` is canonical JSON."""

    topic: str
    message: msgspec.Raw

    @property
    def stream(self) -> str:
        return topic_stream(self.topic)


def topic_stream(topic: str) -> str:
    """The stream of a topic's messages."""
    return stream("pubsub", topic)


def check_topic(name: object, field: str = "topic") -> str:
    """A topic's name: 1-256 bytes of UTF-8 without NUL, and without `*`, which patterns are told by; raises Invalid."""
    if not isinstance(name, str):
        raise Invalid(f"pubsub: {field} must be a string, not {type(name).__name__}", field=field)
    check_text(name, field)
    if not 0 < len(name.encode()) <= MAX_TOPIC_BYTES:
        raise Invalid(f"pubsub: {field} must have 1 to {MAX_TOPIC_BYTES} bytes, not {len(name.encode())}", field=field)
    if "*" in name:
        raise Invalid(f"pubsub: {field} may not contain '*'", field=field)
    return name


def decide_publish(effect: Publish, last: Event | None, now: datetime) -> Sequence[Event]:
    """Every message is one more event, whatever came before."""
    del last
    return (Published(topic=effect.topic, message=effect.message, published_at=now),)


def trigger_subject(event: Event) -> TriggerSubject | None:
    """Pubsub triggers match by topic."""
    if isinstance(event, Published):
        return TriggerSubject("pubsub", event.op, tuple(topic_candidates(event.topic)))
    return None


AGGREGATE: Final = Aggregate(kind="pubsub", events=(Published,), deciders={Publish: decide_publish}, exists=always, subject=trigger_subject)
