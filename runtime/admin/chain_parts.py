"""What a chain is made of, and how its parts are put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.events import Recorded
from domain.executions import MAX_DEPTH, ExecutionSucceeded
from domain.units import MAX_UNIT_EVENTS
from projections.statistics.counts import NOTHING, outcome_of
from runtime.admin.executions import Execution

MAX_LEVELS: Final = MAX_DEPTH
MAX_CHILDREN: Final = 50
"""Of one execution."""
MAX_NODES: Final = 200

Row = Mapping[str, Any]
Range = tuple[int, int]
"""The first position and the last."""


class ChainEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event by its place; what it holds is at `events/{position}`."""

    position: int
    stream: str
    version: int
    topic: str
    actor: str
    recorded_at: datetime


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The request behind it all. Method, host and path are known of accepted ones only: the records of others do not keep them."""

    request_id: str | None
    actor: str
    method: str | None = None
    host: str | None = None
    path: str | None = None


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """One step back: the event that caused it, and the execution that appended that event, None if none did."""

    event: ChainEvent
    execution: Execution | None


class Triggered(Execution, frozen=True, kw_only=True):
    """An execution further down: `level` steps away, by an event of `parent_id`. `more`: it has triggered others that are not shown."""

    level: int
    parent_id: UUID
    more: bool = False


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """`causes` go back to the root, nearest first. `events` are a page of what the execution appended, `triggered` what these came to, level by level.

    The source that an execution ran is at `scripts/{script_id}/versions/{script_version}`. `more_triggered`: not all of the first level is shown;
    `truncated`: something of the chain is not.
    """

    execution: Execution
    request: Request | None
    causes: list[Cause]
    events: list[ChainEvent]
    next_cursor: str | None
    triggered: list[Triggered]
    more_triggered: bool
    truncated: bool


class Down(msgspec.Struct):
    """What was found below; `cut` are those of whose children not all are there."""

    nodes: list[Triggered]
    cut: set[UUID]

    def add(self, rows: Sequence[Row], level: int) -> list[Triggered]:
        """Take the next level, as far as there is room."""
        added: dict[UUID, Triggered] = {}
        children: dict[UUID, int] = {}
        for row in rows:
            parent_id = row["parent_id"]
            if row["execution_id"] in added:
                continue
            children[parent_id] = children.get(parent_id, 0) + 1
            if children[parent_id] > MAX_CHILDREN or len(self.nodes) + len(added) >= MAX_NODES:
                self.cut.add(parent_id)
            else:
                added[row["execution_id"]] = Triggered(level=level, **row)
        self.nodes.extend(added.values())
        return list(added.values())

    def marked(self) -> Down:
        """With those marked that have more."""
        return Down([msgspec.structs.replace(node, more=True) if node.execution_id in self.cut else node for node in self.nodes], self.cut)


def range_of(anchor: Row) -> Range:
    """A record knows exactly; before an event that says that it succeeded there are its effects, before others of its stream there are none."""
    if anchor["first"] is not None:
        return anchor["first"], anchor["position"]
    first, last = before(anchor["position"])
    return (first if anchor["topic"] == ExecutionSucceeded.TOPIC else anchor["position"]), last


def before(outcome: int) -> Range:
    """Where the unit of an outcome may lie. A dead letter's resolution stands behind its handler's outcome."""
    return outcome - MAX_UNIT_EVENTS + 1, outcome + 1


def chain_event(recorded: Recorded) -> ChainEvent:
    """An event without what it holds."""
    return ChainEvent(
        position=recorded.position,
        stream=recorded.stream,
        version=recorded.version,
        topic=recorded.event.TOPIC,
        actor=recorded.metadata.actor,
        recorded_at=recorded.recorded_at,
    )


def told_by(recorded: Recorded, execution_id: UUID) -> Execution:
    """What an event tells of the execution that appended it; whoever appends has succeeded, unless it is the end that is told of."""
    metadata = recorded.metadata
    return Execution(
        execution_id=execution_id,
        status=outcome_of(recorded.event) or "succeeded",
        source="http" if metadata.causation is None else "unknown",
        script_id=metadata.script_id or NOTHING,
        script_version=metadata.script_version,
        trigger_id=None,
        attempt=1,
        cause_position=metadata.causation,
        outcome_position=None,
        correlation_id=metadata.correlation_id,
        depth=metadata.depth,
        updated_at=recorded.recorded_at,
    )


def columns(rows: Sequence[tuple[Any, ...]], count: int) -> list[list[Any]]:
    """Rows of `count` values as the arrays of a statement, also when there are none."""
    return [[row[number] for row in rows] for number in range(count)]


def merged(ranges: Sequence[Range]) -> list[Range]:
    """The same positions as ranges that do not overlap."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found
