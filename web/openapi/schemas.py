"""JSON Schemas of the Structs that requests and answers are made of, as msgspec reads and writes them."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_REF: Final = "#/components/schemas/"
_GENERIC: Final = re.compile(r"([A-Za-z]\w*?)_(.+)_")
_TIME: Final = "_at"
_WORD: Final = re.compile(r"[A-Za-z0-9]+")

Schema = dict[str, Any]


class Schemas:
    """Collects components. Two Structs of one name get numbers, so that the document stays valid; a test asks for other names."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._raw: dict[str, tuple[str, Schema]] = {}

    def of(self, shape: Any) -> Schema:
        """The schema of a type; of a Struct a reference to it."""
        made = msgspec.json.schema_components((shape,), ref_template=_REF + "{name}")
        (schema,), found = msgspec.json.decode(msgspec.json.encode(made))  # defaults are Python's values, tuples too
        names = {name: self._place(name, component) for name, component in found.items()}
        for name, component in found.items():
            self.components.setdefault(names[name], _renamed(component, names))
        renamed: Schema = _renamed(schema, names)
        return renamed

    def _place(self, name: str, component: Schema) -> str:
        """The name that a component has in the document."""
        wanted = _readable(name)
        number = 1
        while True:
            chosen = wanted if number == 1 else f"{wanted}{number}"
            known = self._raw.setdefault(chosen, (name, component))
            if known[1] == component:
                return chosen
            number += 1


def _readable(name: str) -> str:
    """`AppPage` for `Page_web.admin.apps.App_`."""
    generic = _GENERIC.fullmatch(name)
    if generic is None:
        return "".join(word[:1].upper() + word[1:] for word in _WORD.findall(name))
    return _readable(generic[2].rpartition(".")[2]) + generic[1]


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """A schema with its references by the document's names; docstrings without the line breaks of our sources."""
    if isinstance(value, dict):
        return _typed({key: _renamed_member(key, item, names) for key, item in value.items()})
    return [_renamed(item, names) for item in value] if isinstance(value, list) else value


def _typed(schema: Schema) -> Schema:
    """What msgspec leaves out because it says nothing about what is accepted, and generators want: the type of an enum, and the format of times.

    It knows none of times that may be without a zone. Ours never are, and bear names in `_at`.
    """
    values = schema.get("enum")
    if isinstance(values, list) and "type" not in schema:
        schema["type"] = ["string", "null"] if None in values else "string"
    for name, member in (schema.get("properties") or {}).items():
        for each in (member, *member.get("anyOf", ())) if name.endswith(_TIME) else ():
            if each.get("type") == "string":
                each["format"] = "date-time"
    return schema


def _renamed_member(key: str, item: Any, names: dict[str, str]) -> Any:
    if key == "$ref":
        return _REF + names[item.removeprefix(_REF)]
    if key == "description" and isinstance(item, str):
        return " ".join(item.split())
    return _renamed(item, names)
