"""Whether what a run has read still held all at once: for runs that commit nothing, whose read set no unit checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from domain.errors import ReadConflict
from domain.events import Event
from domain.judge import Rules
from domain.ports import Readers
from domain.statements import load_sql
from domain.units import ABSENT, EMPTY_STREAM, Read, Stream

_SQL: Final = load_sql("adapters.postgres", "log.sql")


class ReadCheck:
    """Checks read sets against one snapshot of the log, which is then the moment at which the run has happened."""

    def __init__(self, readers: Readers, rules: Rules, decode: Callable[[str, bytes], Event]) -> None:
        self._readers = readers
        self._rules = rules
        self._decode = decode

    async def __call__(self, app_id: UUID, reads: Sequence[Read], now: datetime) -> None:
        """Raise ReadConflict naming the first stream that has changed."""
        streams, absent = [read.stream for read in reads], [read.version == ABSENT for read in reads]
        expected = {read.stream: read.version for read in reads}
        for row in await self._readers(app_id).fetch(_SQL["load_versions"], app_id, streams, absent):
            version = expected[row["stream"]]
            if not (self._is_absent(row, now) if version == ABSENT else row["originator_version"] == version):
                raise ReadConflict(stream=row["stream"])

    def _is_absent(self, row: Mapping[str, Any], now: datetime) -> bool:
        stream = EMPTY_STREAM if row["topic"] is None else Stream(row["originator_version"], self._decode(row["topic"], row["state"]))
        return self._rules.is_absent(stream, now)
