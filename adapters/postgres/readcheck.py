"""Whether what a run has read still held all at once: for runs that commit nothing, whose read set no unit checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from domain.errors import ReadConflict
from domain.events import Event
from domain.judge import Rules
from domain.ports import Reader
from domain.statements import load_sql
from domain.units import ABSENT, EMPTY_STREAM, Read, Stream

_SQL: Final = load_sql("adapters.postgres", "log.sql")


class ReadCheck:
    """Checks read sets against one snapshot of the log, which is then the moment at which the run has happened."""

    def __init__(self, reader: Reader, rules: Rules, decode: Callable[[str, bytes], Event]) -> None:
        self._reader = reader
        self._rules = rules
        self._decode = decode

    async def __call__(self, app_id: UUID, reads: Sequence[Read], now: datetime) -> None:
        """Raise ReadConflict naming the first stream that has changed."""
        rows = await self._reader.fetch(_SQL["load_streams"], [app_id] * len(reads), [read.stream for read in reads])
        expected = {read.stream: read.version for read in reads}
        for row in rows:
            stream = EMPTY_STREAM if row["topic"] is None else Stream(row["originator_version"], self._decode(row["topic"], row["state"]))
            version = expected[row["stream"]]
            if not (self._rules.is_absent(stream, now) if version == ABSENT else stream.version == version):
                raise ReadConflict(stream=row["stream"])
