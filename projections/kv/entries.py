"""The projection `kv_entries`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from domain.events import Event, Recorded
from domain.kv import KvDeleted, KvExpired, KvSet
from domain.statements import Statement, load_sql, read_sql
from projections.base import Stages

_SQL: Final = load_sql("projections.kv", "statements.sql")
_SCHEMA: Final = read_sql("projections.kv", "schema.sql")


class KvEntries:
    """Upserts and deletes, several events of one key folded into its last."""

    name = "kv"
    version = 1
    schema = _SCHEMA
    tables: tuple[str, ...] = ("kv_entries",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({KvSet, KvDeleted, KvExpired})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """One upsert and one delete for however many events."""
        last: dict[tuple[UUID, str], Recorded] = {(event.app_id, event.stream): event for event in events}
        sets = [(recorded, recorded.event) for recorded in last.values() if isinstance(recorded.event, KvSet)]
        gone = [(recorded, recorded.event) for recorded in last.values() if isinstance(recorded.event, KvDeleted | KvExpired)]
        statements = []
        if sets:
            statements.append(
                Statement(
                    _SQL["upsert_entries"],
                    (
                        [recorded.app_id for recorded, _ in sets],
                        [event.collection for _, event in sets],
                        [event.key for _, event in sets],
                        [bytes(event.value).decode() for _, event in sets],
                        [recorded.version for recorded, _ in sets],
                        [event.expires_at for _, event in sets],
                        [recorded.recorded_at for recorded, _ in sets],
                    ),
                )
            )
        if gone:
            columns = ([recorded.app_id for recorded, _ in gone], [event.collection for _, event in gone], [event.key for _, event in gone])
            statements.append(Statement(_SQL["delete_entries"], columns))
        return [statements]
