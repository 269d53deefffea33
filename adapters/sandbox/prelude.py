"""The SDK as Monty code, and the text that is fed for one run.

One feed does all of it: the prelude runs in a namespace of its own (a script's names cannot shadow its internals), its exports become globals, then the script, then
the call of its handler. `<python-input-0>` is the script, one line down; `<string>` is the prelude and, below it, the modules.
"""

from __future__ import annotations

import ast
from importlib.resources import files
from typing import Any, Final

from domain.sandbox import Job, Source

SERVICES: Final = ("kv",)
"""Services with a prelude part `sdk/<name>.monty` and a stub part `sdk/<name>.pyi`. Adding one means adding both files and its name here."""

EXPORTS: Final = (*SERVICES, "log", "abort")
"""Names that every script and module sees."""

LINES_BEFORE: Final = 1
"""Lines of the feed above the script's first."""


def _compact(source: str) -> str:
    """Drop comments and docstrings: what is fed is parsed once per run."""
    return ast.unparse(ast.parse(source))


def _assemble() -> str:
    sdk = files("adapters.sandbox") / "sdk"
    return "\n".join(_compact((sdk / f"{name}.monty").read_text()) for name in ("core", *SERVICES))


PRELUDE: Final = _assemble()

PRELUDE_LINES: Final = PRELUDE.count("\n") + 1
"""Lines of `<string>` above the first module's."""

HOST_CALLS: Final = ("_sys_module", "_sys_abort", "_sys_kv_get", "_sys_kv_list")
"""Names under which the prelude reaches the host."""


def _host_call(name: str) -> Any:
    """A callable that Monty takes for a host function of that name; it is never called on this side."""

    def function() -> None:
        raise NotImplementedError(name)

    function.__name__ = name
    return function


_SDK: Final = {name: _host_call(name) for name in HOST_CALLS}

_HEAD: Final = "; ".join(
    ("exec(_picloud_prelude, _picloud_sdk)", *(f"{name} = _picloud_sdk['_exports']['{name}']" for name in EXPORTS)),
)
_LOAD: Final = "; _picloud_sdk['_load'](_picloud_modules)"
_TAIL: Final = "\n\n_picloud_sdk['_run'](handler, _picloud_ctx)"


def feed(job: Job) -> tuple[str, dict[str, Any]]:
    """The code to feed for one run, and its inputs."""
    source = job.script.source
    inputs: dict[str, Any] = {"_picloud_prelude": PRELUDE, "_picloud_sdk": _SDK, "_picloud_ctx": job.ctx}
    if "import" not in source:
        return f"{_HEAD}\n{source}{_TAIL}", inputs
    inputs["_picloud_modules"] = _placed(job.modules)
    return f"{_HEAD}{_LOAD}\n{source}{_TAIL}", inputs


def _placed(modules: tuple[Source, ...]) -> list[tuple[str, str]]:
    """Names and texts, each text moved down below the one before: all of them are `<string>` in tracebacks, so the line says which it is."""
    placed = []
    line = PRELUDE_LINES
    for module in modules:
        placed.append((module.name, "\n" * line + module.source))
        line += line_count(module.source)
    return placed


def line_count(source: str) -> int:
    """Lines of a text, the last one without its end included."""
    return source.count("\n") + 1
