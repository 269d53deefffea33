"""Scripts: created, changed and deleted, each source checked before it is stored."""

from __future__ import annotations

import unicodedata
from typing import Any, Final
from uuid import UUID

import anyio.to_thread
import msgspec
from uuid_utils.compat import uuid7

from domain.errors import Conflict, Invalid, NotFound
from domain.events import Event, Recorded
from domain.modules import check_module_name
from domain.names import claim_name, guard_stream, move_guard, release_name
from domain.ports import Reader
from domain.routes import ROUTES_GUARD, RouteDeleted, route_stream
from domain.sandbox import Diagnostic, Limits, Sandbox, ScriptKind
from domain.scripts import (
    DEFAULT_TIMEOUT_S,
    MAX_NAME_CHARS,
    MAX_SOURCE_BYTES,
    MODULES_GUARD,
    Ceiling,
    ScriptDeleted,
    ScriptSaved,
    check_limits,
    check_timeout,
    script_stream,
)
from domain.triggers import TriggerDeleted, trigger_stream
from domain.units import ABSENT, Change, Read, Record
from domain.values import check_text
from projections.control.reads import ScriptText, SourceVersion, StoredScript, page_scripts, page_versions, read_script, read_texts, read_version
from projections.control.route_reads import page_routes_of_script
from projections.outbox.reads import page_triggers_of_script
from runtime.admin.guards import TRIGGERS_GUARD
from runtime.admin.module_graph import Draft, SourceChecks, importers_of, imports_modules
from runtime.admin.streams import is_name_taken, read_guards
from runtime.admin.writing import Acting, AdminWriter, retried

NAME_KIND: Final = "script"
_NO_NAME: Final = "new script"
"""No module can have it."""
MAX_ATTACHED: Final = 400
"""Routes, and triggers, of one script that are deleted with it in one unit."""


class LimitsChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits to set; those left out stay as they are."""

    memory_mib: int | msgspec.UnsetType = msgspec.UNSET
    host_calls: int | msgspec.UnsetType = msgspec.UNSET
    output_bytes: int | msgspec.UnsetType = msgspec.UNSET
    recursion: int | msgspec.UnsetType = msgspec.UNSET


class ScriptChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a script; what is left out stays as it is."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    source: str | msgspec.UnsetType = msgspec.UNSET
    kind: ScriptKind | msgspec.UnsetType = msgspec.UNSET
    timeout_seconds: float | msgspec.UnsetType = msgspec.UNSET
    limits: LimitsChange | msgspec.UnsetType = msgspec.UNSET


class Scripts:
    """The scripts of all apps."""

    def __init__(self, reader: Reader, writer: AdminWriter, sandbox: Sandbox, ceiling: Ceiling) -> None:
        self._reader = reader
        self._writer = writer
        self._checks = SourceChecks(sandbox)
        self._ceiling = ceiling

    async def get(self, app_id: UUID, script_id: UUID) -> StoredScript:
        """One script. Raises NotFound."""
        found = await read_script(self._reader, app_id, script_id)
        if found is None:
            raise NotFound("there is no such script")
        return found

    async def page(self, app_ids: list[UUID] | None, after: UUID | None, limit: int) -> list[StoredScript]:
        """Scripts of these apps (None: of all) in the order of their creation."""
        return await page_scripts(self._reader, app_ids, after, limit)

    async def versions(self, app_id: UUID, script_id: UUID, before: int | None, limit: int) -> list[SourceVersion]:
        """A script's sources, newest first. Raises NotFound."""
        await self.get(app_id, script_id)
        return await page_versions(self._reader, app_id, script_id, before, limit)

    async def version(self, app_id: UUID, script_id: UUID, version: int) -> SourceVersion:
        """One of a script's sources. Raises NotFound."""
        await self.get(app_id, script_id)
        found = await read_version(self._reader, app_id, script_id, version)
        if found is None:
            raise NotFound("this script has no such version")
        return found

    async def check(self, app_id: UUID, kind: ScriptKind, source: str, name: str | None = None) -> list[Diagnostic]:
        """What saving this source would find: as a new script, or in place of the one of this name."""
        _check_source(source)
        return await self._checks.diagnose(Draft(name or _NO_NAME, kind, source), await read_texts(self._reader, app_id))

    async def create(self, app_id: UUID, wanted: ScriptChange, acting: Acting) -> StoredScript:
        """Store a new script; name and source are required. Raises Invalid, ScriptInvalid with `diagnostics`, or Conflict `duplicate_name`."""
        script_id = uuid7()
        new = _merged(
            ScriptSaved(script_id=script_id, name="", kind="endpoint", source="", source_version=1, timeout_s=DEFAULT_TIMEOUT_S, limits=Limits()), wanted
        )
        self._check_settings(new)
        return await retried(lambda: self._create(app_id, new, acting))

    async def update(self, app_id: UUID, script_id: UUID, wanted: ScriptChange, acting: Acting) -> StoredScript:
        """Change a script; a change that changes nothing appends nothing.

        Raises NotFound, Invalid, ScriptInvalid, Conflict `duplicate_name`, `in_use` (a module has no routes and triggers), `imported` (a module that others
        import keeps its name and kind) or `breaks_importers`.
        """
        return await retried(lambda: self._update(app_id, script_id, wanted, acting))

    async def delete(self, app_id: UUID, script_id: UUID, acting: Acting) -> None:
        """Delete a script with its routes and triggers. Raises NotFound, or Conflict `imported` with `imported_by`."""
        await retried(lambda: self._delete(app_id, script_id, acting))

    async def _create(self, app_id: UUID, new: ScriptSaved, acting: Acting) -> StoredScript:
        (modules_guard,) = await read_guards(self._reader, app_id, MODULES_GUARD)
        await self._require_free_name(app_id, new.name)
        texts = await read_texts(self._reader, app_id)
        await self._checks.require_valid(Draft(new.name, new.kind, new.source), texts)
        changes = [claim_name(NAME_KIND, new.name, new.script_id), _saved(new, ABSENT), *await self._graph_move(modules_guard, new)]
        events = await self._writer.publish(app_id, acting, changes)
        return _stored(_last_saved(events), None)

    async def _update(self, app_id: UUID, script_id: UUID, wanted: ScriptChange, acting: Acting) -> StoredScript:
        modules_guard, routes_guard, triggers_guard = await read_guards(self._reader, app_id, MODULES_GUARD, ROUTES_GUARD, TRIGGERS_GUARD)
        now = await self.get(app_id, script_id)
        old = _event_of(now)
        new = _merged(old, wanted)
        if new == old:
            return now
        self._check_settings(new)
        changes: list[Change] = []
        reads: list[Read] = []
        if new.name != old.name:
            changes += await self._rename(app_id, old, new)
        if (new.name, new.kind, new.source) != (old.name, old.kind, old.source):
            await self._check_change(app_id, old, new)
            changes += await self._graph_move(modules_guard, old, new)
        if new.kind == "module" and old.kind == "endpoint":
            await self._require_unattached(app_id, script_id)
            reads = [Read(guard_stream(ROUTES_GUARD), routes_guard), Read(guard_stream(TRIGGERS_GUARD), triggers_guard)]
        events = await self._writer.publish(app_id, acting, [*changes, _saved(new, now.version)], reads=reads)
        return _stored(_last_saved(events), now)

    async def _delete(self, app_id: UUID, script_id: UUID, acting: Acting) -> None:
        modules_guard, routes_guard, triggers_guard = await read_guards(self._reader, app_id, MODULES_GUARD, ROUTES_GUARD, TRIGGERS_GUARD)
        script = await self.get(app_id, script_id)
        if script.kind == "module":
            await self._require_unimported(script.name, await read_texts(self._reader, app_id))
        deleted: list[Change] = [
            Change(Record(name=script_stream(script_id), event=ScriptDeleted(script_id=script_id, name=script.name)), script.version),
            release_name(NAME_KIND, script.name, script_id),
        ]
        routes = await page_routes_of_script(self._reader, app_id, script_id, None, MAX_ATTACHED + 1)
        triggers = await page_triggers_of_script(self._reader, app_id, script_id, MAX_ATTACHED + 1)
        if max(len(routes), len(triggers)) > MAX_ATTACHED:
            raise Conflict(f"a script with over {MAX_ATTACHED} routes or triggers cannot be deleted at once; delete some of them first", code="in_use")
        gone: list[tuple[str, Event]] = [(route_stream(r.route.id), RouteDeleted(route_id=r.route.id, script_id=script_id)) for r in routes]
        gone += [(trigger_stream(t.trigger.id), TriggerDeleted(trigger_id=t.trigger.id)) for t in triggers]
        deleted += [Change(Record(name=name, event=event)) for name, event in gone]
        deleted += [move_guard(ROUTES_GUARD, routes_guard)] if routes else []
        deleted += [move_guard(TRIGGERS_GUARD, triggers_guard)] if triggers else []
        deleted += [move_guard(MODULES_GUARD, modules_guard)] if script.kind == "module" else []
        reads = [] if routes else [Read(guard_stream(ROUTES_GUARD), routes_guard)]
        reads += [] if triggers else [Read(guard_stream(TRIGGERS_GUARD), triggers_guard)]
        await self._writer.publish(app_id, acting, deleted, reads=reads)

    async def _rename(self, app_id: UUID, old: ScriptSaved, new: ScriptSaved) -> list[Change]:
        if new.name.casefold() != old.name.casefold():
            await self._require_free_name(app_id, new.name)
        return [release_name(NAME_KIND, old.name, old.script_id), claim_name(NAME_KIND, new.name, new.script_id)]

    async def _check_change(self, app_id: UUID, old: ScriptSaved, new: ScriptSaved) -> None:
        """The new source by itself, then everything that imports it."""
        texts = await read_texts(self._reader, app_id)
        others = [text for text in texts if text.id != old.script_id]
        if old.kind == "module" and (new.kind != "module" or new.name != old.name):
            await self._require_unimported(old.name, others)
        await self._checks.require_valid(Draft(new.name, new.kind, new.source), others)
        if old.kind == "module" == new.kind and new.source != old.source and new.name == old.name:
            await self._checks.require_importers(Draft(new.name, new.kind, new.source), texts)

    async def _graph_move(self, guard: int, *scripts: ScriptSaved) -> list[Change]:
        """Move the guard of the module graph when one of these is part of it."""
        for script in scripts:
            if script.kind == "module" or await anyio.to_thread.run_sync(imports_modules, script.source):
                return [move_guard(MODULES_GUARD, guard)]
        return []

    async def _require_free_name(self, app_id: UUID, name: str) -> None:
        if await is_name_taken(self._reader, app_id, NAME_KIND, name):
            raise Conflict(f"name: this app has a script named {name!r} already (letter case does not count)", code="duplicate_name", field="name")

    async def _require_unattached(self, app_id: UUID, script_id: UUID) -> None:
        routes = await page_routes_of_script(self._reader, app_id, script_id, None, MAX_ATTACHED)
        triggers = await page_triggers_of_script(self._reader, app_id, script_id, MAX_ATTACHED)
        if routes or triggers:
            message = "kind: a module has no routes and no triggers; delete those of this script first"
            raise Conflict(message, code="in_use", field="kind", routes=[r.route.id for r in routes], triggers=[t.trigger.id for t in triggers])

    async def _require_unimported(self, name: str, texts: list[ScriptText]) -> None:
        importers = await anyio.to_thread.run_sync(importers_of, name, texts)
        if importers:
            names = ", ".join(text.name for text in importers)
            imported_by = [{"id": text.id, "name": text.name} for text in importers]
            raise Conflict(f"{name} is imported by {names}", code="imported", imported_by=imported_by)

    def _check_settings(self, script: ScriptSaved) -> None:
        if script.kind == "module":
            check_module_name(script.name)
        else:
            _check_endpoint_name(script.name)
        _check_source(script.source)
        check_timeout(script.timeout_s, self._ceiling)
        check_limits(script.limits, self._ceiling)


