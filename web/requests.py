"""What the front has settled about a request before anybody handles it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from uuid_utils.compat import uuid7

_IS_HEAD: Final = "is_head"
_IS_OPTIONS: Final = "is_options"
_SANE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")


def choose_request_id(incoming: str | None) -> str:
    """The caller's own id if it is sane (1 to 128 plain characters), else a new UUIDv7."""
    if incoming is not None and _SANE_ID.fullmatch(incoming):
        return incoming
    made: UUID = uuid7()
    return str(made)


def request_id_of(scope: Mapping[str, Any]) -> str:
    """The request's id, as `x-request-id` will say."""
    request_id: str = scope["state"]["request_id"]
    return request_id


def address_of(scope: Mapping[str, Any]) -> str:
    """The caller's address; empty when there is none (a Unix socket)."""
    client = scope.get("client")
    return client[0] if client else ""


def is_options(scope: Mapping[str, Any]) -> bool:
    """Whether the caller only asks which methods there are: Litestar's own answer misses some where several handlers share a path."""
    return bool(scope["state"].get(_IS_OPTIONS, False))


def note_options(scope: Mapping[str, Any]) -> None:
    """Remember what `is_options` tells."""
    scope["state"][_IS_OPTIONS] = scope["method"] == "OPTIONS"


def is_head(scope: Mapping[str, Any]) -> bool:
    """Whether the caller wants no body: the control plane is given HEAD as GET."""
    return bool(scope["state"].get(_IS_HEAD, False))


def note_head(scope: Mapping[str, Any]) -> None:
    """Remember what `is_head` tells."""
    scope["state"][_IS_HEAD] = scope["method"] == "HEAD"
