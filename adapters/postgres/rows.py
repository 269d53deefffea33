"""Rows of `events` as recorded events."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.events import Event, Metadata, Recorded

_DECODER: Final = msgspec.json.Decoder(Metadata)
_ENCODER: Final = msgspec.json.Encoder()


def encode_metadata(metadata: Metadata) -> str:
    """Metadata as the JSON text that the table holds."""
    return _ENCODER.encode(metadata).decode()


@lru_cache(maxsize=1024)
def decode_metadata(text: str) -> Metadata:
    """Metadata from the table; the events of a unit share one text, so a page of events decodes few."""
    return _DECODER.decode(text)


def recorded_from(row: Any, app_id: UUID, decode: Callable[[str, bytes], Event]) -> Recorded:
    """A recorded event from a row with the columns of `read_events`."""
    return Recorded(
        app_id=app_id,
        position=row["position"],
        stream=row["originator_id"],
        version=row["originator_version"],
        event=decode(row["topic"], row["state"]),
        metadata=decode_metadata(row["metadata"]),
        recorded_at=row["recorded_at"],
    )
