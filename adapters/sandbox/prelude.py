"""The SDK as Monty code, and the text that is fed for one run.

One feed does all of it: the prelude runs in a namespace of its own (a script's names cannot shadow its internals), its exports become globals, then the
script, then the call of its handler. `<python-input-0>` is the script, one line down; `<string>` is the prelude and, below it, the modules.

The prelude is compiled anew for every run (sessions are never reused), which costs about 0.1 ms per KiB. So only the parts whose name stands somewhere in
the script or its modules are fed, and calls that most runs do without wait in a part of their own (`kv_late`) until the first of them is made. Loading a
dumped session instead would save about a fifth of a run, but would bind it to the limits of the dump and leave clock and chance to host calls, which
cannot be made from within `sorted(key=...)`.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

from domain.sandbox import Job, Source

SERVICES: Final[dict[str, tuple[str, ...]]] = {"kv": ("_sys_kv_get", "_sys_kv_list")}
"""Services with `sdk/<name>.monty` (and perhaps `sdk/<name>_late.monty`) and `sdk/<name>.pyi`, and the host calls that they make.

Adding one means adding its files and a line here.
"""

EXPORTS: Final = (*SERVICES, "log", "abort")
"""Names that every script and module sees."""

LINES_BEFORE: Final = 1
"""Lines of the feed above the script's first."""

TAIL: Final = "\n\n_picloud['_run'](handler, _picloud_ctx)"
"""What is fed below the script."""

MODULE_LINE: Final = 10_000
"""Line of `<string>` where the first module begins, below any prelude."""

SDK_FOLDER: Final = files("adapters.sandbox") / "sdk"


def _part(name: str) -> str:
    """A part without its comments: what is fed is parsed once per run."""
    return ast.unparse(ast.parse((SDK_FOLDER / f"{name}.monty").read_text()))


def _host_call(name: str) -> Any:
    """A callable that Monty takes for a host function of that name; it is never called on this side."""

    def function() -> None:
        raise NotImplementedError(name)

    function.__name__ = name
    return function


_CORE: Final = _part("core")
_PARTS: Final = {name: _part(name) for name in (*EXPORTS, "modules")}
_LATE: Final = {name: _part(f"{name}_late") for name in SERVICES if (SDK_FOLDER / f"{name}_late.monty").is_file()}


class _Prelude:
    """What is fed for a set of parts, prepared once per set."""

    def __init__(self, names: tuple[str, ...], *, importing: bool) -> None:
        parts = (*names, "modules") if importing else names
        calls = ["_sys_abort", "_sys_module", *(call for name in names for call in SERVICES.get(name, ()))]
        self.text = "\n".join((_CORE, *(_PARTS[part] for part in parts)))
        self.namespace = {
            **{call: _host_call(call) for call in calls},
            "_late": {name: _LATE[name] for name in names if name in _LATE},
        }
        statements = ["_picloud['_sdk'] = _picloud", "exec(_picloud_text, _picloud)"]
        statements += [f"{name} = _picloud['_exports']['{name}']" for name in names]
        if importing:
            statements.append("_picloud['_load'](_picloud_modules)")
        self.head = "; ".join(statements)


@lru_cache(maxsize=64)
def _prelude(names: tuple[str, ...], *, importing: bool) -> _Prelude:
    return _Prelude(names, importing=importing)


def feed(job: Job) -> tuple[str, dict[str, Any]]:
    """The code to feed for one run, and its inputs."""
    source = job.script.source
    importing = "import" in source
    texts = (source, *(module.source for module in job.modules)) if importing else (source,)
    prelude = _prelude(tuple(name for name in EXPORTS if any(name in text for text in texts)), importing=importing)
    inputs: dict[str, Any] = {"_picloud_text": prelude.text, "_picloud": prelude.namespace, "_picloud_ctx": job.ctx}
    if importing:
        inputs["_picloud_modules"] = _placed(job.modules)
    return f"{prelude.head}\n{source}{TAIL}", inputs


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
