"""Modules of an app: their names, what may stand in them, and the order in which a script's imports are loaded. Static: nothing of a script is executed.

Sources are hostile. Whatever makes CPython's parser give up (NUL bytes, nesting that exhausts its stack or memory) becomes a diagnostic.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Final

from domain.errors import Invalid
from domain.sandbox import Diagnostic

MAX_SOURCE_BYTES: Final = 256 * 1024
MAX_IMPORT_DEPTH: Final = 8

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")

SDK_NAMES: Final = frozenset(
    {"kv", "docs", "files", "pubsub", "http", "dead_letters", "log", "abort", "ctx", "uuid", "hmac", "url", "hex"}
    | {"secrets", "email", "users", "queue", "schedule", "webhook"}
)
"""Names of the SDK, services still to come included."""

STANDARD_MODULES: Final = frozenset(
    {"asyncio", "base64", "binascii", "bisect", "collections", "copy", "csv", "dataclasses", "datetime", "decimal", "functools", "hashlib", "itertools", "json"}
    | {"math", "os", "pathlib", "posixpath", "random", "re", "sys", "time", "tomllib", "typing", "unicodedata"}
    | {"__future__", "abc", "builtins", "enum", "io", "statistics", "string", "zoneinfo"}
)
"""Standard modules that scripts can import, or that a coming version of the sandbox may bring."""

_DECLARATIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_NOT_CONSTANT: Final = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def check_module_name(name: str) -> None:
    """Raise Invalid when scripts could not import a module of that name."""
    if not _NAME.fullmatch(name):
        raise Invalid("name: a module's name is a letter or underscore, then at most 63 letters, digits or underscores", code="module_name", field="name")
    if name in SDK_NAMES or name in STANDARD_MODULES:
        raise Invalid(f"name: {name} is the name of a module that every script has already", code="module_name_reserved", field="name")


def parse(source: str) -> ast.Module | Diagnostic:
    """The syntax tree, or why there is none."""
    if len(source) > MAX_SOURCE_BYTES or len(source.encode(errors="replace")) > MAX_SOURCE_BYTES:
        return Diagnostic(1, 1, "error", "source_too_large", f"the source is longer than {MAX_SOURCE_BYTES} bytes")
    try:
        source.encode()
        return ast.parse(source)
    except SyntaxError as error:
        return Diagnostic(max(error.lineno or 1, 1), max(error.offset or 1, 1), "error", "invalid-syntax", error.msg)
    except UnicodeEncodeError:
        return Diagnostic(1, 1, "error", "invalid-syntax", "the source contains lone surrogates")
    except ValueError:
        return Diagnostic(1, 1, "error", "invalid-syntax", "the source contains NUL characters or a number that is too long")
    except (RecursionError, MemoryError):
        return Diagnostic(1, 1, "error", "too_deep", "the source is nested too deeply")


def imported_names(source: str) -> list[str]:
    """Top-level names of all modules that a source imports, each once, in the order of their first import. A source that cannot be parsed imports nothing."""
    tree = parse(source)
    if isinstance(tree, Diagnostic):
        return []
    names: list[tuple[int, int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(node.lineno, node.col_offset, alias.name.partition(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.append((node.lineno, node.col_offset, node.module.partition(".")[0]))
    return list(dict.fromkeys(name for _, _, name in sorted(names, key=lambda found: found[:2])))


def resolve(main_source: str, modules: Mapping[str, str]) -> list[str]:
    """The load order of all modules that `main_source` needs: a module stands after those that it imports. Names that are not in `modules` are passed over.

    Raises Invalid `import_cycle` (with the path, `a -> b -> a`) and `import_depth` (a chain of more than 8 modules).
    """
    imports = {name: [found for found in imported_names(source) if found in modules] for name, source in modules.items()}
    order: list[str] = []
    for name in imported_names(main_source):
        if name in modules:
            _visit(name, imports, [], order)
    _check_depth(order, imports)
    return order


def _visit(name: str, imports: Mapping[str, list[str]], path: list[str], order: list[str]) -> None:
    """Depth first; `path` is bounded by `MAX_IMPORT_DEPTH`, so hostile chains do not exhaust the stack."""
    if name in path:
        cycle = " -> ".join((*path[path.index(name) :], name))
        raise Invalid(f"circular import: {cycle}", code="import_cycle", path=cycle)
    if name in order:
        return
    if len(path) >= MAX_IMPORT_DEPTH:
        raise _too_deep(" -> ".join((*path, name)))
    path.append(name)
    for imported in imports[name]:
        _visit(imported, imports, path, order)
    path.pop()
    order.append(name)


def _check_depth(order: list[str], imports: Mapping[str, list[str]]) -> None:
    """A module that was reached by a short way first may end a long one: measure the longest chain below each, in load order."""
    depth: dict[str, int] = {}
    for name in order:
        depth[name] = 1 + max((depth[imported] for imported in imports[name]), default=0)
        if depth[name] > MAX_IMPORT_DEPTH:
            raise _too_deep(name)


def _too_deep(path: str) -> Invalid:
    return Invalid(f"imports are nested deeper than {MAX_IMPORT_DEPTH} modules: {path}", code="import_depth", path=path)


def check_module_body(source: str) -> list[Diagnostic]:
    """Findings about what a module must not do at its top level: anything but declare. A source that cannot be parsed has one finding, that."""
    tree = parse(source)
    if isinstance(tree, Diagnostic):
        return [tree]
    return [
        Diagnostic(node.lineno, node.col_offset + 1, "error", "module_body", "only def, class, constants and imports may stand at the top level of a module")
        for index, node in enumerate(tree.body)
        if not (_declares(node) or (index == 0 and _is_docstring(node)))
    ]


def _declares(node: ast.stmt) -> bool:
    if isinstance(node, _DECLARATIONS):
        return True
    constant = isinstance(node, ast.Assign | ast.AnnAssign) and not any(isinstance(part, _NOT_CONSTANT) for part in ast.walk(node))
    return constant or isinstance(node, ast.Pass)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def check_endpoint_body(source: str) -> list[Diagnostic]:
    """Findings about an endpoint: it defines `handler(ctx)` at its top level."""
    tree = parse(source)
    if isinstance(tree, Diagnostic):
        return [tree]
    for node in tree.body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "handler":
            return [Diagnostic(node.lineno, node.col_offset + 1, "error", "handler_async", "handler must be a plain def, not async def")]
        if isinstance(node, ast.FunctionDef) and node.name == "handler":
            wrong = Diagnostic(node.lineno, node.col_offset + 1, "error", "handler_arguments", "handler takes one argument, ctx")
            return [] if _takes_one(node.args) else [wrong]
    return [Diagnostic(1, 1, "error", "handler_missing", "an endpoint defines handler(ctx) at its top level")]


def _takes_one(arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    keyword_only = any(default is None for default in arguments.kw_defaults)
    return (positional >= 1 or arguments.vararg is not None) and required <= 1 and not keyword_only
