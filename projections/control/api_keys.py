"""The projection `api_keys`: the keys that have not ended, from the nil log. Their hashes are in the vault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from domain.api_keys import ApiKeyCreated, ApiKeyRevoked
from domain.apps import AppDeleted
from domain.events import Event, Recorded
from domain.statements import load_sql
from domain.users import UserChanged, UserDeleted
from projections.base import Stages
from projections.control.belongings import Belongings

_SQL: Final = load_sql("projections.control", "api_keys.sql")


class ApiKeys:
    """Table `api_keys`. A key goes with its owner's deactivation, so it does not come back with his activation; an expired one stays, as its time tells."""

    name = "api_keys"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("api_keys",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({ApiKeyCreated, ApiKeyRevoked, UserChanged, UserDeleted, AppDeleted})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """Fold the events in order."""
        keys = Belongings("key_id")
        for recorded in events:
            match recorded.event:
                case ApiKeyCreated() as created:
                    keys.save(_row(created, recorded))
                case ApiKeyRevoked(key_id=key_id):
                    keys.end({"key_id": key_id})
                case UserChanged(user_id=user_id, active=False) | UserDeleted(user_id=user_id):
                    keys.end_all("user_id", user_id)
                case AppDeleted(app_id=app_id):
                    keys.end_all("app_id", app_id)
        return keys.stages(_SQL)


def _row(created: ApiKeyCreated, recorded: Recorded) -> dict[str, Any]:
    return {
        "key_id": created.key_id,
        "user_id": created.user_id,
        "name": created.name,
        "prefix": created.prefix,
        "scopes": created.scopes,
        "app_id": created.app_id,
        "expires_at": created.expires_at,
        "version": recorded.version,
        "created_at": recorded.recorded_at,
    }
