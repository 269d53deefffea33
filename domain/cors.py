"""Which pages of other origins may read an app's answers (the Fetch standard's CORS protocol)."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from domain.errors import Invalid

ANY: Final = "*"
_MAX_ITEMS: Final = 100
_MAX_CHARS: Final = 300
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_FORBIDDEN_METHODS: Final = frozenset({"CONNECT", "TRACE", "TRACK"})

Names = Annotated[tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=_MAX_CHARS)], ...], msgspec.Meta(max_length=_MAX_ITEMS)]


class Cors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`origins` are exact (`https://shop.example`) or `*`; without any, PiCloud says nothing of CORS and scripts may say what they like.

    `methods` and `headers` are those that requests of these pages may have, `expose` the headers of answers that they may read; `*` among `headers` allows
    all. `credentials` lets them send cookies. `max_age_s` is how long a browser may remember this.
    """

    origins: Names = ()
    methods: Names = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    headers: Names = ("authorization", "content-type", "idempotency-key", "last-event-id", "prefer")
    expose: Names = ("location", "ratelimit", "ratelimit-policy", "retry-after", "x-execution-id", "x-request-id")
    credentials: bool = False
    max_age_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 600


def check_cors(cors: Cors, field: str = "$.cors") -> Cors:
    """The settings in canonical form. Raises Invalid naming the field."""
    checked = Cors(
        origins=tuple(dict.fromkeys(_origin(text, f"{field}.origins[{at}]") for at, text in enumerate(cors.origins))),
        methods=tuple(dict.fromkeys(_method(text, f"{field}.methods[{at}]") for at, text in enumerate(cors.methods))),
        headers=_tokens(cors.headers, f"{field}.headers"),
        expose=_tokens(cors.expose, f"{field}.expose"),
        credentials=cors.credentials,
        max_age_s=cors.max_age_s,
    )
    if checked.credentials and ANY in checked.origins:
        raise Invalid(f"{field}.credentials: they are for origins that are named, not for every one (*)", field=f"{field}.credentials")
    if checked.credentials and ANY in checked.expose:
        raise Invalid(f"{field}.expose: with credentials, browsers take * for a header of that name; name them", field=f"{field}.expose")
    return checked


def _origin(text: str, field: str) -> str:
    """As browsers send it: lower case, without the scheme's own port."""
    if text == ANY:
        return text
    found = _ORIGIN.fullmatch(text.lower())
    if found is None or int(found[3] or 0) > 65535:
        raise Invalid(f"{field}: expected * or an origin such as https://shop.example, without a path", field=field)
    scheme, host, port = found.groups()
    return f"{scheme}://{host}" if port is None or port == _DEFAULT_PORTS.get(scheme) else f"{scheme}://{host}:{int(port)}"


def _method(text: str, field: str) -> str:
    if _TOKEN.fullmatch(text) is None or text == ANY or text.upper() in _FORBIDDEN_METHODS:
        raise Invalid(f"{field}: expected the name of a method", field=field)
    return text.upper()


def _tokens(names: tuple[str, ...], field: str) -> tuple[str, ...]:
    for at, name in enumerate(names):
        if _TOKEN.fullmatch(name) is None:
            raise Invalid(f"{field}[{at}]: expected the name of a header", field=f"{field}[{at}]")
    return tuple(dict.fromkeys(name.lower() for name in names))
