"""`/scripts`: create, read, change, delete, check; their versions and logs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from litestar import Router, delete, get, post, put
from litestar.params import JSONBody

from domain.authz import Capability
from domain.cursors import decode, encode, parse_limit
from domain.errors import NotFound
from domain.sandbox import Diagnostic, Limits, ScriptKind
from projections.control.reads import SourceVersion, StoredScript
from runtime.admin.executions import Run
from runtime.admin.script_drafts import LimitsChange, ScriptChange
from web.admin.call import Call
from web.admin.found import find_script, visible_apps
from web.admin.needs import needs
from web.admin.parameters import Query, Segment
from web.admin.services import executions_of, scripts_of
from web.pages import Page, page

_MAX_VERSION_DIGITS: Final = 9


class CreateScript(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new script. `app_id` takes an id or a slug."""

    app_id: str
    name: str
    source: str
    kind: ScriptKind = "endpoint"
    timeout_seconds: float | msgspec.UnsetType = msgspec.UNSET
    limits: LimitsChange | msgspec.UnsetType = msgspec.UNSET


class CheckScript(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source to be checked as if it were saved. `name`, if given, is a module's own name, so that it is checked in place of what is stored under it."""

    app_id: str
    source: str
    kind: ScriptKind = "endpoint"
    name: str | None = None


class ScriptSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A script as lists show it. `version` counts its sources."""

    id: UUID
    app_id: UUID
    name: str
    kind: ScriptKind
    version: int
    timeout_seconds: float
    limits: Limits
    created_at: datetime
    updated_at: datetime


class Script(ScriptSummary, frozen=True, kw_only=True):
    """A script."""

    source: str


class SourceSummary(msgspec.Struct, frozen=True):
    """One of a script's sources, since `position` in its app's log."""

    version: int
    position: int
    created_at: datetime


class Findings(msgspec.Struct, frozen=True):
    """What a check found, in the order of the lines."""

    diagnostics: list[Diagnostic]


@get("/scripts", opt=needs(Capability.SCRIPTS_READ))
async def list_scripts(call: Call, app: Query = None, limit: Query = None, cursor: Query = None) -> Page[ScriptSummary]:
    """Scripts of one app, or of all that the caller sees, in the order of their creation; without their sources."""
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "scripts", (UUID,))
    app_ids = visible_apps(call) if app is None else [(await call.app(app)).app_id]
    found = await scripts_of(call).page(app_ids, after, size + 1)
    return page([_summary(script) for script in found], size, lambda script: encode("scripts", script.id))


@post("/scripts", opt=needs(Capability.SCRIPTS_WRITE))
async def create_script(call: Call, data: JSONBody[CreateScript]) -> Script:
    """Store a new script. 422 `script_invalid` with `diagnostics` when its source does not compile or type-check; 409 `duplicate_name`."""
    app = await call.app(data.app_id)
    wanted = ScriptChange(name=data.name, source=data.source, kind=data.kind, timeout_seconds=data.timeout_seconds, limits=data.limits)
    return _script(await scripts_of(call).create(app.app_id, wanted, call.acting))


@post("/scripts:check", status_code=200, opt=needs(Capability.SCRIPTS_READ))
async def check_script(call: Call, data: JSONBody[CheckScript]) -> Findings:
    """Compile and type-check a source; nothing is stored or executed."""
    app = await call.app(data.app_id)
    return Findings(await scripts_of(call).check(app.app_id, data.kind, data.source, data.name))


@get("/scripts/{script:str}", opt=needs(Capability.SCRIPTS_READ))
async def read_script(call: Call, script: Segment) -> Script:
    """One script."""
    app_id, script_id = await find_script(call, script)
    return _script(await scripts_of(call).get(app_id, script_id))


@put("/scripts/{script:str}", opt=needs(Capability.SCRIPTS_WRITE))
async def update_script(call: Call, script: Segment, data: JSONBody[ScriptChange]) -> Script:
    """Change a script; fields that are left out stay as they are.

    A module that others import keeps its name and kind (409 `imported`), and its new source must not break them (409 `breaks_importers`, with what is found
    in each).
    """
    app_id, script_id = await find_script(call, script)
    return _script(await scripts_of(call).update(app_id, script_id, data, call.acting))


@delete("/scripts/{script:str}", opt=needs(Capability.SCRIPTS_DELETE))
async def delete_script(call: Call, script: Segment) -> None:
    """Delete a script with its routes and triggers. 409 `imported` while other scripts import it."""
    app_id, script_id = await find_script(call, script)
    await scripts_of(call).delete(app_id, script_id, call.acting)


@get("/scripts/{script:str}/versions", opt=needs(Capability.SCRIPTS_READ))
async def list_script_versions(call: Call, script: Segment, limit: Query = None, cursor: Query = None) -> Page[SourceSummary]:
    """A script's source versions, newest first; without the sources."""
    app_id, script_id = await find_script(call, script)
    size = parse_limit(limit)
    (before,) = (None,) if cursor is None else decode(cursor, "script_versions", (int,))
    found = await scripts_of(call).versions(app_id, script_id, before, size + 1)
    items = [SourceSummary(version.version, version.position, version.created_at) for version in found]
    return page(items, size, lambda version: encode("script_versions", version.version))


@get("/scripts/{script:str}/versions/{number:str}", opt=needs(Capability.SCRIPTS_READ))
async def read_script_version(call: Call, script: Segment, number: Segment) -> SourceVersion:
    """One of a script's sources."""
    app_id, script_id = await find_script(call, script)
    if not (number.isascii() and number.isdigit() and len(number) <= _MAX_VERSION_DIGITS):
        raise NotFound("this script has no such version")
    return await scripts_of(call).version(app_id, script_id, int(number))


@get("/scripts/{script:str}/logs", opt=needs(Capability.EXECUTIONS_READ))
async def list_script_logs(call: Call, script: Segment, limit: Query = None, cursor: Query = None) -> Page[Run]:
    """What a script's runs logged, newest run first."""
    app_id, script_id = await find_script(call, script)
    size = parse_limit(limit)
    before = None if cursor is None else decode(cursor, "script_logs", (datetime, UUID, int))
    found = await executions_of(call).runs_of_script(app_id, script_id, before, size + 1)
    return page(found, size, lambda run: encode("script_logs", run.started_at, run.execution_id, run.attempt))


def _summary(script: StoredScript) -> ScriptSummary:
    return ScriptSummary(**_shown(script))


def _script(script: StoredScript) -> Script:
    return Script(source=script.source, **_shown(script))


def _shown(script: StoredScript) -> dict[str, Any]:
    return {
        "id": script.id,
        "app_id": script.app_id,
        "name": script.name,
        "kind": script.kind,
        "version": script.source_version,
        "timeout_seconds": script.timeout_s,
        "limits": script.limits,
        "created_at": script.created_at,
        "updated_at": script.updated_at,
    }


router: Final = Router(
    path="/",
    route_handlers=[
        list_scripts,
        create_script,
        check_script,
        read_script,
        update_script,
        delete_script,
        list_script_versions,
        read_script_version,
        list_script_logs,
    ],
    tags=["scripts"],
)
