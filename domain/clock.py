"""Time as PiCloud writes it: aware UTC datetimes, microseconds, RFC 3339 text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Where a clock is needed it is handed in; `utc_now` is the one that the composition root hands out."""


def utc_now() -> datetime:
    """The host's clock, aware and in UTC."""
    return datetime.now(UTC)