def _check_endpoint_name(name: str) -> None:
    check_text(name, "name")
    sane = name.isprintable() and name == name.strip() and unicodedata.is_normalized("NFC", name)
    if not (sane and 0 < len(name) <= MAX_NAME_CHARS):
        raise Invalid(f"name: 1 to {MAX_NAME_CHARS} printable characters (NFC), no spaces at either end", field="name")


def _check_source(source: str) -> None:
    check_text(source, "source")
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise Invalid(f"source: {len(source.encode())} bytes, at most {MAX_SOURCE_BYTES} are accepted", field="source")


def _blank() -> ScriptSaved:
    """What a new script is a change of."""
    return ScriptSaved(script_id=uuid7(), name="", kind="endpoint", source="", source_version=1, timeout_s=DEFAULT_TIMEOUT_S, limits=Limits())


def _merged(old: ScriptSaved, wanted: ScriptChange) -> ScriptSaved:
    given: dict[str, Any] = {name: value for name in ("name", "source", "kind") if (value := getattr(wanted, name)) is not msgspec.UNSET}
    if wanted.timeout_seconds is not msgspec.UNSET:
        given["timeout_s"] = float(wanted.timeout_seconds)
    if wanted.limits is not msgspec.UNSET:
        changed = {name: value for name in Limits.__struct_fields__ if (value := getattr(wanted.limits, name)) is not msgspec.UNSET}
        given["limits"] = msgspec.structs.replace(old.limits, **changed)
    new = msgspec.structs.replace(old, **given)
    # A new script has no old source to count on from.
    return msgspec.structs.replace(new, source_version=old.source_version + 1) if old.name and new.source != old.source else new


def _saved(script: ScriptSaved, expect: int) -> Change:
    return Change(Record(name=script_stream(script.script_id), event=script), expect)


def _event_of(script: StoredScript) -> ScriptSaved:
    return ScriptSaved(
        script_id=script.id,
        name=script.name,
        kind=script.kind,
        source=script.source,
        source_version=script.source_version,
        timeout_s=script.timeout_s,
        limits=script.limits,
    )


def _last_saved(events: tuple[Recorded, ...]) -> tuple[Recorded, ScriptSaved]:
    return next((recorded, recorded.event) for recorded in reversed(events) if isinstance(recorded.event, ScriptSaved))


def _stored(found: tuple[Recorded, ScriptSaved], before: StoredScript | None) -> StoredScript:
    recorded, script = found
    return StoredScript(
        app_id=recorded.app_id,
        id=script.script_id,
        name=script.name,
        kind=script.kind,
        source=script.source,
        source_version=script.source_version,
        timeout_s=script.timeout_s,
        limits=script.limits,
        version=recorded.version,
        created_at=recorded.recorded_at if before is None else before.created_at,
        updated_at=recorded.recorded_at,
    )
