"""The principal behind an actor, as of now."""

from __future__ import annotations

from typing import Final

from domain.authz import SYSTEM, Principal
from domain.ids import parse_uuid
from domain.ports import Reader
from domain.principals import key_principal, user_principal
from domain.statements import load_sql

_SQL: Final = load_sql("projections.control", "principals.sql")
_MAKERS: Final = {"user": user_principal, "key": key_principal}


async def principal_of_actor(reader: Reader, actor: str) -> Principal | None:
    """Who stands behind `user:<id>`, `key:<id>` or `system`; None when nobody does: `public`, a user who is gone or inactive, a key that has ended."""
    if actor == SYSTEM.actor:
        return SYSTEM
    kind, _, identifier = actor.partition(":")
    actor_id = parse_uuid(identifier)
    if kind not in _MAKERS or actor_id is None:
        return None
    rows = await reader.fetch(_SQL[kind], actor_id)
    return _MAKERS[kind](rows[0]) if rows else None
