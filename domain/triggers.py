"""Triggers: which events of an app run which script.

`pattern` is the index key that the outbox matches by (see `domain.globs`); `detail` is what the trigger's author asked for, as its kind's API shows it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from domain.aggregates import Aggregate
from domain.events import Event
from domain.ids import stream
from domain.retry import RetryPolicy

Source = Literal["kv", "docs", "files", "pubsub", "cron", "dead_letter"]


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger. `ops` empty means every op. `registrant` is the actor that it runs as."""

    id: UUID
    source: Source
    script_id: UUID
    enabled: bool
    ops: tuple[str, ...]
    pattern: str
    retry: RetryPolicy
    registrant: str
    detail: dict[str, Any]


class TriggerSaved(Event, frozen=True, kw_only=True):
    """A trigger is like this from here on. `next_due_at`: when it is due next, if time sets it off and it is enabled."""

    TOPIC = "triggers.TriggerSaved"
    trigger: Trigger
    next_due_at: datetime | None = None


class TriggerDeleted(Event, frozen=True, kw_only=True):
    """A trigger is gone."""

    TOPIC = "triggers.TriggerDeleted"
    trigger_id: UUID


def trigger_stream(trigger_id: UUID) -> str:
    """The stream of a trigger."""
    return stream("trigger", trigger_id)


AGGREGATES: Final = (Aggregate(kind="trigger", events=(TriggerSaved, TriggerDeleted), deciders={}, exists=lambda last, _: isinstance(last, TriggerSaved)),)
