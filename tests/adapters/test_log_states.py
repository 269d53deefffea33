"""What the writer remembers, as others ask for it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from adapters.postgres.states import StateCache
from domain.judge import Head
from domain.kv import KvDeleted
from domain.units import Stream

_HEAD = Head(position=3, last_recorded_at=datetime(2026, 1, 1, tzinfo=UTC))
_STREAM = Stream(1, KvDeleted(collection="c", key="k"))


def test_a_state_is_recalled_at_a_head_that_is_not_too_old() -> None:
    cache, app_id = StateCache(), uuid4()
    assert cache.recall(app_id, "k", 0) is None
    states = cache.app(app_id)
    states.meet(_HEAD)
    cache.remember(states, "k", _STREAM, 10)
    assert cache.recall(app_id, "k", 3) is _STREAM
    assert cache.recall(app_id, "other", 3) is None
    assert cache.recall(app_id, "k", 4) is None
    states.forget()
    assert cache.recall(app_id, "k", 0) is None


def test_asking_changes_nothing() -> None:
    """The sandbox's threads ask while the writer goes through all that it knows."""
    cache = StateCache()
    assert cache.recall(uuid4(), "k", 0) is None
    assert cache._apps == {}
