"""Principals as the instance's read models tell of them, and what of the instance's log their rights rest on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.api_keys import api_key_stream
from domain.authz import AppRole, Grounds, Principal
from domain.members import member_stream
from domain.units import Read
from domain.users import user_stream


class _Membership(msgspec.Struct, frozen=True, array_like=True):
    role: AppRole
    version: int


_MEMBERSHIPS: Final = msgspec.json.Decoder(dict[UUID, _Membership])


def user_principal(row: Mapping[str, Any]) -> Principal:
    """The principal of a row with `user_id`, `username`, `instance_role`, `user_version` and `memberships`: None, or JSON text `{app_id: [role, version]}`."""
    memberships = _MEMBERSHIPS.decode(row["memberships"] or "{}")
    return Principal(
        kind="user",
        id=row["user_id"],
        name=row["username"],
        instance_role=row["instance_role"],
        app_roles={app_id: membership.role for app_id, membership in memberships.items()},
        grounds=Grounds(
            user_id=row["user_id"],
            user=row["user_version"],
            members={app_id: membership.version for app_id, membership in memberships.items()},
        ),
    )


def key_principal(row: Mapping[str, Any]) -> Principal:
    """The principal of a row as for `user_principal`, of the key's owner, with the key's `key_id`, `key_name`, `key_version`, `scopes` and `app_id`."""
    owner = user_principal(row)
    assert owner.grounds is not None
    return msgspec.structs.replace(
        owner,
        kind="key",
        id=row["key_id"],
        name=row["key_name"],
        scopes=frozenset(row["scopes"]),
        bound_app=row["app_id"],
        grounds=msgspec.structs.replace(owner.grounds, key=row["key_version"]),
    )


def authority(principal: Principal, *apps: UUID) -> tuple[Read, ...]:
    """What must still hold in the instance's log for a principal to have the rights by which he was authorised, in the instance and in these apps.

    In the read set of a unit of that log it makes him lose against whoever has taken them from him meanwhile.
    """
    grounds = principal.grounds
    if grounds is None:
        return ()
    reads = [Read(user_stream(grounds.user_id), grounds.user)]
    if grounds.key and principal.id is not None:
        reads.append(Read(api_key_stream(principal.id), grounds.key))
    reads.extend(Read(member_stream(app_id, grounds.user_id), grounds.members[app_id]) for app_id in apps if app_id in grounds.members)
    return tuple(reads)
