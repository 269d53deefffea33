"""`given(events).when(effect).then(events)`: deciders as their specification reads, without a log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from domain.errors import PiCloudError
from domain.events import Event
from domain.judge import Rules
from domain.registry import RULES
from domain.units import Effect, Stream

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Outcome:
    """What an effect came to."""

    def __init__(self, rules: Rules, stream: Stream, effect: Effect, now: datetime) -> None:
        self._rules, self._stream, self._effect, self._now = rules, stream, effect, now

    @property
    def events(self) -> Sequence[Event]:
        return tuple(self._rules.decide(self._effect, self._stream, self._now))

    def then(self, *events: Event) -> None:
        assert self.events == events

    def refused(self, code: str, field: str | None = None) -> None:
        with pytest.raises(PiCloudError) as refusal:
            assert self.events
        assert (refusal.value.code, refusal.value.field) == (code, field)


class Given:
    """The history of one stream."""

    def __init__(self, events: Sequence[Event], rules: Rules = RULES) -> None:
        self._rules = rules
        self.stream = Stream(len(events), events[-1]) if events else Stream()

    def when(self, effect: Effect, now: datetime = NOW) -> Outcome:
        return Outcome(self._rules, self.stream, effect, now)


def given(*events: Event) -> Given:
    return Given(events)
