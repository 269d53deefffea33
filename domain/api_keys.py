"""API keys: `api_key:<id>` streams in the instance's own log. What they open is known here; the token is known to its bearer alone, its hash to the vault.

A key ends by being revoked, or with its owner's deactivation or deletion, or with the app that it is bound to: for good in each case. The events of those say
so, the key's own stream does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, get_args
from uuid import UUID

from domain.aggregates import Aggregate
from domain.authz import Principal, Scope
from domain.errors import Invalid
from domain.events import Event
from domain.ids import stream
from domain.values import check_text

TOKEN_PREFIX: Final = "pic_"  # noqa: S105  # what every token begins with
SECRET_BYTES: Final = 32
MAX_KEYS: Final = 100
"""Of a user, expired ones left out."""
MAX_NAME_CHARS: Final = 100
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_SHOWN_CHARS: Final = len(TOKEN_PREFIX) + 8
_TOKEN: Final = re.compile(rf"{TOKEN_PREFIX}[A-Za-z0-9_-]{{43}}")


class ApiKeyCreated(Event, frozen=True, kw_only=True):
    """A user has made a key. `prefix` is the part of the token that lists show; `app_id` is the one app that it works in, None: in all of its owner's."""

    TOPIC = "api_keys.ApiKeyCreated"
    key_id: UUID
    user_id: UUID
    name: str
    prefix: str
    scopes: tuple[Scope, ...]
    app_id: UUID | None = None
    expires_at: datetime | None = None


class ApiKeyRevoked(Event, frozen=True, kw_only=True):
    """A key opens nothing any more."""

    TOPIC = "api_keys.ApiKeyRevoked"
    key_id: UUID
    user_id: UUID


def api_key_stream(key_id: UUID) -> str:
    """The stream of a key, in the nil log."""
    return stream("api_key", key_id)


def keys_guard(user_id: UUID) -> str:
    """The guard that every new key of a user moves, so that two cannot both be the last that he may have."""
    return stream("api_keys", user_id)


def is_token(text: str) -> bool:
    """Whether a text has the form of a key's token: `pic_` and 32 bytes in base64url."""
    return _TOKEN.fullmatch(text) is not None


def prefix_of(token: str) -> str:
    """The part of a token that is no secret, by which it is found: 48 of its 256 bits."""
    return token[:_SHOWN_CHARS]


def check_key_name(name: str) -> str:
    """What people call a key: 1 to 100 characters; raises Invalid."""
    check_text(name, "name")
    if not 0 < len(name.strip()) <= MAX_NAME_CHARS:
        raise Invalid(f"name: 1 to {MAX_NAME_CHARS} characters", field="name")
    return name.strip()


def check_scopes(scopes: Iterable[Scope], app_id: UUID | None) -> tuple[Scope, ...]:
    """A key's scopes in one order, each once; raises Invalid for none, and for what a key of one app cannot have."""
    found = tuple(scope for scope in SCOPES if scope in set(scopes))
    if not found:
        raise Invalid("scopes: at least one is needed", field="scopes")
    if app_id is not None and "instance:admin" in found:
        raise Invalid("scopes: a key that is bound to an app cannot have instance:admin", field="scopes")
    return found


def refuse_wider(maker: Principal, maker_expires_at: datetime | None, key: ApiKeyCreated) -> None:
    """Return when a key is at most as wide as the key that makes it (people may make any). Raises Invalid `cannot_escalate`."""
    if maker.scopes is None:
        return
    lacking = [scope for scope in key.scopes if scope not in maker.scopes]
    checks = (
        (bool(lacking), "scopes", f"your own key lacks {', '.join(lacking)}"),
        (maker.bound_app not in {None, key.app_id}, "app_id", "your own key is bound to another app"),
        (maker_expires_at is not None and (key.expires_at or _NEVER) > maker_expires_at, "expires_at", "your own key expires before"),
    )
    for is_wider, field, why in checks:
        if is_wider:
            raise Invalid(f"{field}: {why}; a key makes none that is wider than itself", code="cannot_escalate", field=field)


AGGREGATE: Final = Aggregate(
    kind="api_key",
    events=(ApiKeyCreated, ApiKeyRevoked),
    deciders={},
    exists=lambda last, _: isinstance(last, ApiKeyCreated),
)
