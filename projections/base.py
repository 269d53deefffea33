"""What a projection is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.events import Event, Recorded
from domain.statements import Statement

Stages = list[list[Statement]]
"""Statements to execute: stage by stage; those of one stage touch different rows and may run in any order, or as one."""


class Projection(Protocol):
    """A read model of the log.

    `name` is its schema-safe name, `version` goes up with any change of `schema` or of what `apply` writes (the tables are then rebuilt at start),
    `schema` is the DDL of `tables`, written without schema names so that it also makes the shadow copies that rebuild and verify fill. `volatile_columns` names
    columns that are not derived from the log (claims): verify ignores them, a swap carries them over.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def schema(self) -> str: ...
    @property
    def tables(self) -> tuple[str, ...]: ...
    @property
    def volatile_columns(self) -> tuple[str, ...]: ...
    @property
    def handles(self) -> frozenset[type[Event]]: ...

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """Statements that bring the tables from before `events` (of one or more logs, each in position order, only handled types) to after them.

        Where a log is cut into runs must make no difference: live batches and the pages of a rebuild cut it differently, and have to give the same rows.
        """
        ...
