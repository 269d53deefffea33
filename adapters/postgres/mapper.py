"""Events to stored bytes and back, in the shape of the eventsourcing library's `Mapper`.

State is the event's msgspec JSON; over `COMPRESS_OVER_BYTES` it is zlib-compressed. JSON of an event begins with `{` and zlib's stream with 0x78, so the first
byte tells them apart.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import msgspec
from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent

from domain.events import Event, EventRegistry, Recorded

COMPRESS_OVER_BYTES: Final = 4096

_VERSION_FIELD: Final = "class_version"


class StructMapper(Mapper[str]):
    """Maps `Recorded` events of a registry; upcasts states written by older versions of an event's class."""

    def __init__(self, registry: EventRegistry) -> None:
        super().__init__(transcoder=JSONTranscoder())
        self._registry = registry
        self._encoder = msgspec.json.Encoder()
        self._decoders: dict[str, msgspec.json.Decoder[Event]] = {}

    def encode(self, event: Event) -> bytes:
        """An event's state before it is packed."""
        state = self._encoder.encode(event)
        return state if event.CLASS_VERSION == 1 else _with_version(state, event.CLASS_VERSION)

    def pack(self, state: bytes) -> bytes:
        """A state as stored. Slow for a long one."""
        return zlib.compress(state, 1) if len(state) > COMPRESS_OVER_BYTES else state

    def decode(self, topic: str, state: bytes) -> Event:
        """An event from its stored state. Raises LookupError for an unknown topic, msgspec.ValidationError for a damaged state."""
        plain = zlib.decompress(state) if state[:1] != b"{" else state
        event_type = self._registry[topic]
        if event_type.CLASS_VERSION > 1:
            return self._decode_versioned(event_type, plain)
        decoder = self._decoders.get(topic)
        if decoder is None:
            decoder = self._decoders[topic] = msgspec.json.Decoder(event_type)
        return decoder.decode(plain)

    def to_stored_event(self, domain_event: Recorded) -> StoredEvent:  # type: ignore[override]  # ours are Structs, not the library's classes
        """The library's view of a recorded event."""
        state = self.pack(self.encode(domain_event.event))
        return StoredEvent(domain_event.stream, domain_event.version, domain_event.event.TOPIC, state)

    def to_domain_event(self, stored_event: StoredEvent) -> Event:  # type: ignore[override]  # as above
        """The event in a stored one."""
        return self.decode(stored_event.topic, stored_event.state)

    def _decode_versioned(self, event_type: type[Event], plain: bytes) -> Event:
        fields: dict[str, Any] = msgspec.json.decode(plain)
        version = fields.pop(_VERSION_FIELD, 1)
        if version < event_type.CLASS_VERSION:
            fields = event_type.upcast(fields, version)
        return msgspec.json.decode(msgspec.json.encode(fields), type=event_type)


def _with_version(state: bytes, class_version: int) -> bytes:
    separator = b"," if len(state) > len(b"{}") else b""
    return b'{"class_version":%d%b%b' % (class_version, separator, state[1:])
