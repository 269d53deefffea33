"""Who may follow: anybody a public topic, the bearer of a subscriber's token what it names, and people with a role in the app everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from domain.authz import Capability, decide
from domain.errors import Unauthenticated
from domain.topics import TopicKind
from projections.topics.reads import read_topic
from runtime.live.channel import Key
from runtime.live.subscription import Access
from runtime.platform import Platform
from runtime.subscribers import verify_token
from web.incoming import host_of
from web.realtime.asked import missing
from web.security import credential_of, is_own_machine

_CAPABILITIES: Final[Mapping[TopicKind, Capability]] = {
    "topic": Capability.EVENTS_READ,
    "kv": Capability.KV_READ,
    "docs": Capability.DOCS_READ,
}
_DOTS: Final = 2


class Gatekeeper:
    """Judges one subscriber, as often as it is asked to. A JWT has two dots, neither a session's token nor an API key any."""

    def __init__(self, platform: Platform, app_id: UUID, key: Key, scope: Mapping[str, Any], query: Mapping[str, str]) -> None:
        self._platform = platform
        self._app_id = app_id
        self._key = key
        credential = credential_of(scope)
        counts = credential is not None and (not credential.by_cookie or is_own_machine(host_of(scope)))  # an app answers for this host: see `web.security`
        token = credential.token if credential is not None and counts else ""
        is_jwt = token.count(".") == _DOTS
        self._session = "" if is_jwt else token
        self._token = query.get("token") or (token if is_jwt else "")

    async def __call__(self) -> Access:
        """By what right it listens now. Raises NotFound for what is missing or internal, Unauthenticated for what takes a token."""
        if await self._is_admin():
            return Access(recheck=self._is_admin)
        topic = await read_topic(self._platform.reader, self._app_id, self._key.registered_as, self._key.name)
        if topic is None or not topic.external_subscribable:
            raise missing()
        return Access() if topic.auth_mode == "public" else await self._by_token()

    async def _is_admin(self) -> bool:
        if not self._session:
            return False
        identity = await self._platform.authentication.authenticate(self._session)
        return identity is not None and decide(identity.principal, _CAPABILITIES[self._key.registered_as], self._app_id).allowed

    async def _by_token(self) -> Access:
        if not self._token:
            raise Unauthenticated("a subscriber's token is required")
        grant = await verify_token(self._platform.reader, self._app_id, self._token, self._platform.clock())
        if not grant.covers(self._key.registered_as, self._key.name):
            raise Unauthenticated("the token is for other topics", code="bad_token")
        return Access(kid=grant.kid, expires_at=grant.expires_at)
