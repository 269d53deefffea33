"""Retention shrinks a read model by an event, so that a rebuild shrinks it too. The log itself is never shrunk."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from domain.aggregates import Aggregate, always
from domain.events import Event
from domain.ids import stream

Retained = Literal["executions", "dead_letters", "abandoned"]


class RetentionApplied(Event, frozen=True, kw_only=True):
    """Finished rows of a read model from before `before` were dropped."""

    TOPIC = "retention.RetentionApplied"
    projection: Retained
    before: datetime


def retention_stream(projection: Retained) -> str:
    """The stream of a read model's retention."""
    return stream("retention", projection)


AGGREGATES: Final = (Aggregate(kind="retention", events=(RetentionApplied,), deciders={}, exists=always),)
