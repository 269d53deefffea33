"""Which of an app's scripts import which modules, and whether all of them still hold together when one source changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import anyio.to_thread
import msgspec

from domain.errors import Conflict, Invalid, ScriptInvalid
from domain.modules import SDK_NAMES, STANDARD_MODULES, imported_names, resolve
from domain.sandbox import Diagnostic, Sandbox, ScriptKind, Source
from projections.control.reads import ScriptText

MAX_BROKEN_SHOWN: Final = 10

_PLATFORM: Final = SDK_NAMES | STANDARD_MODULES


class Draft(msgspec.Struct, frozen=True):
    """A source that somebody wants to store under a name."""

    name: str
    kind: ScriptKind
    source: str


def imports_modules(source: str) -> bool:
    """Whether a source imports anything that is not the platform's own. Parses: call it in a thread."""
    return any(name not in _PLATFORM for name in imported_names(source))


def importers_of(name: str, texts: Iterable[ScriptText]) -> list[ScriptText]:
    """The scripts that import a module themselves. Parses: call it in a thread."""
    return [text for text in texts if name in text.source and name in imported_names(text.source)]


def dependents_of(name: str, texts: Sequence[ScriptText]) -> list[ScriptText]:
    """The scripts that import a module, themselves or through other modules, each once. Parses: call it in a thread."""
    found: dict[str, ScriptText] = {}
    todo = [name]
    while todo:
        for text in importers_of(todo.pop(), texts):
            if text.name not in found and text.name != name:
                found[text.name] = text
                if text.kind == "module":
                    todo.append(text.name)
    return list(found.values())


def load_order(source: str, modules: dict[str, str]) -> tuple[Source, ...]:
    """The modules that a source needs, in load order. Only those whose names it, or they, mention are parsed. Raises as `resolve` does. Call it in a thread."""
    near: dict[str, str] = {}
    todo = [source]
    while todo:
        text = todo.pop()
        for name in [name for name in modules if name not in near and name in text]:
            near[name] = modules[name]
            todo.append(modules[name])
    return tuple(Source(name, near[name]) for name in resolve(source, near))


class SourceChecks:
    """Checks a draft against the app's other scripts, and the other scripts against the draft."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def diagnose(self, draft: Draft, texts: Iterable[ScriptText]) -> list[Diagnostic]:
        """All findings about a draft that would stand beside `texts` (in place of the one of its name). Executes nothing."""
        modules = {text.name: text.source for text in texts if text.kind == "module" and text.name != draft.name}
        entry = draft.source
        if draft.kind == "module" and draft.name.isidentifier():
            # Seen as those see it who import it: one module deeper, and perhaps again at the end of its own imports.
            modules[draft.name] = draft.source
            entry = f"import {draft.name}"
        try:
            order = await anyio.to_thread.run_sync(load_order, entry, modules)
        except Invalid as error:
            return [Diagnostic(1, 1, "error", error.code, error.detail)]
        needed = tuple(module for module in order if module.name != draft.name)
        return await self._sandbox.check(draft.kind, Source(draft.name, draft.source), needed)

    async def require_valid(self, draft: Draft, texts: Iterable[ScriptText]) -> None:
        """Raise ScriptInvalid with the diagnostics, warnings included, when one of them is an error."""
        found = await self.diagnose(draft, texts)
        errors = [finding for finding in found if finding.severity == "error"]
        if errors:
            first = errors[0]
            raise ScriptInvalid(f"line {first.line}, column {first.column}: {first.message}", field="source", diagnostics=found)

    async def require_importers(self, draft: Draft, texts: Sequence[ScriptText]) -> None:
        """Raise Conflict `breaks_importers` when a change of a module would break scripts that import it; what was broken before is nobody's fault now."""
        broken: list[dict[str, Any]] = []
        changed = [ScriptText(text.id, text.name, text.kind, draft.source) if text.name == draft.name else text for text in texts]
        for text in await anyio.to_thread.run_sync(dependents_of, draft.name, texts):
            found = await self._new_errors(text, texts, changed)
            if found:
                broken.append({"id": text.id, "name": text.name, "diagnostics": found})
            if len(broken) == MAX_BROKEN_SHOWN:
                break
        if broken:
            names = ", ".join(entry["name"] for entry in broken)
            raise Conflict(f"this change would break scripts that import {draft.name}: {names}", code="breaks_importers", importers=broken)

    async def _new_errors(self, text: ScriptText, before: Sequence[ScriptText], after: Sequence[ScriptText]) -> list[Diagnostic]:
        draft = Draft(text.name, text.kind, text.source)
        errors = [finding for finding in await self.diagnose(draft, after) if finding.severity == "error"]
        if not errors:
            return []
        known = await self.diagnose(draft, before)
        return [finding for finding in errors if finding not in known]
