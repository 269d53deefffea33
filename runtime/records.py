"""Execution records: what ran, best effort, for a while.

Written in batches behind the response; a record that cannot be written is counted and dropped, never waited for.
"""

from __future__ import annotations

import re
from collections import deque
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import anyio
import asyncpg
import msgspec
import structlog

from domain.clock import Clock
from domain.executions import TaskSource, without_credentials
from domain.ports import Reader
from domain.sandbox import LogLine, RunResult, ScriptError
from domain.statements import load_sql
from runtime.invocation import Invocation, Outcome
from runtime.offloop import off_loop, weigh

_SQL: Final = load_sql("runtime", "records.sql")
_MAX_QUEUED: Final = 10_000
_MAX_QUEUED_BYTES: Final = 16 * 1024 * 1024
_MAX_BATCH: Final = 500
_MAX_BATCH_BYTES: Final = 1024 * 1024
_PAUSE_S: Final = 0.05
_MAX_LOG_BYTES: Final = 64 * 1024
_MAX_JOURNAL_BYTES: Final = 256 * 1024
_MAX_CLEANED_BYTES: Final = 16 * 1024 * 1024
"""What taking secrets out of a journal may go over, once for each text that is looked for."""
_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")

log = structlog.get_logger(__name__)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `execution_records`. `status` is the answer's, when there was one."""

    app_id: UUID
    started_at: datetime
    execution_id: UUID
    script_id: UUID
    script_version: int
    source: str
    trigger_id: UUID | None
    attempt: int
    outcome: str
    status: int | None
    duration_ms: float
    request_id: str | None
    actor: str
    correlation_id: UUID | None
    depth: int
    first_position: int | None
    last_position: int | None
    error: ScriptError | None
    logs: tuple[LogLine, ...]
    journal: Any


def record_of(call: Invocation, outcome: Outcome, source: TaskSource, trigger_id: UUID | None) -> Record:
    """The record of an execution; its journal is kept when it failed."""
    result = outcome.result
    failed = outcome.ending not in {"returned", "aborted"}
    return Record(
        app_id=call.view.app_id,
        started_at=outcome.started_at,
        execution_id=call.execution_id,
        script_id=call.script.id,
        script_version=call.script.version,
        source=source,
        trigger_id=trigger_id,
        attempt=call.attempt,
        outcome=outcome.ending,
        status=None if result.reply is None else result.reply.status,
        duration_ms=outcome.duration_s * 1000,
        request_id=call.request_id,
        actor=call.actor,
        correlation_id=call.correlation_id or call.execution_id,
        depth=call.depth,
        first_position=outcome.events[0].position if outcome.events else None,
        last_position=outcome.events[-1].position if outcome.events else None,
        error=result.error,
        logs=_bounded(result),
        journal=_journal(call, outcome) if failed else None,
    )


