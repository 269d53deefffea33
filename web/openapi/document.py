"""The document as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from litestar import Litestar

from domain.authz import RULES, Capability, highest
from runtime.version import read_version
from web.admin.needs import of_instance
from web.openapi import data_plane
from web.openapi.answers import HEADERS, PROBLEM, problems_of, raw_content, responses, shared
from web.openapi.facts import Facts
from web.openapi.handlers import operations, tags
from web.openapi.parameters import parameters
from web.openapi.schemas import Schemas
from web.security import SESSION_COOKIE

Schema = dict[str, Any]

NEEDS: Final = "x-picloud-needs"
_ABOUT: Final = """\
The control plane of a PiCloud instance, and those calls of its data plane that are the same everywhere. Apps bring routes of their own, which are not here.

Every refusal is a problem document (RFC 9457) with a stable `code`. Beside what each operation says: a known path answers 405 to another method, with `Allow`;
an unknown path under `/api/` is 404; HEAD is GET without the body. What never becomes a request is refused by the connection itself, which is then closed: 408
when it does not arrive in time, 414 for a target over 8 KiB, 431 for a head over 64 KiB or 100 headers.

`x-picloud-needs` says what a caller needs: `capabilities`, decided in one app or for the instance (`of`), the least `role` that has them, and of an API key the
`scopes`. What a caller may not see is 404, what they may see but not do is 403.
"""
_BEARER: Final[Schema] = {
    "type": "http",
    "scheme": "bearer",
    "description": "A session's token (POST /api/v1/admin/auth/login), or an API key.",
}
_COOKIE: Final[Schema] = {
    "type": "apiKey",
    "in": "cookie",
    "name": SESSION_COOKIE,
    "description": "A browser's session. A change by cookie must come with an `Origin` of this host.",
}
_UPLOAD: Final[Schema] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The bytes."},
        "name": {"type": "string", "description": "The file's name; that of the part unless it is given."},
        "content_type": {"type": "string", "description": "The file's type; that of the part unless it is given."},
    },
    "additionalProperties": False,
}


def build_document(app: Litestar) -> Schema:
    """OpenAPI 3.1 as plain values."""
    schemas = Schemas()
    paths: Schema = {}
    statuses: set[int] = set()
    for facts in (*operations(app), *data_plane.polls()):
        _add(paths, facts, _operation(facts, schemas))
        statuses |= problems_of(facts)
    for facts in data_plane.runs():
        _add(paths, facts, _run(facts, schemas))
        statuses |= problems_of(facts)
    for facts in data_plane.streams():
        _add(paths, facts, _operation(facts, schemas) | {"security": [{}, *_SECURITY, {data_plane.SUBSCRIBER: []}]})
    return {
        "openapi": "3.1.0",
        "info": {"title": "PiCloud", "version": read_version().api, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": _SECURITY,
        "tags": [{"name": name, "description": said} for name, said in (tags(app) | data_plane.TAGS).items()],
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM, **dict(sorted(schemas.components.items()))},
            "responses": shared(statuses),
            "headers": dict(HEADERS),
            "securitySchemes": {"bearer": _BEARER, "cookie": _COOKIE, data_plane.SUBSCRIBER: data_plane.SUBSCRIBER_SCHEME},
        },
    }


_SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"cookie": []}]


def _add(paths: Schema, facts: Facts, operation: Schema) -> None:
    paths.setdefault(facts.path, {})[facts.method.lower()] = operation


def _operation(facts: Facts, schemas: Schemas) -> Schema:
    operation: Schema = {"operationId": facts.id, "tags": [facts.tag], "summary": facts.summary}
    if facts.description:
        operation["description"] = facts.description
    if facts.needs is None:
        operation["security"] = []
    else:
        operation[NEEDS] = _needed(facts.needs)
    if found := list(parameters(facts)):
        operation["parameters"] = found
    if facts.has_body:
        operation["requestBody"] = {"required": True, "content": _body(facts, schemas)}
    return operation | {"responses": responses(facts, schemas)}


def _run(facts: Facts, schemas: Schemas) -> Schema:
    operation = _operation(facts, schemas) | {NEEDS: _needed((Capability.EXECUTE,))}
    if facts.method not in {"GET", "DELETE"}:
        operation["requestBody"] = {"required": False, "content": {"application/json": {"schema": {}}, **raw_content("application/octet-stream")}}
    operation["responses"]["default"] = data_plane.any_answer()
    return operation


def _body(facts: Facts, schemas: Schemas) -> Schema:
    return {"multipart/form-data": {"schema": _UPLOAD}} if facts.is_upload else {"application/json": {"schema": schemas.of(facts.body)}}


def _needed(capabilities: Sequence[Capability]) -> Schema:
    rules = [RULES[capability] for capability in capabilities]
    return {
        "capabilities": [str(capability) for capability in capabilities],
        "of": ("instance" if of_instance(capabilities) else "app") if capabilities else None,
        "role": highest(rule.role for rule in rules),
        "scopes": sorted({rule.scope for rule in rules}),
    }
