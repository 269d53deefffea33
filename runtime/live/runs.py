"""Runs that leave no outcome in the log, synchronous ones: read from their records while somebody follows, of all processes.

Best effort, as records are: written behind the answers, looked for twice a second, bounded. Whoever runs scripts does nothing for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from domain.ports import Reader
from domain.statements import load_sql
from runtime.live.ends import End, end_of_run

EVERY_S: Final = 0.5
_SQL: Final = load_sql("runtime.live", "live.sql")
_AT_ONCE: Final = 2000
"""Of one app. More than a batch of records, which all have one time."""
_OVERLAP: Final = timedelta(seconds=1)
"""A record is seen when its batch commits, a little after it was dated."""

_TICK: Final = timedelta(microseconds=1)

Runs = set[tuple[UUID, int]]
"""Execution and attempt."""


class Records:
    """Reads what is new of each app; what is looked for again, because it may have been committed late, is not told again."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._since: dict[UUID, datetime] = {}
        self._told: dict[UUID, Runs] = {}

    async def fresh(self, app_ids: Collection[UUID]) -> list[tuple[UUID, End]]:
        """Runs of these apps whose records are new since the last time, in the order in which they were written. Other apps are forgotten."""
        self._since = {app_id: self._since[app_id] for app_id in app_ids if app_id in self._since}
        rows = await self._reader.fetch(_SQL["runs"], list(app_ids), [self._since.get(app_id) for app_id in app_ids], _AT_ONCE)
        told: dict[UUID, Runs] = {app_id: set() for app_id in app_ids}
        found = []
        for row in rows:
            app_id = row["app_id"]
            told[app_id].add(_run(row))
            # There are more: to look at all of these again would get nowhere, but the last time may have others.
            is_cut = len(told[app_id]) == _AT_ONCE
            since = row["recorded_at"] - (_TICK if is_cut else _OVERLAP)
            self._since[app_id] = max(since, self._since.get(app_id, since))
            if _run(row) not in self._told.get(app_id, set()):
                found.append((app_id, end_of_run(row)))
        self._told = told
        return found


def _run(row: Mapping[str, Any]) -> tuple[UUID, int]:
    return row["execution_id"], row["attempt"]
