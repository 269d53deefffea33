"""What a NOTIFY says: who moved which apps' heads to where. A hint: nothing breaks when it is lost, forged or cut short."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

NOTIFY_CHANNEL: Final = "picloud"
TAIL_NAME: Final = "picloud-tail"
"""The `application_name` of every process's tail: by it they know of each other."""
MAX_APPS: Final = 100
"""A payload has less than 8000 bytes; other apps' followers learn from the poll."""


def encode_hint(sender: str, heads: Iterable[tuple[UUID, int]]) -> str:
    """`sender;app:position,app:position`."""
    return f"{sender};" + ",".join(f"{app_id.hex}:{position}" for app_id, position in heads)


def decode_hint(payload: str) -> tuple[str, list[tuple[UUID, int]]]:
    """Sender and heads; no heads when it is not one of ours."""
    sender, _, heads = payload.partition(";")
    try:
        return sender, [(UUID(app), int(position)) for app, position in (head.split(":") for head in heads.split(",") if head)]
    except ValueError:
        return sender, []
