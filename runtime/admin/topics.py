"""The registry of topics for people, messages published by them, and the keys that sign subscribers' tokens."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from adapters.postgres.subscriber_keys import KeyState
from domain.clock import Clock
from domain.errors import Conflict, Invalid, NotFound, VersionConflict
from domain.events import Event
from domain.ports import Reader
from domain.pubsub import MAX_MESSAGE_BYTES, Publish, Published, check_topic
from domain.topics import (
    SUBSCRIBER_KEYS,
    AuthMode,
    SubscriberKeyRevoked,
    SubscriberKeyRotated,
    Topic,
    TopicDeleted,
    TopicKind,
    TopicSaved,
    check_name,
    registry_stream,
)
from domain.units import ABSENT, ANY, Change, Record
from domain.values import encode_json
from projections.topics.reads import StoredTopic, page_topics, read_topic
from runtime.admin.writing import Acting, AdminWriter, retried
from runtime.offloop import MAX_ON_LOOP_BYTES, off_loop, weigh
from runtime.subscribers import Token, Wanted, sign_token, subscriber_keys

_MISSING: Final = "there is no such topic"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A published message: where it is in the log, and when it was published."""

    topic: str
    position: int
    published_at: Any


class TopicChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a topic changes."""

    external_subscribable: bool | msgspec.UnsetType = msgspec.UNSET
    auth_mode: AuthMode | msgspec.UnsetType = msgspec.UNSET


class Topics:
    """The topics of all apps."""

    def __init__(self, reader: Reader, writer: AdminWriter, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._keys = subscriber_keys(reader)

    async def page(self, app_id: UUID, after: tuple[str, str] | None, limit: int) -> list[StoredTopic]:
        """An app's topics by kind and name."""
        return await page_topics(self._reader, app_id, after, limit)

    async def create(self, app_id: UUID, topic: Topic, acting: Acting) -> StoredTopic:
        """Register a topic. Raises Invalid, or Conflict when it is registered already."""
        check_name(topic.kind, topic.name)
        try:
            events = await self._writer.append(app_id, acting, [_saved(topic, ABSENT)])
        except VersionConflict as error:
            raise Conflict(f"the {topic.kind} topic is registered already", code="topic_exists", field="name") from error
        return _stored(topic, events[0].version, events[0].recorded_at)

    async def update(self, app_id: UUID, kind: TopicKind, name: str, change: TopicChange, acting: Acting) -> StoredTopic:
        """Change a topic. Live subscribers who may no longer listen are disconnected. Raises NotFound."""

        async def attempt() -> StoredTopic:
            now = await self._get(app_id, kind, name)
            given = {field: value for field, value in msgspec.structs.asdict(change).items() if value is not msgspec.UNSET}
            topic = msgspec.structs.replace(now.topic, **given)
            if topic == now.topic:
                return now
            events = await self._writer.append(app_id, acting, [_saved(topic, now.version)])
            return _stored(topic, events[0].version, now.created_at)

        return await retried(attempt)

    async def delete(self, app_id: UUID, kind: TopicKind, name: str, acting: Acting) -> None:
        """Make a topic internal again; its live subscribers are disconnected. Raises NotFound."""

        async def attempt() -> None:
            now = await self._get(app_id, kind, name)
            deleted = Record(name=registry_stream(kind, name), event=TopicDeleted(kind=kind, name=name))
            await self._writer.append(app_id, acting, [Change(deleted, now.version)])

        await retried(attempt)

    async def send(self, app_id: UUID, topic: str, message: Any, acting: Acting) -> Message:
        """Publish a message. Raises Invalid."""
        check_topic(topic)
        encoded = await off_loop(weigh(message, MAX_ON_LOOP_BYTES), lambda: encode_json(message, "message", max_bytes=MAX_MESSAGE_BYTES))
        events = await self._writer.append(app_id, acting, [Change(Publish(topic=topic, message=msgspec.Raw(encoded)))])
        event = events[0].event
        assert isinstance(event, Published)
        return Message(topic=topic, position=events[0].position, published_at=event.published_at)

    async def token(self, app_id: UUID, wanted: Wanted, ttl: float) -> Token:
        """A subscriber's token. Raises Invalid."""
        return await sign_token(self._reader, self._keys, app_id, wanted, ttl, self._clock())

    async def keys(self, app_id: UUID) -> list[KeyState]:
        """An app's signing keys, newest first."""
        return await self._keys.list(app_id)

    async def rotate_key(self, app_id: UUID, acting: Acting) -> KeyState:
        """Sign by a new key from here on; tokens of the one before live on until they expire."""
        kid, previous = await self._keys.rotate(app_id)
        await self._record(app_id, SubscriberKeyRotated(kid=kid, previous=previous), acting)
        return next(state for state in await self._keys.list(app_id) if state.kid == kid)

    async def revoke_key(self, app_id: UUID, kid: str, acting: Acting) -> None:
        """End a key and every stream that a token of it has opened. Raises NotFound.

        The vault comes first, so that nobody gets in again, then the event, which ends streams, then the key is forgotten: whoever dies in between can be
        repeated.
        """
        if not await self._keys.revoke(app_id, kid):
            raise NotFound("there is no such key")
        await self._record(app_id, SubscriberKeyRevoked(kid=kid), acting)
        await self._keys.remove(app_id, kid)

    async def _get(self, app_id: UUID, kind: TopicKind, name: str) -> StoredTopic:
        try:
            found = await read_topic(self._reader, app_id, kind, check_name(kind, name))
        except Invalid:
            raise NotFound(_MISSING) from None
        if found is None:
            raise NotFound(_MISSING)
        return found

    async def _record(self, app_id: UUID, event: Event, acting: Acting) -> None:
        await self._writer.append(app_id, acting, [Change(Record(name=SUBSCRIBER_KEYS, event=event), ANY)])


def _saved(topic: Topic, expect: int) -> Change:
    return Change(Record(name=registry_stream(topic.kind, topic.name), event=TopicSaved(topic=topic)), expect)


def _stored(topic: Topic, version: int, created_at: Any) -> StoredTopic:
    return StoredTopic(
        kind=topic.kind,
        name=topic.name,
        external_subscribable=topic.external_subscribable,
        auth_mode=topic.auth_mode,
        version=version,
        created_at=created_at,
    )
