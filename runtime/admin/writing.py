"""How administration writes: one unit a change, tried again when somebody else was faster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from domain.clock import Clock
from domain.errors import Conflict, ReadConflict, VersionConflict
from domain.events import Metadata, Recorded
from domain.ids import NIL_APP
from domain.ports import Appender
from domain.units import Change, Read, Unit

ATTEMPTS: Final = 5

T = TypeVar("T")

AfterChange = Callable[[UUID, int, datetime], Awaitable[None]]
"""`await after_change(app_id, position, recorded_at)` returns once every process answers by what was appended there."""


class Acting(msgspec.Struct, frozen=True):
    """Who makes a change, as events name it, by which request, and what in the instance's log his right to it rests on (`domain.principals.authority`)."""

    actor: str
    request_id: str | None = None
    reads: tuple[Read, ...] = ()

    def but(self, *streams: str) -> Acting:
        """The same, for whoever reads these streams anew and decides by what they say of him."""
        return msgspec.structs.replace(self, reads=tuple(read for read in self.reads if read.stream not in streams))


class AdminWriter:
    """Appends the units of administration. `after_change` is awaited for changes of what dispatch goes by: scripts, routes, hosts, triggers."""

    def __init__(self, log: Appender, clock: Clock, after_change: AfterChange) -> None:
        self._log = log
        self._clock = clock
        self._after_change = after_change

    async def append(
        self, app_id: UUID, acting: Acting, changes: Sequence[Change], *, reads: Sequence[Read] = (), key: str | None = None
    ) -> tuple[Recorded, ...]:
        """Append one unit. Raises what `Appender.append` raises, and in the instance's log Conflict `authority_changed` when `acting` is not who he was."""
        rights = acting.reads if app_id == NIL_APP else ()
        unit_id = uuid7()
        metadata = Metadata(unit_id=unit_id, actor=acting.actor, correlation_id=unit_id, request_id=acting.request_id)
        unit = Unit(app_id=app_id, metadata=metadata, now=self._clock(), changes=tuple(changes), reads=(*rights, *reads), idempotency_key=key)
        try:
            return await self._log.append(unit)
        except ReadConflict as error:
            if any(read.stream == error.extra["stream"] for read in rights):
                raise Conflict("what you may do was changed while you were doing this; try again", code="authority_changed") from error
            raise

    async def publish(
        self, app_id: UUID, acting: Acting, changes: Sequence[Change], *, reads: Sequence[Read] = (), key: str | None = None
    ) -> tuple[Recorded, ...]:
        """Append one unit and wait until every process answers by it."""
        events = await self.append(app_id, acting, changes, reads=reads, key=key)
        if events:
            await self._after_change(app_id, events[-1].position, events[-1].recorded_at)
        return events


async def retried(attempt: Callable[[], Awaitable[T]]) -> T:
    """Read, decide and append, again from the start when what was read has changed meanwhile. Raises Conflict when others were faster every time."""
    for _ in range(ATTEMPTS):
        try:
            return await attempt()
        except VersionConflict:
            continue
    raise Conflict("this is being changed by others at the same time; try again", code="concurrent_changes")
