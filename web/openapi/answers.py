"""Which answers an operation can have: those that it declares, and the problems that follow from what it takes and needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from web.documented import Answer
from web.openapi.facts import Facts
from web.openapi.schemas import Schemas
from web.problems import MEDIA_TYPE, codes_of

Schema = dict[str, Any]

REQUEST_ID: Final = "RequestId"
RETRY_AFTER: Final = "RetryAfter"
HEADERS: Final[Mapping[str, Schema]] = {
    REQUEST_ID: {
        "description": "The request's id: the caller's own if it was sane.",
        "required": True,
        "schema": {"type": "string"},
    },
    RETRY_AFTER: {"description": "In how many seconds to try again.", "required": True, "schema": {"type": "integer", "minimum": 1}},
}
PROBLEM: Final[Schema] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). Some problems have members beside these, as `conflicting_route` or `diagnostics`.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "`urn:picloud:problem:` and the code."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "minimum": 300, "maximum": 599},
        "code": {"type": "string", "description": "What went wrong, for programs: it stays the same, whatever the detail says."},
        "detail": {"type": "string", "description": "What went wrong, for people."},
        "field": {
            "type": "string",
            "description": "What it is about: a parameter, a header or, as a JSON path (`$.limits.memory_mib`), a member of the body.",
        },
    },
    "additionalProperties": True,
}
_RETRIED: Final = frozenset({429, 503})
_EVERYWHERE: Final = frozenset({400, 500, 503})
_UNDER_API: Final = frozenset({422, 429})
_API: Final = "/api/"
_OLD_SLUG: Final = 308
_TELLING: Final = {401: ("www-authenticate", "`Bearer`."), _OLD_SLUG: ("location", "The same place under the app's slug of now.")}
_APP: Final = "app"
_ANY: Final = "*/*"
_BYTES: Final = "application/octet-stream"


def problems_of(facts: Facts) -> set[int]:
    """The statuses of the problems that an operation can answer with."""
    found = {*_EVERYWHERE, *facts.problems}
    if facts.path.startswith(_API):
        found |= _UNDER_API
    if facts.has_body:
        found.add(413)
    if facts.needs is not None:
        found |= {401, 403}
    if _APP in facts.path_names:
        found.add(_OLD_SLUG)
    if facts.path_names or _APP in facts.query or _names_app(facts.body):
        found.add(404)
    if facts.changes:
        found.add(409)
    return found


def responses(facts: Facts, schemas: Schemas) -> Schema:
    """The answers of an operation by status."""
    found: Schema = {str(status): _declared(facts, status, answer, schemas) for status, answer in facts.answers.items()}
    for status in problems_of(facts):
        if str(status) in found:  # one status, two shapes
            found[str(status)]["content"] |= _problem_content()
        else:
            found[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
    return dict(sorted(found.items()))


def shared(statuses: Iterable[int]) -> Schema:
    """The answers that operations refer to."""
    return {_name(status): _problem(status) for status in sorted(statuses)}


def _declared(facts: Facts, status: int, answer: Answer, schemas: Schemas) -> Schema:
    headers = {name: {"description": said, "schema": {"type": "string"}} for name, said in answer.headers.items()}
    response: Schema = {"description": answer.description or f"{facts.summary}.", "headers": _headers((status,)) | headers}
    if answer.shape is not None:
        response["content"] = {answer.media_type or "application/json": {"schema": schemas.of(answer.shape)}}
    elif answer.media_type is not None:
        response["content"] = raw_content(answer.media_type)
    return response


def raw_content(media_type: str) -> Schema:
    """Bytes or text of a type; of any type also as the one that generators understand."""
    if media_type.startswith("text/"):
        return {media_type: {"schema": {"type": "string"}}}
    binary: Schema = {"schema": {"type": "string", "format": "binary"}}
    return {_BYTES: binary, _ANY: binary} if media_type == _ANY else {media_type: binary}


def _name(status: int) -> str:
    return f"Problem{status}"


def _problem(status: int) -> Schema:
    codes = "".join(f"\n\n`{code}`: {said}" for code, said in codes_of(status))
    response: Schema = {"description": f"{HTTPStatus(status).phrase}.{codes}", "headers": _headers((status,)), "content": _problem_content()}
    if status in _TELLING:
        name, said = _TELLING[status]
        response["headers"][name] = {"description": said, "required": True, "schema": {"type": "string"}}
    return response


def _problem_content() -> Schema:
    return {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


def _headers(statuses: Iterable[int]) -> Schema:
    found = {"x-request-id": {"$ref": f"#/components/headers/{REQUEST_ID}"}}
    if any(status in _RETRIED for status in statuses):
        found["retry-after"] = {"$ref": f"#/components/headers/{RETRY_AFTER}"}
    return found


def _names_app(body: Any) -> bool:
    """Whether a body says which app it is about."""
    return "app_id" in getattr(body, "__struct_fields__", ())
