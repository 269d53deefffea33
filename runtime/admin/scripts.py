"""Scripts: created, changed and deleted, each source checked before it is stored."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import anyio.to_thread

from domain.errors import Conflict, NotFound
from domain.names import claim_name, guard_stream, move_guard, release_name
from domain.ports import Reader
from domain.routes import ROUTES_GUARD, RouteDeleted, route_stream
from domain.sandbox import Diagnostic, Sandbox, ScriptKind
from domain.scripts import MODULES_GUARD, Ceiling, ScriptDeleted, ScriptSaved, script_stream
from domain.triggers import TriggerDeleted, trigger_stream
from domain.units import ABSENT, Change, Read, Record
from projections.control.reads import ScriptText, SourceVersion, StoredScript, page_scripts, page_versions, read_script, read_texts, read_version
from projections.control.route_reads import page_routes_of_script
from projections.outbox.reads import page_triggers_of_script
from runtime.admin.guards import TRIGGERS_GUARD
from runtime.admin.module_graph import Draft, SourceChecks, importers_of, imports_modules
from runtime.admin.script_drafts import ScriptChange, blank, check_settings, check_source, event_of, merged, saved, stored
from runtime.admin.streams import is_name_taken, read_guards
from runtime.admin.writing import Acting, AdminWriter, retried

NAME_KIND: Final = "script"
MAX_ATTACHED: Final = 400
"""Routes, and triggers, of one script that are deleted with it in one unit."""

_NO_NAME: Final = "new script"
"""No module can have it."""


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
        check_source(source)
        return await self._checks.diagnose(Draft(name or _NO_NAME, kind, source), await read_texts(self._reader, app_id))

    async def create(self, app_id: UUID, wanted: ScriptChange, acting: Acting) -> StoredScript:
        """Store a new script; name and source are required. Raises Invalid, ScriptInvalid with `diagnostics`, or Conflict `duplicate_name`."""
        new = merged(blank(), wanted)
        check_settings(new, self._ceiling)
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
        changes = [claim_name(NAME_KIND, new.name, new.script_id), saved(new, ABSENT), *await self._graph_move(modules_guard, new)]
        events = await self._writer.publish(app_id, acting, changes)
        return stored(events, None)

    async def _update(self, app_id: UUID, script_id: UUID, wanted: ScriptChange, acting: Acting) -> StoredScript:
        modules_guard, routes_guard, triggers_guard = await read_guards(self._reader, app_id, MODULES_GUARD, ROUTES_GUARD, TRIGGERS_GUARD)
        now = await self.get(app_id, script_id)
        old = event_of(now)
        new = merged(old, wanted)
        if new == old:
            return now
        check_settings(new, self._ceiling)
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
        events = await self._writer.publish(app_id, acting, [*changes, saved(new, now.version)], reads=reads)
        return stored(events, now)

    async def _delete(self, app_id: UUID, script_id: UUID, acting: Acting) -> None:
        modules_guard, routes_guard, triggers_guard = await read_guards(self._reader, app_id, MODULES_GUARD, ROUTES_GUARD, TRIGGERS_GUARD)
        script = await self.get(app_id, script_id)
        changes = [
            Change(Record(name=script_stream(script_id), event=ScriptDeleted(script_id=script_id, name=script.name)), script.version),
            release_name(NAME_KIND, script.name, script_id),
        ]
        if script.kind == "module":
            await self._require_unimported(script.name, await read_texts(self._reader, app_id))
            changes.append(move_guard(MODULES_GUARD, modules_guard))
        routes, triggers = await self._attached(app_id, script_id)
        # A guard that nothing of this unit moves must at least stand where it was read.
        guards = ((ROUTES_GUARD, routes_guard, routes), (TRIGGERS_GUARD, triggers_guard, triggers))
        changes += [*routes, *triggers, *(move_guard(guard, version) for guard, version, moved in guards if moved)]
        reads = [Read(guard_stream(guard), version) for guard, version, moved in guards if not moved]
        await self._writer.publish(app_id, acting, changes, reads=reads)

    async def _attached(self, app_id: UUID, script_id: UUID) -> tuple[list[Change], list[Change]]:
        """The ends of a script's routes, and of its triggers. Raises Conflict when they are too many for one unit."""
        routes = await page_routes_of_script(self._reader, app_id, script_id, None, MAX_ATTACHED + 1)
        triggers = await page_triggers_of_script(self._reader, app_id, script_id, MAX_ATTACHED + 1)
        if max(len(routes), len(triggers)) > MAX_ATTACHED:
            raise Conflict(f"a script with over {MAX_ATTACHED} routes or triggers cannot be deleted at once; delete some of them first", code="in_use")
        return (
            [Change(Record(name=route_stream(r.route.id), event=RouteDeleted(route_id=r.route.id, script_id=script_id))) for r in routes],
            [Change(Record(name=trigger_stream(t.trigger.id), event=TriggerDeleted(trigger_id=t.trigger.id))) for t in triggers],
        )

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
