"""The check at upload: compile, then type-check against the SDK's stub, in a process of its own that ends with the check.

A host call on a line above the source suspends after compiling and checking, before anything of the script runs. Neither is under the sandbox's time and memory
limits, so the process has a deadline, and an address space of its own where the launcher works.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
from pydantic_monty import ExternalModule, FunctionSnapshot, Monty, MontyCrashedError, MontyError, MontyTypingError

from adapters.sandbox.prelude import EXPORTS
from adapters.sandbox.stub import module_stubs, sdk_stub
from domain.errors import Invalid
from domain.modules import check_endpoint_body, check_module_body, parse, resolve
from domain.sandbox import Diagnostic, ScriptKind, Source

MAX_DIAGNOSTICS: Final = 100
MAX_MESSAGE_CHARS: Final = 2000

_SENTINEL: Final = "picloud_checked"
_STUB: Final = f"{sdk_stub()}\ndef {_SENTINEL}() -> None: ...\n"

_UNKNOWN_PLACE: Final = (1, 1)


def check_source(kind: ScriptKind, script: Source, modules: tuple[Source, ...], open_pool: Callable[[], Monty]) -> list[Diagnostic]:
    """All findings, in the order of their lines. Blocks. Raises MontyError or OSError when no process can be started."""
    tree = parse(script.source)
    if isinstance(tree, Diagnostic) and tree.code != "invalid-syntax":
        return [tree]
    found = _check_body(kind, script) + _check_imports(script, modules)
    with open_pool() as pool:
        compiled = _compile(pool, script)
        if compiled:
            return compiled
        if not isinstance(tree, Diagnostic):
            found += _type_check(pool, script, modules)
    return sorted(found, key=lambda finding: (finding.line, finding.column))[:MAX_DIAGNOSTICS]


def _check_body(kind: ScriptKind, script: Source) -> list[Diagnostic]:
    return check_endpoint_body(script.source) if kind == "endpoint" else check_module_body(script.source)


def _check_imports(script: Source, modules: tuple[Source, ...]) -> list[Diagnostic]:
    try:
        resolve(script.source, {module.name: module.source for module in modules})
    except Invalid as error:
        return [Diagnostic(*_UNKNOWN_PLACE, "error", error.code, error.detail)]
    return []


def _compile(pool: Monty, script: Source) -> list[Diagnostic]:
    try:
        with pool.checkout() as session:
            session.feed_start(f"{_SENTINEL}()\n{script.source}")
    except MontyCrashedError as error:
        return [_out_of_bounds(error)]
    except MontyError as error:
        return [_from_error(error)]
    return []


def _type_check(pool: Monty, script: Source, modules: tuple[Source, ...]) -> list[Diagnostic]:
    stubs = {**module_stubs(), **{module.name: module.source for module in modules}}
    external = {name: ExternalModule({}, stubs=stub) for name, stub in stubs.items()}
    try:
        with pool.checkout(type_check=True, type_check_format="json", type_check_stubs=_stub_for(script.source), external_modules=external) as session:
            snapshot = session.feed_start(f"{_SENTINEL}()\n{script.source}")
            while isinstance(snapshot, FunctionSnapshot) and snapshot.is_os_function:
                snapshot = snapshot.resume_auto()
    except MontyTypingError as error:
        found = [_from_finding(finding) for finding in msgspec.json.decode(error.display())]
        return [finding for finding in found if not _is_served(finding)]
    except MontyCrashedError as error:
        return [_out_of_bounds(error)]
    except MontyError as error:
        return [_from_error(error)]
    return []


def _stub_for(source: str) -> str:
    """The SDK without those names that a script gives a meaning of its own: they must not be held to the SDK's types."""
    own = _bound(ast.parse(source).body)
    return "\n".join(line for line in _STUB.split("\n") if line.partition(":")[0] not in own) if not own.isdisjoint(EXPORTS) else _STUB


def _bound(body: list[ast.stmt]) -> set[str]:
    """Names that are bound at the top level, also below an `if` or a loop."""
    found: set[str] = set()
    todo: list[ast.AST] = [*body]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif not isinstance(node, ast.Lambda):
            todo.extend(ast.iter_child_nodes(node))
    return found


def _is_served(finding: Diagnostic) -> bool:
    """Whether it only says that there is no `uuid` or `hmac`: names of the standard library, for which Monty's type checker looks at no stub of ours."""
    return finding.code == "unresolved-import" and finding.message.endswith(tuple(f"`{name}`" for name in EXPORTS))


def _from_finding(finding: dict[str, Any]) -> Diagnostic:
    place = finding["location"]
    severity: Literal["error", "warning"] = "error" if finding["severity"] in ("error", "fatal") else "warning"
    return Diagnostic(max(place["row"] - 1, 1), place["column"], severity, finding["code"], finding["message"][:MAX_MESSAGE_CHARS])


def _from_error(error: MontyError) -> Diagnostic:
    frames = error.traceback() if hasattr(error, "traceback") else []
    line, column = (max(frames[-1].line - 1, 1), frames[-1].column) if frames else _UNKNOWN_PLACE
    message = str(error.exception()).replace("The monty syntax parser", "The sandbox")
    return Diagnostic(line, column, "error", "invalid-syntax", message[:MAX_MESSAGE_CHARS])


def _out_of_bounds(error: MontyCrashedError) -> Diagnostic:
    what = "time" if error.timed_out else "memory"
    return Diagnostic(*_UNKNOWN_PLACE, "error", "check_failed", f"checking this source takes more {what} than a check may use")
