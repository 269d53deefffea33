"""The projection `statistics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from domain.events import Event, Recorded
from domain.registry import EVENTS
from domain.statements import Statement, load_sql
from projections.base import Stages
from projections.statistics import counts, sizes

_SQL: Final = load_sql("projections.statistics", "statistics.sql")


class Statistics:
    """Tables `statistics_days` and `statistics_totals`, which only count up; `statistics_sizes`, and what it is worked out from.

    Events of every topic count, on the day (UTC) on which they were recorded.
    """

    name = "statistics"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("statistics_days", "statistics_totals", "statistics_sizes", "statistics_collections", "statistics_items")
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset(EVENTS[topic] for topic in EVENTS.topics())

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """Counts and sizes side by side; then collections that have become empty go, so that it does not matter where a log is cut."""
        first = [Statement(_SQL["count"], tuple(counts.columns(counts.counted(events))))]
        found = sizes.sizes(events)
        if not found:
            return [first]
        first.append(Statement(_SQL["resize"], tuple(sizes.columns(found))))
        emptier = {(app_id, size.kind, size.collection) for (app_id, _), size in found.items() if size.bytes is None}
        if not emptier:
            return [first]
        return [first, [Statement(_SQL["drop_empty"], tuple(list(column) for column in zip(*emptier, strict=True)))]]