class Records:
    """A bounded queue of records and the task that writes it."""

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._queue: deque[Record] = deque()
        self._queued_bytes = 0
        self._wake = anyio.Event()
        self._days: set[date] = set()
        self.dropped = 0

    def add(self, record: Record) -> None:
        """Queue a record; drops it when too many wait."""
        if len(self._queue) >= _MAX_QUEUED or self._queued_bytes >= _MAX_QUEUED_BYTES:
            self.dropped += 1
            return
        self._queue.append(record)
        self._queued_bytes += _size(record)
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled, then what is left."""
        try:
            while True:
                await self._wake.wait()
                self._wake = anyio.Event()
                await anyio.sleep(_PAUSE_S)
                await self._flush()
                if self._queue:
                    self._wake.set()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self._flush()

    async def retain(self, days: float) -> None:
        """Drop the partitions of days that ended more than `days` ago."""
        before = (self._clock() - timedelta(days=days)).date()
        for row in await self._reader.fetch(_SQL["partitions"]):
            day = datetime.strptime(row["name"][-8:], "%Y%m%d").date()  # noqa: DTZ007  # a date has no zone
            if day < before:
                await self._reader.fetch(_SQL["drop_partition"], day)
                self._days.discard(day)

    async def _flush(self) -> None:
        """Write what waits now. What comes meanwhile waits for more of its like: one row a statement would cost each run as much as its commit."""
        last = self._queue[-1] if self._queue else None
        while self._queue:
            batch = self._take()
            await self._store(batch)
            if batch[-1] is last:
                return

    def _take(self) -> list[Record]:
        """The next batch, within bounds on its number and bytes."""
        batch: list[Record] = []
        size = 0
        while self._queue and len(batch) < _MAX_BATCH and size < _MAX_BATCH_BYTES:
            batch.append(self._queue.popleft())
            size += _size(batch[-1])
        self._queued_bytes -= size
        return batch

    async def _store(self, batch: list[Record]) -> None:
        """Best effort, but one record that cannot be stored takes no other with it."""
        try:
            await self._write(batch)
        except Exception as error:  # noqa: BLE001  # counted and dropped, whatever it is
            self._days.clear()
            if len(batch) > 1 and isinstance(error, asyncpg.DataError | ValueError):
                for record in batch:
                    await self._store([record])
                return
            self.dropped += len(batch)
            log.warning("records_dropped", records=len(batch), error=str(error))

    async def _write(self, batch: list[Record]) -> None:
        for day in {record.started_at.date() for record in batch} - self._days:
            await self._reader.fetch(_SQL["ensure_partition"], day)
            self._days.add(day)
        rows = await off_loop(sum(map(_size, batch)), lambda: f"[{','.join(map(_encode, batch))}]")
        await self._reader.fetch(_SQL["insert"], rows)


def _journal(call: Invocation, outcome: Outcome) -> Any:
    """What an exact replay needs: inputs, clock, seed, versions, host answers. Credentials are not kept, not even for that."""
    if weigh(call.ctx, _MAX_JOURNAL_BYTES) > _MAX_JOURNAL_BYTES:
        return {"omitted": f"inputs of more than {_MAX_JOURNAL_BYTES} bytes"}
    if outcome.revealed and _journal_size(call, outcome) * len(outcome.revealed) > _MAX_CLEANED_BYTES:
        return {"omitted": "more secrets were read than can be taken out"}
    clean = outcome.revealed.data
    journal = {
        "ctx": clean(_without_credentials(call.ctx)),
        "clock": outcome.clock,
        "seed": outcome.seed,
        "script_version": call.script.version,
        "modules": {name: module.version for name, module in call.view.modules.items()},
        "answers": [msgspec.structs.replace(a, args=clean(a.args), value=clean(a.value), error=clean(a.error)) for a in outcome.journal],
    }
    try:
        encoded = msgspec.json.encode(journal)
    except (TypeError, ValueError, RecursionError, OverflowError):
        return {"omitted": "not representable"}
    if len(encoded) > _MAX_JOURNAL_BYTES:
        return {"omitted": f"{len(encoded)} bytes"}
    return msgspec.Raw(encoded)


def _journal_size(call: Invocation, outcome: Outcome) -> int:
    return weigh([call.ctx, [(answer.args, answer.value) for answer in outcome.journal]], 2 * _MAX_JOURNAL_BYTES)


def _without_credentials(ctx: dict[str, Any]) -> dict[str, Any]:
    request = ctx.get("request")
    return ctx if request is None else {**ctx, "request": {**request, "headers": without_credentials(request["headers"])}}


def _bounded(result: RunResult) -> tuple[LogLine, ...]:
    size = 0
    kept = []
    for line in result.logs:
        size += weigh((line.message, line.data), _MAX_LOG_BYTES)
        if size > _MAX_LOG_BYTES:
            break
        kept.append(line)
    return tuple(kept)


def _size(record: Record) -> int:
    """About how many bytes a record holds."""
    journal = len(bytes(record.journal)) if isinstance(record.journal, msgspec.Raw) else 0
    return 500 + journal + sum(weigh((line.message, line.data), _MAX_LOG_BYTES) for line in record.logs)


def _encode(record: Record) -> str:
    """JSON that jsonb takes: it knows no NUL, so U+FFFD stands for it."""
    text = msgspec.json.encode(record).decode()
    return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text
