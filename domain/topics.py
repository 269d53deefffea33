"""The registry of what may be followed live from outside: topics, and collections of key-value entries and documents.

What is not registered, or not as external, is internal: only an admin may follow it. The keys that sign subscribers' tokens are in the vault; the log knows
their ids, so that every process learns of a rotation and a revocation in the order of everything else.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from domain.aggregates import Aggregate, always
from domain.errors import Invalid
from domain.events import Event
from domain.ids import stream
from domain.kv import check_collection
from domain.pubsub import check_topic

TopicKind = Literal["topic", "kv", "docs"]
AuthMode = Literal["public", "token"]

KINDS: Final[tuple[TopicKind, ...]] = get_args(TopicKind)
MIN_TTL_S: Final = 10.0
MAX_TTL_S: Final = 24 * 3600.0
SUBSCRIBER_KEYS: Final = "subscriber_keys"
"""The stream of an app's signing keys."""


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """A registered topic; of `kv` and `docs` the name is the collection's."""

    kind: TopicKind
    name: str
    external_subscribable: bool
    auth_mode: AuthMode


class TopicSaved(Event, frozen=True, kw_only=True):
    """A topic is registered like this from here on."""

    TOPIC = "topics.TopicSaved"
    topic: Topic


class TopicDeleted(Event, frozen=True, kw_only=True):
    """A topic is registered no more."""

    TOPIC = "topics.TopicDeleted"
    kind: TopicKind
    name: str


class SubscriberKeyRotated(Event, frozen=True, kw_only=True):
    """Tokens are signed by the key `kid` from here on; those of `previous` live on until they expire."""

    TOPIC = "topics.SubscriberKeyRotated"
    kid: str
    previous: str | None = None


class SubscriberKeyRevoked(Event, frozen=True, kw_only=True):
    """No token of the key `kid` is good any more."""

    TOPIC = "topics.SubscriberKeyRevoked"
    kid: str


def registry_stream(kind: TopicKind, name: str) -> str:
    """The stream of a topic's registration."""
    return stream("topic", kind, name)


def check_name(kind: TopicKind, name: object, field: str = "name") -> str:
    """The name of a topic or collection; raises Invalid naming `field`."""
    return check_topic(name, field) if kind == "topic" else check_collection(name, field)


def clamp_ttl(ttl_s: object, field: str = "ttl") -> float:
    """A token's time to live, brought within 10 s and 24 h. Raises Invalid for what is no number."""
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or ttl_s != ttl_s:  # noqa: PLR0124  # NaN is the one that differs from itself
        raise Invalid(f"pubsub: {field} must be a number of seconds", field=field)
    return float(min(max(ttl_s, MIN_TTL_S), MAX_TTL_S))


AGGREGATES: Final = (
    Aggregate(kind="topic", events=(TopicSaved, TopicDeleted), deciders={}, exists=lambda last, _: isinstance(last, TopicSaved)),
    Aggregate(kind=SUBSCRIBER_KEYS, events=(SubscriberKeyRotated, SubscriberKeyRevoked), deciders={}, exists=always),
)
