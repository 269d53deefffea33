"""Dead letters: looked at, replayed one by one or many at once, or resolved as ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from adapters.postgres.log import PgLog
from domain.clock import Clock
from domain.dead_letters import ResolveDeadLetter
from domain.errors import Conflict, Invalid, NotFound
from domain.events import Recorded
from domain.executions import Task
from domain.ports import Reader
from domain.units import Change
from domain.values import check_text
from projections.control.reads import read_script
from projections.outbox.reads import read_trigger
from projections.outcomes.reads import (
    DeadLetter,
    DeadLetterCount,
    DeadLetterQuery,
    count_dead_letters,
    page_dead_letters,
    page_replayable,
    read_dead_letter,
)
from runtime.admin.writing import Acting, AdminWriter

MAX_REASON_CHARS: Final = 1000
MAX_REPLAYS: Final = 1000
"""Dead letters that one call replays; there may be more."""


class Refusal(msgspec.Struct, frozen=True):
    """A dead letter that was left as it is, and why."""

    id: UUID
    code: str


class Replays(msgspec.Struct, frozen=True, kw_only=True):
    """What a bulk replay did. `ids` are the replayed dead letters; `last` is where to go on, None when none is left."""

    ids: list[UUID]
    refused: list[Refusal]
    last: UUID | None


class DeadLetters:
    """The dead letters of all apps."""

    def __init__(self, reader: Reader, log: PgLog, writer: AdminWriter, clock: Clock) -> None:
        self._reader = reader
        self._log = log
        self._writer = writer
        self._clock = clock

    async def page(self, app_id: UUID, query: DeadLetterQuery, before: UUID | None, limit: int, *, unresolved: bool) -> list[DeadLetter]:
        """Dead letters, newest execution first: all, or only unresolved ones."""
        return await page_dead_letters(self._reader, app_id, query, before, limit, unresolved=unresolved)

    async def count(self, app_id: UUID) -> DeadLetterCount:
        """How many there are, and how many wait."""
        return await count_dead_letters(self._reader, app_id)

    async def get(self, app_id: UUID, dead_letter_id: UUID) -> DeadLetter:
        """One dead letter. Raises NotFound."""
        found = await read_dead_letter(self._reader, app_id, dead_letter_id)
        if found is None:
            raise NotFound("there is no such dead letter")
        return found

    async def cause(self, app_id: UUID, dead_letter: DeadLetter) -> Recorded | None:
        """The event that it was to be run for."""
        place = (app_id, dead_letter.cause_position)
        return (await self._log.read_positions([place])).get(place)

    async def replay(self, app_id: UUID, dead_letter_id: UUID, acting: Acting) -> UUID:
        """Queue it again under a new execution id, which is returned; trigger, cause and depth stay.

        Raises NotFound, or Conflict: `already_resolved`, `script_deleted`, `trigger_deleted` or `trigger_disabled` (it would be skipped, and so be lost).
        """
        dead_letter = await self.get(app_id, dead_letter_id)
        await require_runnable(self._reader, app_id, dead_letter)
        task = Task(
            execution_id=uuid7(),
            source=dead_letter.source,
            script_id=dead_letter.script_id,
            trigger_id=dead_letter.trigger_id,
            cause_position=dead_letter.cause_position,
        )
        await self._writer.append(app_id, acting, [Change(ResolveDeadLetter(dead_letter_id=dead_letter_id, resolution="replayed", replay=task))])
        return task.execution_id

    async def resolve(self, app_id: UUID, dead_letter_id: UUID, reason: str, acting: Acting) -> DeadLetter:
        """Resolve it as ignored, for a reason. Raises NotFound, Invalid, or Conflict `already_resolved`."""
        checked = check_reason(reason)
        await self.get(app_id, dead_letter_id)
        effect = ResolveDeadLetter(dead_letter_id=dead_letter_id, resolution="ignored", reason=checked)
        await self._writer.append(app_id, acting, [Change(effect)])
        return await self.get(app_id, dead_letter_id)

    async def replay_many(
        self, app_id: UUID, query: DeadLetterQuery, *, since: datetime | None, until: datetime | None, after: UUID | None, acting: Acting
    ) -> Replays:
        """Replay what waits and passes the query, oldest first, each in a unit of its own, at most `MAX_REPLAYS`. What arrives meanwhile is left alone."""
        now = self._clock()
        bound = now if until is None else min(until, now)
        found = await page_replayable(self._reader, app_id, query, after=after, since=since, until=bound, limit=MAX_REPLAYS + 1)
        wanted, more = found[:MAX_REPLAYS], len(found) > MAX_REPLAYS
        codes: dict[UUID, str] = {}
        for dead_letter_id in wanted:
            try:
                await self.replay(app_id, dead_letter_id, acting)
            except (Conflict, NotFound) as error:
                codes[dead_letter_id] = error.code
        return Replays(
            ids=[dead_letter_id for dead_letter_id in wanted if dead_letter_id not in codes],
            refused=[Refusal(dead_letter_id, codes[dead_letter_id]) for dead_letter_id in wanted if dead_letter_id in codes],
            last=wanted[-1] if more else None,
        )


def check_reason(reason: str) -> str:
    """Why a dead letter is ignored, trimmed. Raises Invalid."""
    check_text(reason, "reason")
    if not 0 < len(reason.strip()) <= MAX_REASON_CHARS:
        raise Invalid(f"reason: 1 to {MAX_REASON_CHARS} characters", field="reason")
    return reason.strip()


async def require_runnable(reader: Reader, app_id: UUID, dead_letter: DeadLetter) -> None:
    """Raise Conflict when a replay would be skipped, and so be lost."""
    if dead_letter.resolution is not None:
        raise Conflict(f"this dead letter was resolved already ({dead_letter.resolution})", code="already_resolved", resolution=dead_letter.resolution)
    if await read_script(reader, app_id, dead_letter.script_id) is None:
        raise Conflict("its script was deleted", code="script_deleted")
    if dead_letter.trigger_id is None:
        return
    stored = await read_trigger(reader, app_id, dead_letter.trigger_id)
    if stored is None:
        raise Conflict("its trigger was deleted", code="trigger_deleted")
    if not stored.trigger.enabled:
        raise Conflict("its trigger is disabled", code="trigger_disabled")
