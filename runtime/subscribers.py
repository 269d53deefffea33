"""Tokens of live subscribers: for which topics and collections of an app, and until when.

A token is a JWT, signed by the app's key in the vault (`kid` names it): `aud` is the app, and `topics`, `kv` and `docs` are lists of names.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from adapters import tokens
from adapters.postgres.subscriber_keys import SubscriberKeys
from domain.errors import Invalid, Unauthenticated
from domain.ports import Reader
from domain.topics import KINDS, MAX_TTL_S, TopicKind, check_name, clamp_ttl
from projections.topics.reads import read_topics

MAX_NAMES: Final = 100
MAX_TOKEN_CHARS: Final = 4096
"""A token has to fit into a request's target."""
CLAIMS: Final[dict[TopicKind, str]] = {"topic": "topics", "kv": "kv", "docs": "docs"}

Wanted = dict[TopicKind, tuple[str, ...]]
"""Names by kind."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A signed token and when it expires."""

    token: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"Token(expires_at={self.expires_at})"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified token allows."""

    kid: str
    expires_at: datetime
    names: Wanted

    def covers(self, kind: TopicKind, name: str) -> bool:
        """Whether the token is for this topic or collection."""
        return name in self.names[kind]


def subscriber_keys(reader: Reader) -> SubscriberKeys:
    """The keys of all apps."""
    return SubscriberKeys(reader, MAX_TTL_S)


def parse_wanted(topics: object) -> Wanted:
    """Names as people ask for them: a list of topics, or `{"topics": [...], "kv": [...], "docs": [...]}`. Raises Invalid naming the field."""
    asked = {"topics": topics} if isinstance(topics, list | tuple) else topics
    if not isinstance(asked, dict) or not asked.keys() <= set(CLAIMS.values()):
        raise Invalid("pubsub: topics must be a list of topics, or a dict of lists under topics, kv and docs", field="topics")
    wanted: Wanted = {kind: _names(kind, asked.get(claim, ()), claim) for kind, claim in CLAIMS.items()}
    if not 0 < sum(map(len, wanted.values())) <= MAX_NAMES:
        raise Invalid(f"pubsub: topics must have 1 to {MAX_NAMES} names", field="topics")
    return wanted


async def sign_token(reader: Reader, keys: SubscriberKeys, app_id: UUID, wanted: Wanted, ttl: object, now: datetime) -> Token:
    """Sign a token; `ttl` seconds are brought within 10 s and 24 h. Raises Invalid, also for a name that is not externally subscribable."""
    ttl_s = clamp_ttl(ttl)
    await _require_external(reader, app_id, wanted)
    key = await keys.active(app_id)
    issued = int(now.timestamp())
    expires = issued + int(ttl_s)
    claims = {"aud": str(app_id), "iat": issued, "exp": expires, **{CLAIMS[kind]: list(names) for kind, names in wanted.items()}}
    token = tokens.sign(claims, key.kid, key.key)
    if len(token) > MAX_TOKEN_CHARS:
        raise Invalid(f"pubsub: topics make a token of {len(token)} characters, at most {MAX_TOKEN_CHARS} are accepted", field="topics")
    return Token(token=token, expires_at=datetime.fromtimestamp(expires, UTC))


async def verify_token(reader: Reader, app_id: UUID, token: str, now: datetime) -> Grant:
    """What a token allows. Raises Unauthenticated when it is malformed, forged, another app's, expired, or of a key that is no longer good."""
    if len(token) > MAX_TOKEN_CHARS:
        raise Unauthenticated("the token cannot be read", code="bad_token")
    kid = tokens.key_id(token)
    key = await subscriber_keys(reader).good(app_id, kid)
    if key is None:
        raise Unauthenticated("the token's key is unknown or no longer good", code="bad_token")
    grant = _grant(kid, tokens.verify(token, key), app_id)
    if grant.expires_at <= now:
        raise Unauthenticated("the token has expired", code="token_expired")
    return grant


def _names(kind: TopicKind, names: object, field: str) -> tuple[str, ...]:
    if not isinstance(names, list | tuple) or len(names) > MAX_NAMES:
        raise Invalid(f"pubsub: {field} must be a list of at most {MAX_NAMES} names", field=field)
    return tuple(dict.fromkeys(check_name(kind, name, field) for name in names))


async def _require_external(reader: Reader, app_id: UUID, wanted: Wanted) -> None:
    asked = set(_pairs(wanted))
    external = {(topic.kind, topic.name) for topic in await read_topics(reader, app_id, asked) if topic.external_subscribable}
    missing = sorted(asked - external)
    if missing:
        kind, name = missing[0]
        raise Invalid(f"pubsub: {kind} {name[:80]!r} is not externally subscribable", field=CLAIMS[kind], code="not_external")


def _pairs(wanted: Wanted) -> Iterator[tuple[TopicKind, str]]:
    for kind in KINDS:
        for name in wanted[kind]:
            yield kind, name


def _grant(kid: str, claims: dict[str, Any], app_id: UUID) -> Grant:
    """Signed by us, so it is as we made it, unless a key has leaked."""
    if claims.get("aud") != str(app_id):
        raise Unauthenticated("the token is not valid here", code="bad_token")
    try:
        names: Wanted = {kind: tuple(map(str, claims.get(claim) or ())) for kind, claim in CLAIMS.items()}
        return Grant(kid=kid, expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC), names=names)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise Unauthenticated("the token is not valid", code="bad_token") from None
