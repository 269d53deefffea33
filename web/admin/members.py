"""`/apps/{app}/members`: who has which role in an app. Owners and admins of the instance are app_admin everywhere and do not stand in these lists."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec
from litestar import Router, delete, get, patch, post
from litestar.params import JSONBody

from domain.authz import AppRole, Capability, refuse_escalation
from domain.cursors import decode, encode, parse_limit
from projections.control.member_reads import Member
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment
from web.admin.services import members_of
from web.pages import Page, page
from web.paths import id_segment


class AddMember(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user and the role that he is given."""

    user_id: UUID
    role: AppRole


class ChangeMember(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The role that a member is given instead."""

    role: AppRole


@get("/apps/{app:str}/members", opt=needs(Capability.MEMBERS_MANAGE))
async def list_members(call: Call, app: Segment, limit: Query = None, cursor: Query = None) -> Page[Member]:
    """The members of an app by user id, inactive ones too."""
    found = await call.app(app)
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "members", (UUID,))
    return page(await members_of(call).page(found.app_id, after, size + 1), size, lambda member: encode("members", member.user_id))


@post("/apps/{app:str}/members", opt=needs(Capability.MEMBERS_MANAGE))
async def add_member(call: Call, app: Segment, data: JSONBody[AddMember]) -> Member:
    """Give a user a role. 409 `already_member`; 422 `unknown_user`, `inactive_user`, `implicit_authority` for owners and admins, `cannot_escalate`."""
    found = await call.app(app)
    refuse_escalation(call.principal, data.role, found.app_id)
    return await members_of(call).add(found.app_id, data.user_id, data.role, call.acting)


@patch("/apps/{app:str}/members/{user:str}", opt=needs(Capability.MEMBERS_MANAGE))
async def change_member(call: Call, app: Segment, user: Segment, data: JSONBody[ChangeMember]) -> Member:
    """Give a member another role. 404 `member_not_found`; 422 as for a new member."""
    found = await call.app(app)
    refuse_escalation(call.principal, data.role, found.app_id)
    return await members_of(call).change(found.app_id, id_segment(user, "member"), data.role, call.acting)


@delete("/apps/{app:str}/members/{user:str}", opt=needs(Capability.MEMBERS_MANAGE))
async def remove_member(call: Call, app: Segment, user: Segment) -> None:
    """Take a member's role away; also 204 for a user who has none."""
    found = await call.app(app)
    await members_of(call).remove(found.app_id, id_segment(user, "member"), call.acting)


router: Final = Router(path="/", route_handlers=[list_members, add_member, change_member, remove_member], tags=["members"])
