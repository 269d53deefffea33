"""The projection `settings`: one row for each app that has any, and the instance's under the nil id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from domain.app_settings import AppSettingsChanged, InstanceSettingsChanged
from domain.events import Event, Recorded
from domain.statements import Statement, load_sql
from projections.base import Stages
from projections.rows import rows

_SQL: Final = load_sql("projections.settings", "settings.sql")


class Settings:
    """Table `settings`."""

    name = "settings"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("settings",)
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({AppSettingsChanged, InstanceSettingsChanged})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """The last settings of each log."""
        last = {recorded.app_id: _row(recorded) for recorded in events}
        return [[Statement(_SQL["save"], (rows(list(last.values())),))]] if last else []


def _row(recorded: Recorded) -> dict[str, Any]:
    assert isinstance(recorded.event, AppSettingsChanged | InstanceSettingsChanged)
    return {"app_id": recorded.app_id, "settings": recorded.event.settings, "version": recorded.version, "updated_at": recorded.recorded_at}
