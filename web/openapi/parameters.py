"""What parameters hold, by their names: a name means the same everywhere, so that handlers declare nothing but the name.

They reach handlers as text and are read there (`domain.cursors`, `web.paths`); this is the same told in JSON Schema. A route whose parameter differs says how
in `QueryParameter(schema_extra=...)` or `PathParameter(...)`. Names that are not here are any text, but for names of ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from domain.cursors import DEFAULT_LIMIT, MAX_LIMIT, MAX_POSITION
from web.openapi.facts import Facts

Schema = dict[str, Any]

_MAX_CURSOR_CHARS: Final = 6000
"""A place in a list of the longest keys, escaped; a target has room for it."""
_TEXT: Final[Schema] = {"type": "string"}
_ID: Final[Schema] = {"type": "string", "format": "uuid"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_POSITION: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": MAX_POSITION}

_IN_PATH: Final[Mapping[str, tuple[Schema, str]]] = {
    "app": ({"type": "string", "minLength": 1}, "An app, by id or slug."),
    "script": (_ID, "A script's id."),
    "route": (_ID, "A route's id."),
    "trigger": (_ID, "A trigger's id."),
    "execution": (_ID, "An execution's id."),
    "dead_letter": (_ID, "A dead letter's id: that of its execution."),
    "user": (_ID, "A user's id."),
    "collection": ({"type": "string", "minLength": 1}, "A collection's name, percent-encoded."),
    "key": ({"type": "string", "minLength": 1}, "A key, percent-encoded: a slash in it is `%2F`."),
    "id": ({"type": "string", "minLength": 1}, "A document's id, percent-encoded."),
    "name": ({"type": "string", "minLength": 1}, "A name, percent-encoded."),
    "kid": ({"type": "string", "minLength": 1}, "A signing key's id."),
    "number": ({"type": "integer", "minimum": 1}, "A version of a script's source."),
    "position": (_POSITION, "A position in the log."),
}
_IN_QUERY: Final[Mapping[str, tuple[Schema, str]]] = {
    "limit": ({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}, "The most items of a page."),
    "cursor": (
        {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": _MAX_CURSOR_CHARS},
        "Where to go on: `next_cursor` of the page before. It holds nothing but a place in this list.",
    ),
    "at": ({"anyOf": [_POSITION, _TIME]}, "As it was: at a position of the log, or at a time (RFC 3339, with its zone)."),
    "after": (_POSITION, "Only what stands behind this position of the log."),
    "from": (_TIME, "Not before this time (RFC 3339, with its zone)."),
    "to": (_TIME, "Before this time (RFC 3339, with its zone)."),
    "app": ({"type": "string", "minLength": 1}, "Only of this app, by id or slug."),
    "script": (_ID, "Only of this script."),
    "trigger": (_ID, "Only of this trigger."),
    "correlation_id": (_ID, "Only what this execution at the root has caused."),
    "topic": (_TEXT, "Only events of this topic, as `kv.KvSet`."),
    "stream": (_TEXT, "Only events of this stream."),
    "actor": (_TEXT, "Only what this actor did, as `user:<id>`, `key:<id>`, `public` or `system`."),
    "prefix": (_TEXT, "Only keys that begin with it."),
    "unresolved": ({"type": "boolean", "default": False}, "Only those that are not resolved."),
    "force": ({"type": "boolean", "default": False}, "Do it although something depends on it."),
}


def parameters(facts: Facts) -> Iterator[Schema]:
    """The parameters of an operation: path, query, headers."""
    for name in facts.path_names:
        yield _parameter("path", name, *_told(_IN_PATH, name, facts.path_extra.get(name, {})), required=True)
    for name, extra in facts.query.items():
        yield _parameter("query", name, *_told(_IN_QUERY, name, extra), required=name in facts.required_query)
    for name, said in facts.request_headers.items():
        yield _parameter("header", name, _TEXT, said, required=False)


def _told(known: Mapping[str, tuple[Schema, str]], name: str, extra: Mapping[str, Any]) -> tuple[Schema, str]:
    """The schema and description of a name, those of its route before those of all."""
    schema, said = known.get(name, (_guess(name), ""))
    own = dict(extra)
    said = str(own.pop("description", said))
    return schema | own, said


def _guess(name: str) -> Schema:
    return _ID if name.endswith("_id") else _TEXT


def _parameter(place: str, name: str, schema: Schema, said: str, *, required: bool) -> Schema:
    parameter: Schema = {"name": name, "in": place, "required": required, "schema": schema}
    return parameter | {"description": said} if said else parameter
