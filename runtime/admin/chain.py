"""The chain of one execution: what it goes back to, what it appended, and which executions that has triggered.

Nothing is scanned: an execution's events lie in its units, whose positions its own stream and its records name; who was triggered is found by the position of
the cause. All of it is bounded, and says so where there is more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from adapters.postgres.log import PgLog
from domain.errors import NotFound
from domain.events import Recorded
from domain.executions import MAX_DEPTH, ExecutionAbandoned, HttpRequestAccepted, execution_stream
from domain.ports import Reader
from domain.statements import load_sql
from domain.units import MAX_UNIT_EVENTS
from runtime.admin.chain_parts import (
    MAX_CHILDREN,
    MAX_NODES,
    Cause,
    Chain,
    ChainEvent,
    Down,
    Range,
    Request,
    Triggered,
    before,
    chain_event,
    columns,
    merged,
    range_of,
    told_by,
)
from runtime.admin.executions import Execution, Executions

_SQL: Final = load_sql("runtime.admin", "chain.sql")
_MAX_ANCHORS: Final = 20
_MAX_PENDING_CAUSES: Final = 50
_MAX_SEARCHED: Final = 10_000


class Chains:
    """The chains of all apps."""

    def __init__(self, reader: Reader, log: PgLog) -> None:
        self._reader = reader
        self._log = log
        self._executions = Executions(reader, log)

    async def of(self, app_id: UUID, execution_id: UUID, *, after: int, limit: int, levels: int) -> Chain:
        """The chain of an execution, with up to `limit` of its events after a position. Raises NotFound."""
        ranges = await self._ranges(app_id, execution_id)
        execution = await self._executions.find(app_id, execution_id) or await self._from_log(app_id, execution_id, ranges)
        events = await self._events(app_id, execution_id, ranges, after, limit + 1)
        causes, is_whole = await self._causes(app_id, execution)
        down = await self._triggered(app_id, execution_id, ranges, levels)
        pending = await self._pending(app_id, execution_id, events[:limit])
        return Chain(
            execution=execution,
            request=await self._request(app_id, execution, causes, ranges),
            causes=causes,
            events=events[:limit],
            next_cursor=str(events[limit - 1].position) if len(events) > limit else None,
            triggered=[*down.nodes, *pending],
            more_triggered=execution_id in down.cut,
            truncated=bool(down.cut) or not is_whole,
        )

    async def _ranges(self, app_id: UUID, execution_id: UUID) -> list[Range]:
        """Positions among which its events are. Of a run that nothing names only a root can be found, by its id."""
        anchors = await self._reader.fetch(_SQL["anchors"], app_id, execution_stream(execution_id), execution_id, _MAX_ANCHORS)
        ranges = [range_of(row) for row in anchors]
        if not any(row["first"] is not None or row["topic"] != ExecutionAbandoned.TOPIC for row in anchors):
            found = await self._reader.fetch(_SQL["first_of_root"], app_id, str(execution_id), _MAX_SEARCHED)
            ranges += [(row["position"], row["position"] + MAX_UNIT_EVENTS - 1) for row in found]
        return ranges

    async def _from_log(self, app_id: UUID, execution_id: UUID, ranges: Sequence[Range]) -> Execution:
        """An execution that is known by its events alone."""
        found = await self._events(app_id, execution_id, ranges, 0, 1)
        if not found:
            raise NotFound("there is no such execution")
        (recorded,) = (await self._log.read_positions([(app_id, found[0].position)])).values()
        return told_by(recorded, execution_id)

    async def _events(self, app_id: UUID, execution_id: UUID, ranges: Sequence[Range], after: int, limit: int) -> list[ChainEvent]:
        rows = await self._reader.fetch(_SQL["events"], app_id, *columns(merged(ranges), 2), str(execution_id), after, limit)
        return [ChainEvent(**row) for row in rows]

    async def _causes(self, app_id: UUID, execution: Execution) -> tuple[list[Cause], bool]:
        """The way back, and whether it has reached the root."""
        causes: list[Cause] = []
        at: Execution | None = execution
        while at is not None and at.cause_position is not None and at.status != "abandoned":
            place = (app_id, at.cause_position)
            recorded = (await self._log.read_positions([place])).get(place)
            if recorded is None or len(causes) > MAX_DEPTH + 1:
                return causes, False
            parent_id = recorded.metadata.execution_id
            at = None if parent_id in {None, at.execution_id} else await self._parent(app_id, recorded)
            causes.append(Cause(event=chain_event(recorded), execution=at))
        return causes, True

    async def _parent(self, app_id: UUID, recorded: Recorded) -> Execution:
        """The execution that appended an event; what its event tells when nothing else is kept of it."""
        parent_id = recorded.metadata.execution_id
        assert parent_id is not None
        return await self._executions.find(app_id, parent_id) or told_by(recorded, parent_id)

    async def _request(self, app_id: UUID, execution: Execution, causes: Sequence[Cause], ranges: Sequence[Range]) -> Request | None:
        """The request at the root, if a request is what stands there."""
        if causes and causes[-1].execution is None:
            return await self._accepted(app_id, causes[-1].event)
        root = causes[-1].execution if causes else execution
        assert root is not None
        caller = await self._executions.caller(app_id, root.execution_id)
        if caller is not None:
            return Request(actor=caller.actor, request_id=caller.request_id)
        own = [causes[-1].event] if causes else await self._events(app_id, root.execution_id, ranges, 0, 1)
        return Request(actor=own[0].actor, request_id=None) if own else None

    async def _accepted(self, app_id: UUID, event: ChainEvent) -> Request | None:
        if event.topic != HttpRequestAccepted.TOPIC:
            return None
        (recorded,) = (await self._log.read_positions([(app_id, event.position)])).values()
        assert isinstance(recorded.event, HttpRequestAccepted)
        asked = recorded.event.request
        return Request(actor=event.actor, request_id=recorded.metadata.request_id, method=asked.method, host=asked.host, path=asked.path)

    async def _triggered(self, app_id: UUID, execution_id: UUID, ranges: Sequence[Range], levels: int) -> Down:
        """Level by level, until there are no more, or as many as are shown."""
        down = Down([], set())
        parents: list[tuple[UUID, int, int]] = [(execution_id, *each) for each in ranges]
        for level in range(1, levels + 1):
            if not parents or len(down.nodes) >= MAX_NODES:
                break
            rows = await self._reader.fetch(_SQL["children"], app_id, *columns(parents, 3), MAX_CHILDREN + 1)
            parents = [(node.execution_id, *before(node.outcome_position)) for node in down.add(rows, level) if node.outcome_position is not None]
        if len(down.nodes) >= MAX_NODES:
            down.cut.update(parent_id for parent_id, _, _ in parents)
        return down.marked()

    async def _pending(self, app_id: UUID, execution_id: UUID, events: Sequence[ChainEvent]) -> list[Triggered]:
        positions = [event.position for event in events[:_MAX_PENDING_CAUSES]]
        rows = await self._reader.fetch(_SQL["pending"], app_id, positions, MAX_CHILDREN)
        return [Triggered(level=1, parent_id=execution_id, **row) for row in rows]
