"""The projection `documents`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from domain.docs import DocCreated, DocDeleted, DocUpdated
from domain.events import Event, Recorded
from domain.statements import Statement, load_sql, read_sql
from projections.base import Stages

_SQL: Final = load_sql("projections.docs", "statements.sql")
_SCHEMA: Final = read_sql("projections.docs", "schema.sql")


class Documents:
    """Upserts and deletes, several events of one document folded into its last."""

    name = "docs"
    version = 1
    schema = _SCHEMA
    tables: tuple[str, ...] = ("documents",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({DocCreated, DocUpdated, DocDeleted})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """One upsert and one delete for however many events."""
        last: dict[tuple[UUID, str], Recorded] = {(event.app_id, event.stream): event for event in events}
        saved = [(recorded, recorded.event) for recorded in last.values() if isinstance(recorded.event, DocCreated | DocUpdated)]
        gone = [(recorded.app_id, recorded.event) for recorded in last.values() if isinstance(recorded.event, DocDeleted)]
        return [[*_upsert(saved), *_delete(gone)]]


def _upsert(saved: Sequence[tuple[Recorded, DocCreated | DocUpdated]]) -> list[Statement]:
    if not saved:
        return []
    columns = (
        [recorded.app_id for recorded, _ in saved],
        [event.collection for _, event in saved],
        [event.id for _, event in saved],
        [bytes(event.data).decode() for _, event in saved],
        [recorded.version for recorded, _ in saved],
        [event.created_at for _, event in saved],
        [recorded.recorded_at for recorded, _ in saved],
    )
    return [Statement(_SQL["upsert_documents"], columns)]


def _delete(gone: Sequence[tuple[UUID, DocDeleted]]) -> list[Statement]:
    if not gone:
        return []
    columns = ([app_id for app_id, _ in gone], [event.collection for _, event in gone], [event.id for _, event in gone])
    return [Statement(_SQL["delete_documents"], columns)]
