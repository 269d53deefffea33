"""Errors as HTTP answers (RFC 9457): the only place that knows status codes.

A problem document is `{type, title, status, code, detail, field?, ...}`; whatever else an error carries (`conflicting_route`, `diagnostics`) stands beside the
standard members and never replaces one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from litestar.exceptions import HTTPException, ValidationException

from domain import errors
from domain.errors import PiCloudError, Throttled

Headers = list[tuple[bytes, bytes]]

MEDIA_TYPE: Final = "application/problem+json"
_INTERNAL: Final = 500

log = structlog.get_logger(__name__)


class MethodNotAllowed(PiCloudError):
    """This resource does not know that method."""

    CODE = "method_not_allowed"


class RequestTimeout(PiCloudError):
    """The request did not arrive in time."""

    CODE = "request_timeout"


class UriTooLong(PiCloudError):
    """The request target is too long."""

    CODE = "uri_too_long"


class RangeNotSatisfiable(PiCloudError):
    """None of the bytes that are asked for exist."""

    CODE = "range_not_satisfiable"


class HeadersTooLarge(PiCloudError):
    """The head of the request is too large."""

    CODE = "headers_too_large"


_STATUSES: Final[Mapping[type[PiCloudError], int]] = {
    errors.Moved: 308,
    errors.Malformed: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    MethodNotAllowed: 405,
    RequestTimeout: 408,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    UriTooLong: 414,
    RangeNotSatisfiable: 416,
    errors.Invalid: 422,
    errors.Throttled: 429,
    HeadersTooLarge: 431,
    errors.ScriptRaised: 502,
    errors.Overloaded: 503,
    errors.Contention: 503,
    errors.Unavailable: 503,
    errors.ScriptTimedOut: 504,
    errors.BudgetExceeded: 507,
    PiCloudError: _INTERNAL,
}
_FOREIGN: Final[Mapping[int, type[PiCloudError]]] = {
    400: errors.Malformed,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: MethodNotAllowed,
    413: errors.TooLarge,
}


def status_of(error: PiCloudError) -> int:
    """The status of an error: that of its nearest ancestor in the table."""
    return _status_of(type(error))


def codes_of(status: int) -> list[tuple[str, str]]:
    """The codes of the problems that have a status, each with what it means. Single places give more precise ones."""
    kinds = sorted(_family(PiCloudError), key=lambda kind: kind.CODE)
    found = {kind.CODE: (kind.__doc__ or "").strip() for kind in kinds if _status_of(kind) == status}
    return list(found.items())


def problem(error: PiCloudError) -> tuple[int, Headers, bytes]:
    """An error as status, headers and body. Pure; `translate` makes a PiCloudError of anything else."""
    status = status_of(error)
    body = _encode(_document(error, status))
    headers: Headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    if isinstance(error, Throttled):
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, errors.Moved):
        headers.append((b"location", error.location.encode()))
    if isinstance(error, MethodNotAllowed) and "allow" in error.extra:
        headers.append((b"allow", ", ".join(error.extra["allow"]).encode("latin-1")))
    if isinstance(error, RangeNotSatisfiable):
        headers.append((b"content-range", b"bytes */%d" % error.extra["size"]))
    return status, headers, body


def translate(error: Exception, request_id: str) -> PiCloudError:
    """Any exception as one of ours. What nobody foresaw is logged with the request's id and tells the caller nothing."""
    if isinstance(error, PiCloudError):
        if status_of(error) == _INTERNAL:
            log.error("request_failed", request_id=request_id, code=error.code, detail=error.detail)
        return error
    if isinstance(error, ValidationException):
        return _invalid_parameter(error)
    if isinstance(error, HTTPException) and error.status_code in _FOREIGN:
        return _foreign(error)
    log.error("request_failed", request_id=request_id, exc_info=error)
    return PiCloudError(request_id=request_id)


def _status_of(kind: type[PiCloudError]) -> int:
    return next(_STATUSES[each] for each in kind.__mro__ if each in _STATUSES)


def _family(kind: type[PiCloudError]) -> Iterator[type[PiCloudError]]:
    yield kind
    for heir in kind.__subclasses__():
        yield from _family(heir)


def _document(error: PiCloudError, status: int) -> dict[str, Any]:
    document = {
        **error.extra,
        "type": f"urn:picloud:problem:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "detail": error.detail,
    }
    if error.field is not None:
        document["field"] = error.field
    return document


def _encode(document: dict[str, Any]) -> bytes:
    """A detail may quote what the caller sent, even what UTF-8 cannot carry."""
    try:
        return msgspec.json.encode(document, enc_hook=str)
    except UnicodeEncodeError:
        clean = {key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else repr(value) for key, value in document.items()}
        return msgspec.json.encode({**clean, "status": document["status"]})


def _invalid_parameter(error: ValidationException) -> PiCloudError:
    """A query or header parameter that Litestar refused; it says which in `extra`."""
    found = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    field = found.get("key")
    if field == "data":  # Litestar's name for the body
        return errors.Malformed("the body is empty; a JSON value is expected")
    return errors.Invalid(f"{field}: {found.get('message', 'not acceptable')}" if field else error.detail, field=field)


def _foreign(error: HTTPException) -> PiCloudError:
    kind = _FOREIGN[error.status_code]
    if kind is MethodNotAllowed:
        allowed = (error.headers or {}).get("Allow", (error.headers or {}).get("allow", ""))
        return MethodNotAllowed(allow=[method.strip() for method in allowed.split(",") if method.strip()])
    return kind(error.detail if kind is errors.Malformed else None)
