"""Checks of the log itself, made while it is replayed and once at its heads."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from adapters.postgres.projecting.findings import LogFault
from adapters.postgres.projecting.port import Decoder
from adapters.postgres.projecting.replay import SQL, Reading
from domain.events import Recorded


class Audit(Reading):
    """Sees every event of every log in order; keeps the first `limit` faults and counts the others."""

    def __init__(self, decoder: Decoder, limit: int) -> None:
        super().__init__(decoder)
        self._limit = limit
        self._last: dict[UUID, tuple[int, datetime]] = {}
        self.faults: list[LogFault] = []
        self.events = 0
        self.omitted = 0

    def recorded(self, row: Any) -> Recorded | None:
        """The row's event, or None and a fault when it cannot be read."""
        self.events += 1
        self._check_order(row["app_id"], row["position"], row["recorded_at"])
        try:
            return self._decode(row)
        except Exception as error:  # noqa: BLE001  # whatever a damaged state makes a decoder raise is what we are here to find
            self._found("unreadable", row["app_id"], row["position"], f"{row['topic']}: {error}")
            return None

    async def check_heads(self, connection: asyncpg.Connection) -> None:
        """Every head stands at its log's last event."""
        for row in await connection.fetch(SQL["heads_astray"], self._limit):
            detail = f"the head stands at {row['head']} of {row['last_recorded_at']}, the last event at {row['position']} of {row['recorded_at']}"
            self._found("head", row["app_id"], row["position"], detail)

    async def check_streams(self, connection: asyncpg.Connection, app_ids: Iterable[UUID]) -> None:
        """Versions of every stream are gapless and in the order of the log."""
        for app_id in app_ids:
            for row in await connection.fetch(SQL["streams_astray"], app_id, self._limit):
                found, before = f"version {row['originator_version']}", f"version {row['version_before']} at {row['position_before']}"
                self._found("stream", app_id, row["position"], f"{row['originator_id']}: {found} comes after {before}")

    def _check_order(self, app_id: UUID, position: int, recorded_at: datetime) -> None:
        before, time = self._last.get(app_id, (0, recorded_at))
        if position != before + 1:
            self._found("gap", app_id, position, f"comes after {before}")
        if recorded_at < time:
            self._found("time", app_id, position, f"recorded at {recorded_at}, its predecessor at {time}")
        self._last[app_id] = (position, recorded_at)

    def _found(self, kind: Any, app_id: UUID, position: int, detail: str) -> None:
        if len(self.faults) < self._limit:
            self.faults.append(LogFault(kind=kind, app_id=app_id, position=position, detail=detail))
        else:
            self.omitted += 1
