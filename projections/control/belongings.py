"""Rows that belong to users and apps and go with them, folded from a run of events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from domain.statements import Statement
from projections.base import Stages
from projections.rows import rows


class Belongings:
    """What a run of events makes of a table whose rows have `created_at`, are known by the columns `key`, and end one by one or with what they belong to."""

    def __init__(self, *key: str) -> None:
        self._key = key
        self._saved: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        self._ended: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        self._gone: dict[str, list[UUID]] = {}

    def save(self, row: Mapping[str, Any]) -> None:
        """A row is new, or is now as this says; it was created when it was."""
        key = self._key_of(row)
        before = self._saved.get(key)
        self._saved[key] = row if before is None else {**row, "created_at": before["created_at"]}

    def end(self, row: Mapping[str, Any]) -> None:
        """A row has ended; its key columns are all that counts."""
        key = self._key_of(row)
        self._saved.pop(key, None)
        self._ended[key] = row

    def end_all(self, column: str, value: UUID) -> None:
        """All rows have ended that have this value there."""
        self._saved = {key: row for key, row in self._saved.items() if row[column] != value}
        self._gone.setdefault(column, []).append(value)

    def stages(self, sql: Mapping[str, str]) -> Stages:
        """Statements `end`, then `end_by_<column>` (`$1::uuid[]`), then `save`. What comes back after its end comes as another row."""
        stages = [[Statement(sql["end"], (rows(list(self._ended.values())),))]] if self._ended else []
        stages.extend([Statement(sql[f"end_by_{column}"], (values,))] for column, values in self._gone.items())
        if self._saved:
            stages.append([Statement(sql["save"], (rows(list(self._saved.values())),))])
        return stages

    def _key_of(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[column] for column in self._key)
