"""The projection `members`: who has a role in which app, from the nil log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from domain.apps import AppDeleted
from domain.events import Event, Recorded
from domain.members import MemberAdded, MemberRemoved, MemberRoleChanged
from domain.statements import load_sql
from domain.users import UserDeleted
from projections.base import Stages
from projections.control.belongings import Belongings

_SQL: Final = load_sql("projections.control", "members.sql")


class Members:
    """Table `members`, without those of users and apps that are gone; inactive users keep theirs for when they are active again. `version` is the stream's."""

    name = "members"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("members",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({MemberAdded, MemberRoleChanged, MemberRemoved, UserDeleted, AppDeleted})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """Fold the events in order."""
        members = Belongings("app_id", "user_id")
        for recorded in events:
            match recorded.event:
                case MemberAdded(app_id=app_id, user_id=user_id, role=role) | MemberRoleChanged(app_id=app_id, user_id=user_id, role=role):
                    row = {"app_id": app_id, "user_id": user_id, "role": role, "version": recorded.version, "created_at": recorded.recorded_at}
                    members.save(row)
                case MemberRemoved(app_id=app_id, user_id=user_id):
                    members.end({"app_id": app_id, "user_id": user_id})
                case UserDeleted(user_id=user_id):
                    members.end_all("user_id", user_id)
                case AppDeleted(app_id=app_id):
                    members.end_all("app_id", app_id)
        return members.stages(_SQL)
