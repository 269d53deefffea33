"""The SDK's `.pyi`, assembled from one part per service: what the check at upload and an editor know about a script's globals."""

from __future__ import annotations

import ast
from functools import cache
from typing import Final

from adapters.sandbox.prelude import EXPORTS, SDK_FOLDER

_PARTS: Final = ("core", *EXPORTS)


@cache
def sdk_stub() -> str:
    """The stub of all globals that scripts have. Names with a leading underscore are not exported."""
    return "\n".join(_part(name) for name in _PARTS)


def _part(name: str) -> str:
    return (SDK_FOLDER / f"{name}.pyi").read_text()


@cache
def module_stubs() -> dict[str, str]:
    """Stubs for `import kv`: the object's methods as the module's functions."""
    return {name: f"{_part(name)}\n{_methods(name)}" for name in EXPORTS if _class_of(name) is not None}


def _methods(name: str) -> str:
    declared = _class_of(name)
    assert declared is not None
    return "".join(f"{node.name} = {name}.{node.name}\n" for node in declared.body if isinstance(node, ast.FunctionDef))


def _class_of(name: str) -> ast.ClassDef | None:
    """The class of the global `name`; None for a plain function."""
    body = ast.parse(_part(name)).body
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name and isinstance(node.annotation, ast.Name):
            return classes[node.annotation.id]
    return None
