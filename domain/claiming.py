"""Rows of the outbox that are born claimed: who appends an event and can run what it causes takes the row in the very commit that adds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from domain.events import Event, Recorded
from domain.executions import Task
from domain.ids import NIL_APP
from domain.statements import Statement

Rooms = Mapping[UUID, int]
"""How many rows of each app."""

NOBODY: Final[tuple[list[Any], ...]] = ([NIL_APP], [None], [0])
"""The last arguments of a claimable statement whose rows nobody takes: apps, workers and how many rows; one of each, as there mostly are."""


class Born(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was added claimed, under the fence `token`. `cause` is None where it is an older event than the commit's; `before` is as in its stream."""

    app_id: UUID
    task: Task
    token: int
    due_at: datetime
    cause: Recorded | None
    before: Event | None


class Claimant(Protocol):
    """Who may take rows at birth. What it has offered is kept free until `take` or `lost` is called, exactly one of them and once."""

    @property
    def worker_id(self) -> UUID: ...

    def offer(self, app_ids: Iterable[UUID]) -> Rooms:
        """How many rows of each app it would take; apps that it takes none of are missing."""
        ...

    def take(self, offered: Rooms, born: Sequence[Born]) -> None:
        """These were taken; none when the commit did not happen."""
        ...

    def lost(self, offered: Rooms) -> None:
        """Nobody knows which were taken."""
        ...


class Nobody:
    """Takes nothing."""

    worker_id = NIL_APP

    def offer(self, app_ids: Iterable[UUID]) -> Rooms:
        """Nothing."""
        del app_ids
        return {}

    def take(self, offered: Rooms, born: Sequence[Born]) -> None:
        """Nothing was offered."""

    def lost(self, offered: Rooms) -> None:
        """Nothing was offered."""


def claimed_by(statement: Statement, worker_id: UUID, rooms: Rooms) -> Statement:
    """A claimable statement with somebody to take its rows."""
    claim = (list(rooms), [worker_id] * len(rooms), list(rooms.values()))
    return msgspec.structs.replace(statement, args=(*statement.args[: -len(NOBODY)], *claim))
