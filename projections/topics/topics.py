"""The projection `topics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from domain.events import Event, Recorded
from domain.statements import load_sql
from domain.topics import TopicDeleted, TopicSaved
from projections.base import Stages
from projections.rows import Life, changed, lives

_SQL: Final = load_sql("projections.topics", "topics.sql")


class Topics:
    """Table `topics`."""

    name = "topics"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("topics",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({TopicSaved, TopicDeleted})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """The last event of each topic."""
        return changed(lives(events, TopicDeleted), TopicDeleted, _row, _SQL["save_topics"], _SQL["delete_topics"])


def _row(life: Life) -> dict[str, Any]:
    match life.last.event:
        case TopicSaved(topic=topic):
            return {
                "app_id": life.last.app_id,
                "kind": topic.kind,
                "name": topic.name,
                "external_subscribable": topic.external_subscribable,
                "auth_mode": topic.auth_mode,
                "version": life.last.version,
                "created_at": life.created_at,
            }
        case TopicDeleted(kind=kind, name=name):
            return {"app_id": life.last.app_id, "kind": kind, "name": name}
        case _:
            raise TypeError(life.last.event)
