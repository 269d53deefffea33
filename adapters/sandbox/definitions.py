"""The SDK's Monty code as definitions, and which of them a script can reach.

A run compiles what it is fed, at a third of a microsecond for every name and operator, so it is fed no more than the script can name: a definition (or a
method) that no text mentions, neither the script's and its modules' nor that of another definition which is fed, cannot be called. Where a script looks
names up by strings (`DYNAMIC`) every method is fed.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

import msgspec

DYNAMIC: Final = frozenset({"getattr", "hasattr", "eval", "exec", "format", "format_map", "locals", "globals", "vars", "__getattribute__"})
"""With one of these a script can reach attributes that its text does not name."""

_WORD: Final = re.compile(r"\w+")


def words_of(texts: Iterable[str]) -> set[str]:
    """All identifiers (and other words) of these texts, in the form in which Python compares identifiers."""
    found: set[str] = set()
    for text in texts:
        found.update(_WORD.findall(text if text.isascii() else unicodedata.normalize("NFKC", text)))
    return found


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A statement of the SDK: the names that it binds and those that it mentions, attributes with a dot in front.

    A class's methods are definitions of their own, which bind attributes.
    """

    binds: frozenset[str]
    mentions: frozenset[str]
    text: str
    methods: tuple[Definition, ...] = ()


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What is fed: text for the start, texts for when they are asked for by name, and the host calls in them."""

    text: str
    late: dict[str, str]
    host_calls: tuple[str, ...]


def parse(text: str) -> tuple[Definition, ...]:
    """The definitions of a part, without its comments."""
    return tuple(_definition(node) for node in ast.parse(text).body)


def _definition(node: ast.stmt) -> Definition:
    if isinstance(node, ast.ClassDef):
        methods = tuple(_method(method) for method in node.body if isinstance(method, ast.FunctionDef))
        return Definition(binds=frozenset({node.name}), mentions=frozenset(), text=f"class {node.name}:", methods=methods)
    return Definition(binds=frozenset(_bound(node)), mentions=frozenset(_mentioned(node)), text=ast.unparse(node))


def _method(node: ast.FunctionDef) -> Definition:
    return Definition(binds=frozenset({f".{node.name}"}), mentions=frozenset(_mentioned(node)), text=ast.unparse(node))


def _bound(node: ast.stmt) -> Iterable[str]:
    if isinstance(node, ast.FunctionDef):
        return (node.name,)
    if isinstance(node, ast.Import | ast.ImportFrom):
        return (alias.asname or alias.name for alias in node.names)
    assert isinstance(node, ast.Assign), f"the SDK has no use for {ast.unparse(node)}"
    return (target.id for target in node.targets if isinstance(target, ast.Name))


def _mentioned(node: ast.stmt) -> Iterable[str]:
    """Names, attributes, and strings that could be the name of a late definition (these also with a quote in front)."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute):
            yield f".{part.attr}"
        elif isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value.startswith("_"):
            yield from (part.value, f"'{part.value}")


def roots(definitions: tuple[Definition, ...], words: set[str]) -> frozenset[str]:
    """The words that matter, as names and as attributes."""
    return frozenset(name for definition in definitions for each in (definition, *definition.methods) for name in each.binds if name.lstrip(".") in words)


def select(definitions: tuple[Definition, ...], late: tuple[Definition, ...], roots: frozenset[str], *, every_method: bool) -> Selection:
    """What code that mentions these roots can reach."""
    wanted = _closure((*definitions, *late), roots, every_method=every_method)
    texts = [_text(definition, wanted, every_method=every_method) for definition in definitions if definition.binds & wanted]
    return Selection(
        text="\n".join(texts),
        late={name: _late_text(late, name) for definition in late for name in definition.binds if f"'{name}" in wanted},
        host_calls=tuple(sorted(word for word in wanted if word.startswith("_sys_"))),
    )


def _closure(definitions: tuple[Definition, ...], roots: frozenset[str], *, every_method: bool) -> frozenset[str]:
    """These roots and all that the definitions which they reach mention."""
    wanted = roots
    while True:
        reached = [definition for definition in definitions if definition.binds & wanted]
        reached += [method for definition in reached for method in definition.methods if every_method or _is_called(method, wanted)]
        grown = wanted.union(*(definition.mentions for definition in reached))
        if grown == wanted:
            return wanted
        wanted = grown


def _is_called(method: Definition, wanted: frozenset[str]) -> bool:
    """Those with underscores are called without being named."""
    return bool(method.binds & wanted) or any(name.startswith(".__") for name in method.binds)


def _text(definition: Definition, wanted: frozenset[str], *, every_method: bool) -> str:
    if not definition.methods:
        return definition.text
    methods = [method.text for method in definition.methods if every_method or _is_called(method, wanted)] or ["pass"]
    return "\n".join((definition.text, *(f"    {line}" for method in methods for line in method.split("\n"))))


def _late_text(late: tuple[Definition, ...], name: str) -> str:
    """That definition and the late ones that it needs."""
    wanted = _closure(late, frozenset({name}), every_method=False)
    return "\n".join(definition.text for definition in late if definition.binds & wanted)
