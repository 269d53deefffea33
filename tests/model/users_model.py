"""Users as a plain table, and what each operation on them may come to: what the machine of `test_users_model.py` holds the log to."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from domain.users import InstanceRole, UserState

RANK: Final[dict[InstanceRole, int]] = {"member": 1, "admin": 2, "owner": 3}

Table = dict[UUID, UserState]
"""Users by id; never changed, only replaced."""


class Op(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody does. `actor` and `target` are as they were when it began: what has changed since may let it fail.

    `kind` is `create` (of the name and role in `given`), `change` (`given` is what changes, `password` a new one), `delete`, `log_in` and `own_password`.
    """

    number: int
    kind: str
    actor: UserState
    target: UserState
    given: dict[str, Any] = {}
    password: bool = False


def causes(op: Op, table: Table) -> set[str]:
    """Everything that stands against an operation; empty when it is allowed."""
    if op.kind in {"log_in", "own_password"}:
        return _against_oneself(op, table)
    actor = table.get(op.actor.id)
    if actor is None or not actor.active or actor.session_epoch != op.actor.session_epoch:
        return {"unauthenticated", *_against_target(op, table, op.actor)}
    found = _against_target(op, table, actor)
    return found | {"forbidden"} if actor.instance_role == "member" else found


def after(op: Op, table: Table, user_id: UUID, credential_id: UUID) -> Table:
    """The table when an operation has happened. Ids that the host chooses are told."""
    if op.kind == "log_in":
        return table
    if op.kind == "create":
        fields = {"email": None, "active": True, **op.given}
        return {**table, user_id: UserState(id=user_id, credential_id=credential_id, session_epoch=0, **fields)}
    if op.kind == "delete":
        return {key: user for key, user in table.items() if key != op.target.id}
    before = table[op.target.id]
    user = msgspec.structs.replace(before, **op.given)
    ends = (before.active and not user.active) or op.password
    if op.password:
        user = msgspec.structs.replace(user, credential_id=credential_id)
    return {**table, user.id: msgspec.structs.replace(user, session_epoch=before.session_epoch + ends)}


def owners(table: Table) -> int:
    """How many active owners there are."""
    return sum(user.active and user.instance_role == "owner" for user in table.values())


def _against_oneself(op: Op, table: Table) -> set[str]:
    user = table.get(op.target.id)
    if user is not None and user.active and user.credential_id == op.target.credential_id:
        return set() if op.kind == "log_in" or user.session_epoch == op.target.session_epoch else {"unauthenticated"}
    return {"wrong_credentials"} if op.kind == "log_in" else {"unauthenticated", "wrong_password"}


def _against_target(op: Op, table: Table, actor: UserState) -> set[str]:
    found = set()
    target = table.get(op.target.id)
    if op.kind != "create":
        if target is None:
            return {"not_found"}
        if RANK[target.instance_role] > RANK[actor.instance_role]:
            found.add("above_you")
    role = op.given.get("instance_role")
    if role is not None and RANK[role] > RANK[actor.instance_role] and (op.kind == "create" or target is None or target.instance_role != role):
        found.add("cannot_escalate")
    name = op.given.get("username")
    if name is not None and any(user.username.casefold() == name.casefold() and (op.kind == "create" or user.id != op.target.id) for user in table.values()):
        found.add("username_taken")
    if op.kind != "create" and not owners(after(op, table, op.target.id, op.target.credential_id)):
        found.add("last_owner")
    return found
