"""Key-value entries: `kv:<collection>:<key>` streams.

An entry exists when its last event is a `KvSet` whose expiry has not come. Expiry is an event too: whoever writes to an expired entry appends
`KvExpired` first, and the sweeper appends it for entries that nobody touches. Versions go on after a delete, so a version never names two values.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from domain.aggregates import Aggregate, TriggerSubject
from domain.errors import Invalid
from domain.events import Event
from domain.globs import candidates
from domain.ids import stream
from domain.units import Effect
from domain.values import check_bounded_text

MAX_COLLECTION_BYTES: Final = 128
MAX_KEY_BYTES: Final = 512
MAX_VALUE_BYTES: Final = 1024 * 1024
MAX_TTL_S: Final = 10 * 365 * 86400


class KvSet(Event, frozen=True, kw_only=True):
    """A key has this value now. `value` is its canonical JSON text."""

    TOPIC = "kv.KvSet"
    op: Literal["insert", "update"]
    collection: str
    key: str
    value: msgspec.Raw
    expires_at: datetime | None = None


class KvDeleted(Event, frozen=True, kw_only=True):
    """A key was deleted."""

    TOPIC = "kv.KvDeleted"
    op: Literal["delete"] = "delete"
    collection: str
    key: str


class KvExpired(Event, frozen=True, kw_only=True):
    """A key's time to live ran out at `expired_at`; triggers see it as a delete."""

    TOPIC = "kv.KvExpired"
    op: Literal["delete"] = "delete"
    collection: str
    key: str
    expired_at: datetime


class SetKey(Effect, frozen=True, kw_only=True):
    """Give a key a value. `value` is canonical JSON; `ttl_s` counts from the unit's clock, None clears it."""

    collection: str
    key: str
    value: msgspec.Raw
    ttl_s: float | None = None

    @property
    def stream(self) -> str:
        return entry_stream(self.collection, self.key)


class DeleteKey(Effect, frozen=True, kw_only=True):
    """Delete a key; nothing happens when it is absent."""

    collection: str
    key: str

    @property
    def stream(self) -> str:
        return entry_stream(self.collection, self.key)


class IncrementKey(Effect, frozen=True, kw_only=True):
    """Add `by` to a number (0 when absent), whatever it is at commit. Keeps the expiry."""

    collection: str
    key: str
    by: int | float

    @property
    def stream(self) -> str:
        return entry_stream(self.collection, self.key)


class ExpireKey(Effect, frozen=True, kw_only=True):
    """Record that a key has expired; nothing happens when it has not (it was written again)."""

    collection: str
    key: str

    @property
    def stream(self) -> str:
        return entry_stream(self.collection, self.key)


def entry_stream(collection: str, key: str) -> str:
    """The stream of one entry."""
    return stream("kv", collection, key)


def check_collection(name: object, field: str = "collection") -> str:
    """A collection's name: 1-128 bytes of UTF-8 without NUL; raises Invalid."""
    return check_bounded_text(name, field, MAX_COLLECTION_BYTES, "kv: collection name")


def check_key(key: object, field: str = "key") -> str:
    """A key: 1-512 bytes of UTF-8 without NUL; raises Invalid."""
    return check_bounded_text(key, field, MAX_KEY_BYTES, "kv: key")


def check_ttl(ttl_s: object, field: str = "ttl") -> float | None:
    """A time to live in seconds, over 0 and at most ten years; None means none. Raises Invalid."""
    if ttl_s is None:
        return None
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or not 0 < ttl_s <= MAX_TTL_S:
        raise Invalid(f"kv: {field} must be a number of seconds over 0 and at most {MAX_TTL_S}", field=field)
    return float(ttl_s)


def exists(last: Event, now: datetime) -> bool:
    """Whether an entry whose last event is `last` exists at `now`."""
    return isinstance(last, KvSet) and not _expired(last, now)


def decide_set(effect: SetKey, last: Event | None, now: datetime) -> Sequence[Event]:
    """Insert or update, after recording an expiry that nobody has recorded yet."""
    expired = _expiry(last, now)
    op: Literal["insert", "update"] = "update" if last is not None and exists(last, now) else "insert"
    expires_at = None if effect.ttl_s is None else now + timedelta(seconds=effect.ttl_s)
    return (*expired, KvSet(op=op, collection=effect.collection, key=effect.key, value=effect.value, expires_at=expires_at))


def decide_delete(effect: DeleteKey, last: Event | None, now: datetime) -> Sequence[Event]:
    """Delete what is there."""
    if last is not None and exists(last, now):
        return (KvDeleted(collection=effect.collection, key=effect.key),)
    return _expiry(last, now)


def decide_increment(effect: IncrementKey, last: Event | None, now: datetime) -> Sequence[Event]:
    """Add to the number that is there at commit; raises Invalid when it is none."""
    if last is None or not isinstance(last, KvSet) or _expired(last, now):
        value: int | float = 0
        op: Literal["insert", "update"] = "insert"
        expires_at = None
    else:
        value, op, expires_at = _number(last), "update", last.expires_at
    event = KvSet(op=op, collection=effect.collection, key=effect.key, value=_add(value, effect), expires_at=expires_at)
    return (*_expiry(last, now), event)


def decide_expire(effect: ExpireKey, last: Event | None, now: datetime) -> Sequence[Event]:
    """Record the expiry if it has come."""
    del effect
    return _expiry(last, now)


def _expired(last: KvSet, now: datetime) -> bool:
    return last.expires_at is not None and last.expires_at <= now


def _expiry(last: Event | None, now: datetime) -> tuple[KvExpired, ...]:
    if isinstance(last, KvSet) and last.expires_at is not None and last.expires_at <= now:
        return (KvExpired(collection=last.collection, key=last.key, expired_at=last.expires_at),)
    return ()


def _number(entry: KvSet) -> int | float:
    value: Any = msgspec.json.decode(entry.value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid(f"kv: cannot increment {entry.key!r}: its value is not a number", field="key", code="not_a_number")
    return value


def _add(value: int | float, effect: IncrementKey) -> msgspec.Raw:
    try:
        encoded = msgspec.json.encode(value + effect.by)
    except (OverflowError, ValueError):  # Python writes no whole number of more than 4300 digits
        encoded = b"null"
    if encoded == b"null" or len(encoded) > MAX_VALUE_BYTES:
        raise Invalid(f"kv: incrementing {effect.key!r} leaves the range of numbers", field="by")
    return msgspec.Raw(encoded)


def trigger_subject(event: Event) -> TriggerSubject | None:
    """KV triggers match by collection and op."""
    if isinstance(event, KvSet | KvDeleted | KvExpired):
        return TriggerSubject("kv", event.op, tuple(candidates(event.collection)))
    return None


AGGREGATE: Final = Aggregate(
    kind="kv",
    events=(KvSet, KvDeleted, KvExpired),
    deciders={SetKey: decide_set, DeleteKey: decide_delete, IncrementKey: decide_increment, ExpireKey: decide_expire},
    exists=exists,
    subject=trigger_subject,
)
