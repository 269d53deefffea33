"""The SDK as Monty code, and what is fed for one run.

One feed does all of it: the prelude runs in a namespace of its own (a script's names cannot shadow its internals), its exports become globals, then the
script, then the call of its handler. `<python-input-0>` is the script, one line down; `<string>` is the prelude and, below it, the modules.

The prelude is compiled anew for every run (sessions are never reused), so what is fed is the least that the script can reach (see `definitions`), and of
ctx only what it can name. What most runs do without (`<name>_late`: messages of errors, rarer calls) stands ready as text and is compiled when it is first
needed. Loading a dumped session instead costs as much, and would bind a run to the clock and the seed of the dump.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import msgspec

from adapters.sandbox.definitions import DYNAMIC, Definition, Selection, parse, roots, select, words_of
from domain.sandbox import Job, Source

SERVICES: Final = (
    "kv",
    "docs",
    "schedule",
    "uuid",
    "hmac",
    "url",
    "hex",
    "dead_letters",
    "http",
    "secrets",
    "files",
    "pubsub",
)
"""Services with `sdk/<name>.monty` (and perhaps `sdk/<name>_late.monty`) and `sdk/<name>.pyi`. Adding one means adding its files and its name here."""

EXPORTS: Final = (*SERVICES, "log", "abort")
"""Names that every script and module sees."""

LINES_BEFORE: Final = 1
"""Lines of the feed above the script's first."""

TAIL: Final = "\n\n_picloud['_run'](handler, _picloud_ctx)"
"""What is fed below the script."""

MODULE_LINE: Final = 10_000
"""Line of `<string>` where the first module begins, below any prelude."""

SDK_FOLDER: Final = files("adapters.sandbox") / "sdk"

_KEPT_CHARS: Final = 64 * 1024
"""Plans of longer scripts are not kept: making one takes a fraction of compiling such a script."""


def _part(name: str) -> tuple[Definition, ...]:
    path = SDK_FOLDER / f"{name}.monty"
    return parse(path.read_text()) if path.is_file() else ()


_DEFINITIONS: Final = tuple(definition for name in ("core", *EXPORTS, "modules") for definition in _part(name))
_GUARD: Final = (SDK_FOLDER / "guard.monty").read_text()
_LATE: Final = tuple(definition for name in ("core", *EXPORTS) for definition in _part(f"{name}_late"))


def _host_call(name: str) -> Any:
    """A callable that Monty takes for a host function of that name; it is never called on this side."""

    def function() -> None:
        raise NotImplementedError(name)

    function.__name__ = name
    return function


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is fed for a script and its modules, whatever the run: `code`, and `inputs` but for ctx.

    `ctx_names` are the attributes of ctx that it can name, None for all of them; `tail_start` is the offset in bytes of the handler's call in `code`.
    """

    code: str
    inputs: dict[str, Any]
    ctx_names: frozenset[str] | None
    tail_start: int


def plan(job: Job) -> Plan:
    """What to feed for this job. Kept for scripts of usual length."""
    texts = job.script.source, *(module.source for module in job.modules)
    make = _kept_plan if sum(map(len, texts)) <= _KEPT_CHARS else _plan
    return make(job.script.source, job.modules, guarded=bool(job.denied))


def _plan(source: str, modules: tuple[Source, ...], *, guarded: bool) -> Plan:
    importing = "import" in source
    words = words_of((source, *(module.source for module in modules)) if importing else (source,))
    exports = tuple(name for name in EXPORTS if name in words)
    dynamic = not DYNAMIC.isdisjoint(words)
    chosen = _selection(roots(_DEFINITIONS, words | ({"_run", "_load"} if importing else {"_run"})), every_method=dynamic)
    code = f"{_head(exports, importing=importing, guarded=guarded)}\n{source}{TAIL}"
    inputs: dict[str, Any] = {"_picloud_text": chosen.text, "_picloud": {"_texts": chosen.late, **{call: _host_call(call) for call in chosen.host_calls}}}
    if importing:
        inputs["_picloud_modules"] = _placed(modules)
    return Plan(code=code, inputs=inputs, ctx_names=None if dynamic else frozenset(words), tail_start=len(code.encode(errors="replace")) - len(TAIL))


_kept_plan = lru_cache(maxsize=256)(_plan)


@lru_cache(maxsize=1024)
def _selection(wanted: frozenset[str], *, every_method: bool) -> Selection:
    return select(_DEFINITIONS, _LATE, wanted, every_method=every_method)


def _head(exports: tuple[str, ...], *, importing: bool, guarded: bool) -> str:
    guard = ["_picloud['_denied'] = _picloud_denied", f"exec({_GUARD!r}, _picloud)"] if guarded else []
    statements = ["_picloud['_sdk'] = _picloud", "exec(_picloud_text, _picloud)", *guard, *(f"{name} = _picloud['{name}']" for name in exports)]
    if importing:
        statements.append(f"_picloud['_load'](_picloud_modules, {exports!r})")
    return "; ".join(statements)


def ctx_input(ctx: dict[str, Any], names: frozenset[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `_object` makes ctx of: values by attribute, and in the same form the parts that are objects themselves."""
    parts: dict[str, Any] = {}
    for name in ("request", "event"):
        if name in ctx and (names is None or name in names):
            parts[name] = _part_input(name, ctx[name], names)
    return {name: ctx[name] for name in ctx if name not in parts and (names is None or name in names)}, parts


def _part_input(name: str, values: dict[str, Any], names: frozenset[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    source = values["source"] if name == "event" else None
    parts: dict[str, Any] = {source: (_named(values[source], names), {})} if source is not None and (names is None or source in names) else {}
    return {key: value for key, value in _named(values, names).items() if key not in parts}, parts


def _named(values: dict[str, Any], names: frozenset[str] | None) -> dict[str, Any]:
    return values if names is None else {key: values[key] for key in values if key in names}


def _placed(modules: tuple[Source, ...]) -> list[tuple[str, str]]:
    """Names and texts, each text moved down below the one before: all of them are `<string>` in tracebacks, so the line says which it is."""
    placed = []
    line = MODULE_LINE - 1
    for module in modules:
        placed.append((module.name, "\n" * line + module.source))
        line += line_count(module.source)
    return placed


def line_count(source: str) -> int:
    """Lines of a text, the last one without its end included."""
    return source.count("\n") + 1
