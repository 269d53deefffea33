"""The projection `users`: who may log in, from the nil log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from domain.events import Event, Recorded
from domain.statements import load_sql
from domain.users import UserChanged, UserCreated, UserDeleted, UserSaved, state_of
from projections.base import Stages
from projections.rows import Life, changed, lives

_SQL: Final = load_sql("projections.control", "users.sql")


class Users:
    """Table `users`; `username_key` is the casefolded name that is unique, `version` that of the user's stream."""

    name = "users"
    version = 2
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("users",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({UserCreated, UserChanged, UserDeleted})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """The last event of each user."""
        return changed(lives(events, UserDeleted), UserDeleted, _row, _SQL["save_users"], _SQL["delete_users"])


def _row(life: Life) -> dict[str, Any]:
    match life.last.event:
        case UserSaved() as event:
            user = state_of(event)
            assert user is not None
            return {
                "user_id": user.id,
                "username": user.username,
                "username_key": user.username.casefold(),
                "email": user.email,
                "instance_role": user.instance_role,
                "active": user.active,
                "credential_id": user.credential_id,
                "session_epoch": user.session_epoch,
                "version": life.last.version,
                "created_at": life.created_at,
            }
        case UserDeleted(user_id=user_id):
            return {"user_id": user_id}
        case _:
            raise TypeError(life.last.event)
