"""Requests that are queued instead of run at once: accepting them into the outbox, remembering idempotency keys, waiting for and looking up their outcome."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import anyio
import msgspec
from uuid_utils.compat import uuid7

from adapters.postgres.keys import Keys
from adapters.postgres.log import PgLog
from domain.clock import Clock
from domain.errors import AlreadyExists, Conflict, Invalid, Unavailable
from domain.events import Event, Metadata, Recorded
from domain.executions import (
    ExecutionAbandoned,
    ExecutionDeadLettered,
    ExecutionFailed,
    ExecutionSkipped,
    ExecutionSucceeded,
    HttpRequest,
    HttpRequestAccepted,
    IdempotencyKeyUsed,
    execution_stream,
    idempotency_stream,
)
from domain.ports import Appender
from domain.retry import RetryPolicy
from domain.routing import Route
from domain.units import ABSENT, Change, Record, Unit
from runtime.invocation import Invocation

KEY_LIVES_FOR: Final = timedelta(hours=24)
MAX_KEY_CHARS: Final = 256
MAX_QUEUED_BODY_BYTES: Final = 2 * 1024 * 1024
_LOOK_EVERY_S: Final = 10.0
"""Commits here, hints from other processes and their polled heads wake a waiter; this is for what all three have missed."""
MAX_WAITING: Final = 1000
_POLL_KEY: Final = "poll"
_TOKEN_BYTES: Final = 16 + 32

FINAL: Final = (ExecutionSucceeded, ExecutionDeadLettered, ExecutionSkipped)


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted request. `repeated`: an idempotency key stood for it already."""

    execution_id: UUID
    accepted_at: datetime
    position: int
    repeated: bool = False


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is to be queued."""

    app_id: UUID
    route: Route
    request: HttpRequest
    actor: str
    request_id: str
    key: str | None = None


class _Waiting:
    """Those who wait for one execution."""

    def __init__(self, app_id: UUID) -> None:
        self.app_id = app_id
        self.users = 0
        self.changed = anyio.Event()

    def wake(self) -> None:
        """Let them look again; whoever is looking now will look once more."""
        self.changed.set()
        self.changed = anyio.Event()


class Requests:
    """Accepts and looks up queued requests."""

    def __init__(self, log: PgLog, appender: Appender, keys: Keys, clock: Clock) -> None:
        self._log = log
        self._appender = appender
        self._keys = keys
        self._clock = clock
        self._waiting: dict[UUID, _Waiting] = {}
        log.on_commit(self._committed)
        log.wakeups.on_foreign(self._moved)

    async def accept(self, incoming: Incoming, mode: Literal["async", "durable"]) -> Accepted:
        """Take a request into the outbox, once per idempotency key.

        The key that signs poll URLs is fetched first: nobody may be left with an accepted request that cannot be asked for.
        Raises Invalid (422) when the key came with another request before, or is malformed.
        """
        await self._keys.instance_key(_POLL_KEY)
        execution_id, now = uuid7(), self._clock()
        accepted = HttpRequestAccepted(
            execution_id=execution_id,
            script_id=incoming.route.script_id,
            route_id=incoming.route.id,
            mode=mode,
            request=incoming.request,
            retry=RetryPolicy(),
        )
        changes = [Change(Record(name=execution_stream(execution_id), event=accepted), ABSENT)]
        if incoming.key is not None:
            changes.append(_use_key(incoming, execution_id, now))
        metadata = Metadata(unit_id=uuid7(), actor=incoming.actor, correlation_id=execution_id, request_id=incoming.request_id, execution_id=execution_id)
        try:
            events = await self._appender.append(Unit(app_id=incoming.app_id, metadata=metadata, now=now, changes=tuple(changes)))
        except AlreadyExists:
            return await self._repeated(incoming)
        return Accepted(execution_id=execution_id, accepted_at=events[0].recorded_at, position=events[0].position)

    async def outcome(self, app_id: UUID, execution_id: UUID) -> Recorded | None:
        """The newest event of a queued execution; None when there is no such execution."""
        events = await self._log.read_stream(app_id, execution_stream(execution_id))
        return events[-1] if events else None

    async def wait(self, app_id: UUID, execution_id: UUID, seconds: float) -> Recorded | None:
        """The final event of an accepted request, or None when it has none within so many seconds. Whoever runs it, in this process or another."""
        if len(self._waiting) >= MAX_WAITING:
            return None
        waiting = self._waiting.setdefault(execution_id, _Waiting(app_id))
        waiting.users += 1
        try:
            with anyio.move_on_after(seconds):
                while True:
                    changed = waiting.changed
                    newest = await self._outcome_if_there(app_id, execution_id)
                    if newest is not None and is_final(newest.event):
                        return newest
                    with anyio.move_on_after(_LOOK_EVERY_S):
                        await changed.wait()
        finally:
            waiting.users -= 1
            if not waiting.users:
                del self._waiting[execution_id]
        return None

    @property
    def waiting(self) -> int:
        """Executions that somebody here waits for."""
        return len(self._waiting)

    async def _outcome_if_there(self, app_id: UUID, execution_id: UUID) -> Recorded | None:
        """None while the database is away, too: the request was accepted, and its caller waits as long as was asked for."""
        try:
            return await self.outcome(app_id, execution_id)
        except Unavailable:
            return None

    async def abandon(self, app_id: UUID, call: Invocation, status: int) -> None:
        """Record that a run was committed but its caller had gone."""
        event = ExecutionAbandoned(execution_id=call.execution_id, script_id=call.script.id, status=status)
        change = Change(Record(name=execution_stream(call.execution_id), event=event))
        metadata = Metadata(unit_id=uuid7(), actor=call.actor, correlation_id=call.execution_id, request_id=call.request_id, execution_id=call.execution_id)
        await self._appender.append(Unit(app_id=app_id, metadata=metadata, now=self._clock(), changes=(change,)))

    async def poll_url(self, app_id: UUID, execution_id: UUID) -> str:
        """Where an accepted request's outcome can be asked for: its token names the app and is signed with the instance's key."""
        signature = await self._sign(app_id, execution_id)
        token = urlsafe_b64encode(app_id.bytes + signature).decode().rstrip("=")
        return f"/api/v1/executions/{execution_id}?token={token}"

    async def app_of_token(self, execution_id: UUID, token: str) -> UUID | None:
        """The app that a poll token vouches for; None for a token that is not this execution's."""
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            return None
        if len(raw) != _TOKEN_BYTES:
            return None
        app_id = UUID(bytes=raw[:16])
        return app_id if hmac.compare_digest(raw[16:], await self._sign(app_id, execution_id)) else None

    async def _sign(self, app_id: UUID, execution_id: UUID) -> bytes:
        key = await self._keys.instance_key(_POLL_KEY)
        return hmac.digest(key, app_id.bytes + execution_id.bytes, "sha256")

    def _committed(self, events: Sequence[Recorded], counts: Mapping[str, int]) -> None:
        del counts
        if self._waiting:
            for recorded in events:
                task: Any = getattr(recorded.event, "task", None)
                waiting = None if task is None else self._waiting.get(task.execution_id)
                if waiting is not None:
                    waiting.wake()

    def _moved(self, app_id: UUID, position: int) -> None:
        """Another process has appended something: it may be what somebody here waits for."""
        del position
        for waiting in self._waiting.values():
            if waiting.app_id == app_id:
                waiting.wake()

    async def _repeated(self, incoming: Incoming) -> Accepted:
        events = await self._log.read_stream(incoming.app_id, idempotency_stream(_key_digest(incoming)))
        last = events[-1].event
        if not isinstance(last, IdempotencyKeyUsed):
            raise Conflict
        if last.request_hash != _request_digest(incoming.request):
            raise Invalid("Idempotency-Key: it came with another request before", field="idempotency-key", code="idempotency_key_reused")
        first = (await self._log.read_stream(incoming.app_id, execution_stream(last.execution_id)))[0]
        return Accepted(execution_id=last.execution_id, accepted_at=first.recorded_at, position=first.position, repeated=True)


def is_final(event: Event) -> bool:
    """Whether nothing more will come of a queued execution by itself."""
    return isinstance(event, FINAL) or (isinstance(event, ExecutionFailed) and event.retry_at is None)


def check_key(key: str) -> str:
    """An idempotency key: 1 to 256 printable ASCII characters; raises Invalid."""
    if not 0 < len(key) <= MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
        raise Invalid(f"Idempotency-Key: 1 to {MAX_KEY_CHARS} printable ASCII characters", field="idempotency-key")
    return key


def _use_key(incoming: Incoming, execution_id: UUID, now: datetime) -> Change:
    event = IdempotencyKeyUsed(execution_id=execution_id, request_hash=_request_digest(incoming.request), expires_at=now + KEY_LIVES_FOR)
    return Change(Record(name=idempotency_stream(_key_digest(incoming)), event=event), ABSENT)


def _key_digest(incoming: Incoming) -> str:
    return hashlib.sha256(msgspec.json.encode((incoming.route.id, incoming.actor, incoming.key))).hexdigest()


def _request_digest(request: HttpRequest) -> str:
    return hashlib.sha256(msgspec.json.encode((request.method, request.host, request.path, sorted(request.query.items()), request.body))).hexdigest()
