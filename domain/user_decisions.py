"""What may happen to users, decided on what was read of them at one moment. Pure; the log refuses the outcome if any of it has changed since.

Every decision reads the stream of whoever makes it at the version that says what he may do, and changes its user at an exact version. Every change of the
set of active owners moves the guard of that set at an exact version, so that of two which are each valid alone only one happens.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from domain.authz import Capability, Principal, authorize
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from domain.ids import stream_parts
from domain.names import claim_name, move_guard, name_stream, release_name
from domain.units import ABSENT, Change, Read, Record
from domain.users import OWNERS_GUARD, USER_NAME, InstanceRole, UserChanged, UserCreated, UserDeleted, UserState, is_above, user_stream

MISSING: Final = "there is no such user"


class Held(msgspec.Struct, frozen=True):
    """A user and the version of his stream."""

    state: UserState
    version: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is true at one moment. `actor` decides, None where the system does; `target` is whom it is about, None when there is no such user.

    `guard` is the version of the owners' guard, `other_owners` how many active owners there are beside the target.
    """

    actor: Held | None
    target: Held | None
    guard: int
    other_owners: int


class UserPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What of a user changes. A `credential_id` is that of a new password."""

    username: str | msgspec.UnsetType = msgspec.UNSET
    email: str | msgspec.UnsetType | None = msgspec.UNSET
    instance_role: InstanceRole | msgspec.UnsetType = msgspec.UNSET
    active: bool | msgspec.UnsetType = msgspec.UNSET
    credential_id: UUID | msgspec.UnsetType = msgspec.UNSET


class Decided(msgspec.Struct, frozen=True):
    """What to append, and what must still hold then. No changes: nothing is to be done. `after` is the user then, None when he is gone."""

    changes: tuple[Change, ...]
    reads: tuple[Read, ...]
    after: UserState | None


def require_manager(actor: UserState | None) -> None:
    """Return for whoever may manage users. Raises Unauthenticated for who may not log in any more, Forbidden."""
    if actor is None or not actor.active:
        raise Unauthenticated
    authorize(Principal(kind="user", id=actor.id, name=actor.username, instance_role=actor.instance_role), Capability.USERS_MANAGE, None)


def decide_creation(standing: Standing, user: UserState) -> Decided:
    """Make a user of a free name. Raises Invalid `cannot_escalate`, Unauthenticated, Forbidden."""
    if standing.actor is not None:
        require_manager(standing.actor.state)
        _check_grant(standing.actor.state, user.instance_role)
    created = UserCreated(**_fields(user))
    changes = [claim_name(USER_NAME, user.username, user.id), Change(Record(name=user_stream(user.id), event=created), ABSENT)]
    if user.is_active_owner:
        changes.append(move_guard(OWNERS_GUARD, standing.guard))
    return Decided(tuple(changes), _reads(standing), user)


def decide_change(standing: Standing, patch: UserPatch) -> Decided:
    """Change a user. Raises NotFound, Unauthenticated, Forbidden, Invalid `cannot_escalate`, Conflict `last_owner`.

    Deactivation and a new password raise his session epoch.
    """
    target = _target(standing)
    before = target.state
    given = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not msgspec.UNSET}
    after = msgspec.structs.replace(before, **given)
    if standing.actor is not None and after.instance_role != before.instance_role:
        _check_grant(standing.actor.state, after.instance_role)
    if after == before:
        return Decided((), (), before)
    if (before.active and not after.active) or after.credential_id != before.credential_id:
        after = msgspec.structs.replace(after, session_epoch=before.session_epoch + 1)
    changes = [
        *_renaming(before, after.username),
        Change(Record(name=user_stream(before.id), event=UserChanged(**_fields(after))), target.version),
        *_owners(standing, before, is_owner=after.is_active_owner),
    ]
    return Decided(tuple(changes), _reads(standing), after)


def decide_deletion(standing: Standing) -> Decided:
    """Remove a user. Raises NotFound, Unauthenticated, Forbidden, Conflict `last_owner`."""
    target = _target(standing)
    user = target.state
    changes = [
        release_name(USER_NAME, user.username, user.id),
        Change(Record(name=user_stream(user.id), event=UserDeleted(user_id=user.id, username=user.username)), target.version),
        *_owners(standing, user, is_owner=False),
    ]
    return Decided(tuple(changes), _reads(standing), None)


def decide_own_password(user: Held, credential_id: UUID) -> Decided:
    """Give a user another password, which he has asked for by the one before. Raises Unauthenticated for who may not log in any more."""
    if not user.state.active:
        raise Unauthenticated
    after = msgspec.structs.replace(user.state, credential_id=credential_id, session_epoch=user.state.session_epoch + 1)
    return Decided((Change(Record(name=user_stream(after.id), event=UserChanged(**_fields(after))), user.version),), (), after)


def check_reach(actor: UserState, target: UserState) -> None:
    """Return when a user may see into another's sessions and change him: nobody may reset the password of somebody above him. Raises Forbidden."""
    if is_above(target.instance_role, actor.instance_role):
        raise Forbidden(f"{target.username} is {target.instance_role}, you are {actor.instance_role}", code="above_you")


def is_name_of_user(stream: str) -> bool:
    """Whether a stream is that of a user name."""
    return stream_parts(stream)[:2] == ("name", USER_NAME)


def _target(standing: Standing) -> Held:
    """Whom a change is about, once it is known that the actor may change him."""
    if standing.actor is not None:
        require_manager(standing.actor.state)
    if standing.target is None:
        raise NotFound(MISSING)
    if standing.actor is not None:
        check_reach(standing.actor.state, standing.target.state)
    return standing.target


def _check_grant(actor: UserState, role: InstanceRole) -> None:
    if is_above(role, actor.instance_role):
        raise Invalid(f"instance_role: you are {actor.instance_role} and cannot make anybody {role}", code="cannot_escalate", field="instance_role")


def _renaming(before: UserState, username: str) -> list[Change]:
    """Names that differ in letter case alone are the same name, which he has already."""
    if name_stream(USER_NAME, before.username) == name_stream(USER_NAME, username):
        return []
    return [claim_name(USER_NAME, username, before.id), release_name(USER_NAME, before.username, before.id)]


def _owners(standing: Standing, before: UserState, *, is_owner: bool) -> list[Change]:
    """The guard's move, if the set of active owners changes."""
    if before.is_active_owner == is_owner:
        return []
    if before.is_active_owner and not standing.other_owners:
        raise Conflict(f"{before.username} is the last active owner: make somebody else an owner first", code="last_owner")
    return [move_guard(OWNERS_GUARD, standing.guard)]


def _reads(standing: Standing) -> tuple[Read, ...]:
    return () if standing.actor is None else (Read(user_stream(standing.actor.state.id), standing.actor.version),)


def _fields(user: UserState) -> dict[str, Any]:
    fields = msgspec.structs.asdict(user)
    return {"user_id": fields.pop("id"), **fields}
