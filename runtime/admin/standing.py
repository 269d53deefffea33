"""All that a change of users is decided on, read at one moment."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from domain.ids import NIL_APP
from domain.names import guard_stream
from domain.ports import Reader
from domain.statements import load_sql
from domain.user_decisions import Held, Standing
from domain.users import OWNERS_GUARD
from projections.control.user_reads import state_from

_SQL: Final = load_sql("runtime.admin", "standing.sql")


async def read_standing(reader: Reader, actor_id: UUID | None, target_id: UUID | None) -> Standing | None:
    """What is true of an actor (None: the system), a target and the owners; None when the actor is gone."""
    rows = await reader.fetch(_SQL["together"], actor_id, target_id, NIL_APP, guard_stream(OWNERS_GUARD))
    found = {row["user_id"]: Held(state_from(row), row["version"]) for row in rows if row["user_id"] is not None}
    if actor_id is not None and actor_id not in found:
        return None
    return Standing(
        actor=None if actor_id is None else found[actor_id],
        target=None if target_id is None else found.get(target_id),
        guard=rows[0]["guard"],
        other_owners=rows[0]["other_owners"],
    )
