"""A subscriber's connection, from its request to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

import anyio
import anyio.lowlevel
import msgspec

from domain.errors import NotFound
from runtime.live.channel import Key
from runtime.live.frames import ending, opening
from runtime.live.hub import Judge
from runtime.live.kinds import KINDS
from runtime.live.subscription import Subscription
from runtime.platform import Platform
from web.core import Core
from web.cors import answer_cors
from web.front import Receive, Scope, Send
from web.hosts import app_of_request
from web.incoming import query_of
from web.limits import admit
from web.protocol import BREAK_OFF
from web.realtime.access import Gatekeeper
from web.realtime.asked import key_of, position_of
from web.requests import address_of

HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


async def answer_realtime(platform: Platform, scope: Scope, receive: Receive, send: Send, path: str) -> None:
    """Answer one subscriber, for as long as it stays. Raises PiCloudError before the answer has begun."""
    app_id = await app_of_request(platform.directory, scope)
    view = await platform.directory.view(app_id)
    if view.settings.cors.origins and await answer_cors(scope, send, view.settings.cors):
        return
    if scope["method"] != "GET":
        raise NotFound("there is nothing to follow here by this method", code="no_route")
    await admit(platform, scope, view, runs=False)
    query = query_of(scope["query_string"])
    key, after = key_of(path, query), position_of(scope, query.get("after"))
    await stream(platform, scope, receive, send, Followed(app_id, key, Gatekeeper(platform, app_id, key, scope, query), after))


class Followed(msgspec.Struct, frozen=True):
    """What somebody wants to follow, who says whether he may, and the position after which."""

    app_id: UUID
    key: Key
    judge: Judge
    after: int | None


async def stream(core: Core, scope: Scope, receive: Receive, send: Send, wanted: Followed) -> None:
    """Stream to one subscriber for as long as it stays. Raises PiCloudError before the answer has begun."""
    with core.live.place(wanted.app_id, address_of(scope)):
        subscription = await core.live.subscribe(wanted.app_id, wanted.key, wanted.judge, wanted.after)
        try:
            await _Stream(core, subscription, send).run(receive)
        finally:
            core.live.leave(subscription)
        if subscription.is_stalled:
            _break_off(scope)


class _Stream:
    """What is sent, and in which order."""

    __slots__ = ("_answer", "_core", "_subscription")

    def __init__(self, core: Core, subscription: Subscription, send: Send) -> None:
        self._core = core
        self._subscription = subscription
        self._answer = send

    async def run(self, receive: Receive) -> None:
        """Stream until the caller goes or the subscription ends. A fresh subscriber is told where it stands, or shown what is there."""
        async with anyio.create_task_group() as tasks:
            self._subscription.on_break(tasks.cancel_scope.cancel)
            tasks.start_soon(_until_gone, receive, tasks.cancel_scope.cancel)
            await self._deliver()
            tasks.cancel_scope.cancel()

    async def _deliver(self) -> None:
        subscription = self._subscription
        self._expire()
        await self._answer({"type": "http.response.start", "status": 200, "headers": HEADERS})
        if subscription.is_fresh and KINDS[subscription.channel.key.kind].has_snapshot:
            await self._show()
        elif subscription.is_fresh:
            await self._send(opening(subscription.after))
        reason = await subscription.deliver(self._send)
        await self._answer({"type": "http.response.body", "body": ending(reason), "more_body": False})

    async def _show(self) -> None:
        """What is there; from that position on it goes on with what changes."""
        subscription = self._subscription
        snapshot = await self._core.snapshots.of(subscription.feed, subscription.channel)
        async for chunk in snapshot.chunks():
            if subscription.ended is not None:
                return
            await subscription.send(chunk, self._send)
            await anyio.lowlevel.checkpoint()
        subscription.after = snapshot.position

    async def _send(self, data: bytes) -> None:
        await self._answer({"type": "http.response.body", "body": data, "more_body": True})

    def _expire(self) -> None:
        subscription = self._subscription
        expires_at = subscription.access.expires_at
        if expires_at is not None:
            left_s = (expires_at - self._core.clock()).total_seconds()
            subscription.after_s(max(left_s, 0), lambda: subscription.end("token_expired"))


async def _until_gone(receive: Receive, gone: Callable[[], None]) -> None:
    """Call `gone` when the caller hangs up. Whatever body it sends is not for us."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone()


def _break_off(scope: Scope) -> None:
    """Close the connection of a caller that reads nothing, so that it holds nothing of ours."""
    extension = scope.get("extensions", {}).get(BREAK_OFF)
    if extension is not None:
        extension["call"]()
