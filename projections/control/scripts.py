"""The projection `scripts`: the newest of each script, and every source it ever had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from domain.events import Event, Recorded
from domain.scripts import ScriptDeleted, ScriptSaved
from domain.statements import Statement, load_sql
from projections.base import Stages
from projections.rows import changes, rows

_SQL: Final = load_sql("projections.control", "scripts.sql")


class Scripts:
    """Tables `scripts` and `script_versions`; versions outlive their script."""

    name = "scripts"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("scripts", "script_versions")
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({ScriptSaved, ScriptDeleted})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """The last event of each script, and the first event of each source version."""
        last = {(recorded.app_id, recorded.stream): recorded for recorded in events}.values()
        saved = [_script(recorded, recorded.event) for recorded in last if isinstance(recorded.event, ScriptSaved)]
        gone = [{"app_id": recorded.app_id, "script_id": recorded.event.script_id} for recorded in last if isinstance(recorded.event, ScriptDeleted)]
        statements = changes(_SQL["save_scripts"], saved, _SQL["delete_scripts"], gone)
        versions = [_version(recorded, recorded.event) for recorded in events if isinstance(recorded.event, ScriptSaved)]
        if versions:
            statements.append(Statement(_SQL["save_versions"], (rows(versions),)))
        return [statements]


def _script(recorded: Recorded, script: ScriptSaved) -> dict[str, Any]:
    return {
        "app_id": recorded.app_id,
        "script_id": script.script_id,
        "name": script.name,
        "kind": script.kind,
        "source": script.source,
        "source_version": script.source_version,
        "timeout_s": script.timeout_s,
        "limits": script.limits,
        "version": recorded.version,
        "updated_at": recorded.recorded_at,
    }


def _version(recorded: Recorded, script: ScriptSaved) -> dict[str, Any]:
    return {
        "app_id": recorded.app_id,
        "script_id": script.script_id,
        "source_version": script.source_version,
        "source": script.source,
        "position": recorded.position,
        "created_at": recorded.recorded_at,
    }
