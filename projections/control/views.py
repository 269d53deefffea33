"""What dispatch needs of the control tables, read whole: the hosts of all apps, and the scripts and routes of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.app_settings import AppSettings, InstanceSettings
from domain.bounds import UNBOUNDED, Bounds, effective
from domain.hosts import DomainTable
from domain.ports import Reader
from domain.routing import Route, RouteTable
from domain.sandbox import Limits, ScriptKind
from domain.statements import load_sql
from projections.settings.reads import read_app_settings

_SQL: Final = load_sql("projections.control", "views.sql")


class ScriptView(msgspec.Struct, frozen=True, kw_only=True):
    """A script as it would run now."""

    id: UUID
    name: str
    kind: ScriptKind
    source: str
    version: int
    timeout_s: float
    limits: Limits


class AppView(msgspec.Struct, frozen=True, kw_only=True):
    """What one app would run now: its scripts by id, its modules' sources by name, its routes compiled; and its settings, with the bounds that hold for it."""

    app_id: UUID
    scripts: dict[UUID, ScriptView]
    modules: dict[str, ScriptView]
    routes: RouteTable
    settings: AppSettings = AppSettings()
    bounds: Bounds = UNBOUNDED


async def read_hosts(reader: Reader) -> DomainTable:
    """Every app's `<slug>.localhost`, those of its old slugs, and the hosts it claims."""
    rows = await reader.fetch(_SQL["hosts"])
    claims = {row["pattern"]: row["app_id"] for row in rows if row["pattern"] is not None}
    old_slugs = {old: row["slug"] for row in rows for old in row["old_slugs"]}
    return DomainTable.compile(claims, {row["slug"]: row["app_id"] for row in rows}, old_slugs)


async def read_app(reader: Reader, app_id: UUID, instance: InstanceSettings) -> AppView:
    """An app's scripts, routes and settings. Of an unknown app: none."""
    scripts = [_script(row) for row in await reader.fetch(_SQL["scripts"], app_id)]
    routes = [msgspec.json.decode(row["route"], type=Route) for row in await reader.fetch(_SQL["routes"], app_id)]
    settings = (await read_app_settings(reader, app_id)).settings
    return AppView(
        app_id=app_id,
        scripts={script.id: script for script in scripts},
        modules={script.name: script for script in scripts if script.kind == "module"},
        routes=RouteTable.compile(routes),
        settings=settings,
        bounds=effective(settings.bounds, instance.defaults, instance.ceilings),
    )


async def app_of_script(reader: Reader, script_id: UUID) -> UUID | None:
    """The app that a script belongs to."""
    rows = await reader.fetch(_SQL["app_of_script"], script_id)
    return rows[0]["app_id"] if rows else None


def _script(row: Mapping[str, Any]) -> ScriptView:
    return ScriptView(
        id=row["script_id"],
        name=row["name"],
        kind=row["kind"],
        source=row["source"],
        version=row["source_version"],
        timeout_s=row["timeout_s"],
        limits=msgspec.json.decode(row["limits"], type=Limits),
    )
