"""What a script answered, made ready to send. Runs in the sandbox's thread; everything that comes in is untrusted."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from domain.errors import Invalid
from domain.sandbox import RawEffect, Reply
from domain.values import MAX_DEPTH, check_json

_CONTENT_TYPES: Final = {"json": "application/json", "text": "text/plain; charset=utf-8", "raw": "application/octet-stream", "none": None}
_FORBIDDEN: Final = ("\r", "\n", "\x00")
_FORGED: Final = "result: this is not what the SDK hands over"


def make_reply(answer: Any) -> Reply:
    """Build the answer from what the prelude's `_answer` returns. Raises TypeError or ValueError with a message for the script's author.

    That is: a structured result's dict without its body (else None), what the body is (`json`, JSON text; `text`; `raw`, bytes; `none`), and the body.
    """
    if not isinstance(answer, tuple) or len(answer) != 3 or not (answer[0] is None or isinstance(answer[0], dict)):
        raise TypeError(_FORGED)
    head, kind, body = answer
    data = _body(kind, body)
    status, headers = (204 if kind == "none" else 200, {}) if head is None else _head(head)
    content_type = _CONTENT_TYPES[kind]
    if content_type is not None and "content-type" not in headers:
        headers["content-type"] = content_type
    return Reply(status, headers, data)


def _head(head: dict[Any, Any]) -> tuple[int, dict[str, str]]:
    """Status and headers of a structured result."""
    for key in head:
        if key not in ("statusCode", "headers"):
            raise ValueError(f"result: unknown key {str(key)[:80]!r} beside statusCode")
    status = head.get("statusCode")
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(f"result: statusCode must be int, not {type(status).__name__}")
    if not 200 <= status <= 599:
        raise ValueError("result: statusCode must be within 200 and 599")
    return status, _headers(head.get("headers"))


def _headers(headers: Any) -> dict[str, str]:
    """Header names in lower case."""
    if headers is None:
        return {}
    if not isinstance(headers, dict):
        raise TypeError(f"result: headers must be dict, not {type(headers).__name__}")
    checked: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"result: headers must map str to str, not {type(name).__name__} to {type(value).__name__}")
        if not _is_token(name):
            raise ValueError(f"result: {name[:80]!r} is not a header name")
        if any(char in value for char in _FORBIDDEN):
            raise ValueError(f"result: header {name} contains CR, LF or NUL")
        if not _is_latin(value):
            raise ValueError(f"result: header {name} contains characters beyond ISO 8859-1")
        checked[name.lower()] = value
    return checked


def _is_token(name: str) -> bool:
    """RFC 9110, 5.6.2."""
    return bool(name) and name.isascii() and all(char.isalnum() or char in "!#$%&'*+-.^_`|~" for char in name)


def _is_latin(value: str) -> bool:
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _body(kind: Any, body: Any) -> bytes:
    if kind == "none" and body is None:
        return b""
    if kind == "raw" and isinstance(body, bytes):
        return body
    if kind == "text" and isinstance(body, str):
        return body.encode()
    if kind == "json" and isinstance(body, str):
        return _checked_json(body)
    raise TypeError(_FORGED)


def _checked_json(text: str) -> bytes:
    """JSON text as bytes. Few brackets cannot be deep, so most answers are not parsed again."""
    data = text.encode()
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        try:
            check_json(msgspec.json.decode(data), "result")
        except Invalid as error:
            raise ValueError(error.detail) from None
        except (msgspec.DecodeError, RecursionError):
            raise ValueError(f"result: not JSON, or nested deeper than {MAX_DEPTH} levels") from None
    return data


def make_effects(effects: Any) -> tuple[RawEffect, ...]:
    """Give the buffered effects their shape; their arguments are for the service that owns them. Raises TypeError."""
    if not isinstance(effects, list):
        raise TypeError(_FORGED)
    shaped = []
    for effect in effects:
        if not isinstance(effect, tuple) or not effect or not isinstance(effect[0], str):
            raise TypeError(_FORGED)
        shaped.append(RawEffect(effect[0], effect[1:]))
    return tuple(shaped)
