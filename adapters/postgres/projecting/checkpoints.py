"""Checkpoints of followed projections, as rebuilding and verifying them sees them."""

from __future__ import annotations

from typing import Final

import asyncpg

from adapters.postgres.projecting.port import Positions, Projection
from adapters.postgres.projecting.replay import Reading, Replay
from domain.statements import load_sql

SQL: Final = load_sql("adapters.postgres.projecting", "checkpoints.sql")


class FollowedReplay(Replay):
    """Replays one projection, and leaves its checkpoints where it has come to."""

    async def settle(self) -> None:
        """See the base class."""
        (projection,) = self._projections
        await self._connection.execute(SQL["forget"], projection.name)
        await self._connection.execute(SQL["save"], projection.name, list(self.done), list(self.done.values()))


class Empty(FollowedReplay):
    """Replays nothing."""

    def __init__(self, connection: asyncpg.Connection, projection: Projection, reading: Reading) -> None:
        super().__init__(connection, [projection], reading, topics=(), done={})

    async def heads(self) -> Positions:
        """See the base class."""
        return {}


class ToCheckpoints(Replay):
    """Replays one projection as far as its checkpoints, wherever the logs are."""

    def __init__(self, connection: asyncpg.Connection, projection: Projection, reading: Reading) -> None:
        super().__init__(connection, [projection], reading, topics=[event.TOPIC for event in projection.handles], done={})

    async def heads(self) -> Positions:
        """See the base class."""
        (projection,) = self._projections
        return {row["app_id"]: row["position"] for row in await self._connection.fetch(SQL["positions"], projection.name)}
