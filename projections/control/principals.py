"""The principal behind an actor, as of now."""

from __future__ import annotations

from typing import Final

from domain.authz import SYSTEM, Principal
from domain.ids import parse_uuid
from domain.ports import Reader
from domain.statements import load_sql

_SQL: Final = load_sql("projections.control", "principals.sql")


async def principal_of_actor(reader: Reader, actor: str) -> Principal | None:
    """Who stands behind `user:<id>` or `system`; None when nobody does: `public`, a user who is gone or inactive."""
    if actor == SYSTEM.actor:
        return SYSTEM
    kind, _, identifier = actor.partition(":")
    user_id = parse_uuid(identifier)
    if kind != "user" or user_id is None:
        return None
    rows = await reader.fetch(_SQL["active_user"], user_id)
    if not rows:
        return None
    return Principal(kind="user", id=user_id, name=rows[0]["username"], instance_role=rows[0]["instance_role"])
