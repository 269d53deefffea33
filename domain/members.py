"""Who has a role in which app, in the instance's own log: `member:<app_id>:<user_id>`.

Owners and admins of the instance are app_admin everywhere and are no members. A user who is deleted, and an app that is, takes the memberships along; the
streams of these say nothing of it, because neither ever comes back.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from domain.aggregates import Aggregate
from domain.authz import AppRole
from domain.errors import Invalid
from domain.events import Event
from domain.ids import stream
from domain.users import UserChanged, UserCreated


class MemberAdded(Event, frozen=True, kw_only=True):
    """A user has a role in an app."""

    TOPIC = "members.MemberAdded"
    app_id: UUID
    user_id: UUID
    role: AppRole


class MemberRoleChanged(Event, frozen=True, kw_only=True):
    """A member has another role. `replaces` is the one before."""

    TOPIC = "members.MemberRoleChanged"
    app_id: UUID
    user_id: UUID
    role: AppRole
    replaces: AppRole


class MemberRemoved(Event, frozen=True, kw_only=True):
    """A user has no role in an app any more. `role` is the one that he had."""

    TOPIC = "members.MemberRemoved"
    app_id: UUID
    user_id: UUID
    role: AppRole


def member_stream(app_id: UUID, user_id: UUID) -> str:
    """The stream of a membership, in the nil log."""
    return stream("member", app_id, user_id)


def role_of(last: Event | None) -> AppRole | None:
    """The role that a membership's last event leaves; None when there is no membership."""
    return last.role if isinstance(last, MemberAdded | MemberRoleChanged) else None


def check_candidate(last: Event | None) -> UserCreated | UserChanged:
    """A user, by the last event of his stream, who can have a role in an app. Raises Invalid: unknown, inactive, or with authority in every app already."""
    if not isinstance(last, UserCreated | UserChanged):
        raise Invalid("user_id: there is no such user", code="unknown_user", field="user_id")
    if not last.active:
        raise Invalid("user_id: this user is not active", code="inactive_user", field="user_id")
    if last.instance_role != "member":
        raise Invalid(f"user_id: an {last.instance_role} of the instance is app_admin in every app", code="implicit_authority", field="user_id")
    return last


AGGREGATE: Final = Aggregate(
    kind="member",
    events=(MemberAdded, MemberRoleChanged, MemberRemoved),
    deciders={},
    exists=lambda last, _: role_of(last) is not None,
)
