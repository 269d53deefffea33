"""What a script sees of a tick. Scripts call nothing of cron."""

from __future__ import annotations

from typing import Any, Final

from domain.cron import Ticked
from domain.events import Event
from runtime.services import Service, rfc3339


def describe(event: Event, before: Event | None) -> dict[str, Any]:
    """`ctx.event.cron`."""
    del before
    if not isinstance(event, Ticked):
        msg = f"{event.TOPIC} is no event of cron"
        raise TypeError(msg)
    return {
        "schedule": event.schedule,
        "timezone": event.timezone,
        "scheduled_at": rfc3339(event.scheduled_at),
        "fired_at": rfc3339(event.fired_at),
    }


CRON: Final = Service(name="cron", event=describe)
