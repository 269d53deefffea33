"""The projection `secrets`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from domain.events import Event, Recorded
from domain.secrets import SecretDeleted, SecretSet
from domain.statements import load_sql
from projections.base import Stages
from projections.rows import changes

_SQL: Final = load_sql("projections.secrets", "statements.sql")


class SecretNames:
    """One row for each secret. Which key its value is encrypted with does not matter here."""

    name = "secrets"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("secrets",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({SecretSet, SecretDeleted})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """The last event of each secret."""
        last = {(recorded.app_id, recorded.stream): recorded for recorded in events}.values()
        saved = [_row(recorded, recorded.event) for recorded in last if isinstance(recorded.event, SecretSet)]
        gone = [{"app_id": recorded.app_id, "name": recorded.event.name} for recorded in last if isinstance(recorded.event, SecretDeleted)]
        return [changes(_SQL["save"], saved, _SQL["delete"], gone)]


def _row(recorded: Recorded, event: SecretSet) -> dict[str, Any]:
    return {
        "app_id": recorded.app_id,
        "name": event.name,
        "value_id": event.value_id,
        "version": recorded.version,
        "updated_at": recorded.recorded_at,
    }
