"""`/admins`: the users of the instance, and their sessions as admins see them."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from litestar import Router, delete, get, patch, post
from litestar.params import JSONBody

from domain.authz import Capability
from domain.cursors import decode, encode, parse_limit
from domain.users import InstanceRole
from projections.control.user_reads import StoredUser
from runtime.admin.users import Manager, NewUser, UserChange
from web.admin.call import AdminCall, Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment
from web.admin.services import sessions_of, users_of
from web.admin.sessions import Session, session_page
from web.pages import Page, page
from web.paths import id_segment


class Admin(msgspec.Struct, frozen=True, kw_only=True):
    """A user of the instance, whatever his role."""

    id: UUID
    username: str
    email: str | None
    instance_role: InstanceRole
    active: bool
    created_at: datetime


@get("/admins", opt=needs(Capability.USERS_MANAGE))
async def list_users(call: Call, limit: Query = None, cursor: Query = None) -> Page[Admin]:
    """Users in the order of their creation."""
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "admins", (UUID,))
    return page([_admin(user) for user in await users_of(call).page(after, size + 1)], size, lambda admin: encode("admins", admin.id))


@post("/admins", opt=needs(Capability.USERS_MANAGE))
async def create_user(call: Call, data: JSONBody[NewUser]) -> Admin:
    """Make a user. 409 `username_taken`; 422 `cannot_escalate` for a role above the caller's."""
    return _admin(await users_of(call).create(data, _manager(call), call.acting))


@get("/admins/{user_id:str}", opt=needs(Capability.USERS_MANAGE))
async def read_user(call: Call, user_id: Segment) -> Admin:
    """One user."""
    return _admin(await users_of(call).get(id_segment(user_id, "user")))


@patch("/admins/{user_id:str}", opt=needs(Capability.USERS_MANAGE))
async def update_user(call: Call, user_id: Segment, data: JSONBody[UserChange]) -> Admin:
    """Change a user: what is absent stays, a null email is cleared. Deactivation and a new password end his sessions.

    403 `above_you` for a user above the caller; 409 `username_taken`, `last_owner`; 422 `cannot_escalate`, and `own_password` for the caller's own.
    """
    return _admin(await users_of(call).change(id_segment(user_id, "user"), data, _manager(call), call.acting))


@delete("/admins/{user_id:str}", opt=needs(Capability.USERS_MANAGE))
async def delete_user(call: Call, user_id: Segment) -> None:
    """Remove a user. 403 `above_you`; 409 `last_owner`."""
    await users_of(call).delete(id_segment(user_id, "user"), _manager(call), call.acting)


@get("/admins/{user_id:str}/sessions", operation_id="list_user_sessions", opt=needs(Capability.USERS_MANAGE))
async def list_sessions(call: Call, user_id: Segment, limit: Query = None, cursor: Query = None) -> Page[Session]:
    """A user's sessions, newest first. 403 `above_you`."""
    user = await users_of(call).reach(_manager(call), id_segment(user_id, "user"))
    return await session_page(call, user.id, limit, cursor)


@delete("/admins/{user_id:str}/sessions", operation_id="revoke_user_sessions", opt=needs(Capability.USERS_MANAGE))
async def revoke_sessions(call: Call, user_id: Segment) -> None:
    """End all sessions of a user. 403 `above_you`."""
    user = await users_of(call).reach(_manager(call), id_segment(user_id, "user"))
    await sessions_of(call).revoke_others(user.id, None, call.acting)


def _manager(call: AdminCall) -> Manager:
    return Manager(user_id=call.identity.user.id, session_epoch=call.identity.session_epoch)


def _admin(user: StoredUser) -> Admin:
    state = user.state
    return Admin(
        id=state.id,
        username=state.username,
        email=state.email,
        instance_role=state.instance_role,
        active=state.active,
        created_at=user.created_at,
    )


router: Final = Router(
    path="/",
    route_handlers=[list_users, create_user, read_user, update_user, delete_user, list_sessions, revoke_sessions],
    tags=["admins"],
)
