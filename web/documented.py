"""What a handler adds to the OpenAPI document where its signature does not tell: `opt=needs(...) | documented(...)`. `web.openapi` reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from litestar.handlers import BaseRouteHandler

from domain.authz import Capability

_OPT: Final = "documented"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer beside or instead of the one that the signature tells. `shape` is a type that msgspec knows; `media_type` without one: bytes; neither: no body.

    `headers` are names with what they say.
    """

    description: str
    shape: Any = None
    media_type: str | None = None
    headers: Mapping[str, str] = {}


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """One of several operations that share a handler, because a suffix of the path (`:find`) tells them apart. What is None is as the handler says."""

    id: str
    suffix: str = ""
    summary: str
    body: Any = None
    answers: Mapping[int, Answer] | None = None
    needs: Sequence[Capability] | None = None


class Documented(msgspec.Struct, frozen=True, kw_only=True):
    """See `documented`."""

    answers: Mapping[int, Answer] = {}
    problems: Sequence[int] = ()
    request_headers: Mapping[str, str] = {}
    actions: Sequence[Action] = ()


def documented(
    *,
    answers: Mapping[int, Answer] | None = None,
    problems: Sequence[int] = (),
    request_headers: Mapping[str, str] | None = None,
    actions: Sequence[Action] = (),
) -> dict[str, Any]:
    """`opt=` of a route: further answers by status, statuses of further problems, request headers, and the operations that it stands for if not for one."""
    return {_OPT: Documented(answers=answers or {}, problems=problems, request_headers=request_headers or {}, actions=actions)}


def documented_of(handler: BaseRouteHandler) -> Documented:
    """What a route adds; nothing unless it says so."""
    found: Documented = handler.opt.get(_OPT, Documented())
    return found
