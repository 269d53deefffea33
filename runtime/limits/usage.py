"""What apps have used up today: requests and executions, counted in memory and added up in a table about once a second.

Best effort: what a process has counted since is lost with it. Each addition is answered with what all processes have counted, so that they agree within about
a second where there is traffic.
"""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

import anyio
import msgspec
import structlog

from domain.clock import Clock
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("runtime.limits", "usage.sql")
_FLUSH_EVERY_S: Final = 1.0
_FLUSH_WITHIN_S: Final = 2.0
_FRESH_FOR: Final = timedelta(seconds=5)
_APPS_KEPT: Final = 4096
_KEPT_DAYS: Final = 400

log = structlog.get_logger(__name__)


class Used(msgspec.Struct, frozen=True):
    """So many requests and executions."""

    requests: int = 0
    executions: int = 0


class _Known(msgspec.Struct, frozen=True):
    """What the table said."""

    day: date
    used: Used
    read_at: datetime


class Usage:
    """The counters of this process, and what it knows of all."""

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._requests: Counter[UUID] = Counter()
        self._executions: Counter[UUID] = Counter()
        self._adding: dict[UUID, Used] = {}
        self._known: dict[UUID, _Known] = {}
        self._additions = 0

    def request(self, app_id: UUID) -> None:
        """Count a request."""
        self._requests[app_id] += 1

    def execution(self, app_id: UUID) -> None:
        """Count an execution that begins."""
        self._executions[app_id] += 1

    async def today(self, app_id: UUID, *, fresh: bool = False) -> Used:
        """What an app has used up today. What other processes have counted may be some seconds old, unless it is to be `fresh`."""
        now = self._clock()
        known = self._known.get(app_id)
        if known is None or fresh or known.day != now.date() or now - known.read_at > _FRESH_FOR:
            known = await self._read(app_id, now)
        adding = self._adding.get(app_id, Used())
        return Used(
            known.used.requests + adding.requests + self._requests[app_id],
            known.used.executions + adding.executions + self._executions[app_id],
        )

    async def run(self) -> None:
        """Add up until cancelled, then what is left."""
        try:
            while True:
                await anyio.sleep(_FLUSH_EVERY_S)
                await self._flush_shielded()
        finally:
            await self._flush_shielded()

    async def flush(self) -> None:
        """Add what was counted to the table. What cannot be added now is added later."""
        if not self._requests and not self._executions:
            return
        now = self._clock()
        requests, self._requests = self._requests, Counter()
        executions, self._executions = self._executions, Counter()
        self._adding = {app_id: Used(requests[app_id], executions[app_id]) for app_id in {*requests, *executions}}
        try:
            rows = await self._reader.fetch(_SQL["add"], now.date(), *_columns(self._adding))
        except Exception as error:  # noqa: BLE001  # whatever it is, the counts stay
            log.warning("usage_not_added", error=str(error))
            self._requests.update(requests)
            self._executions.update(executions)
        else:
            self._additions += 1
            self._note({row["app_id"]: _Known(now.date(), Used(row["requests"], row["executions"]), now) for row in rows})
        finally:
            self._adding = {}

    async def retain(self) -> None:
        """Forget days long past: for a periodic job."""
        await self._reader.fetch(_SQL["retain"], self._clock().date() - timedelta(days=_KEPT_DAYS))

    async def _flush_shielded(self) -> None:
        """Add up whatever happens meanwhile: of an addition that is broken off nobody knows whether it was made."""
        with anyio.move_on_after(_FLUSH_WITHIN_S, shield=True):
            await self.flush()

    async def _read(self, app_id: UUID, now: datetime) -> _Known:
        """What the table says. Read again when this process was adding to it meanwhile: nobody knows then what was seen of that."""
        while True:
            additions = self._additions
            rows = await self._reader.fetch(_SQL["day"], app_id, now.date())
            if additions == self._additions:
                known = _Known(now.date(), Used(rows[0]["requests"], rows[0]["executions"]) if rows else Used(), now)
                self._note({app_id: known})
                return known

    def _note(self, known: dict[UUID, _Known]) -> None:
        if len(self._known) + len(known) > _APPS_KEPT:
            self._known.clear()
        self._known.update(known)


def _columns(counted: dict[UUID, Used]) -> tuple[list[UUID], list[int], list[int]]:
    return list(counted), [used.requests for used in counted.values()], [used.executions for used in counted.values()]
