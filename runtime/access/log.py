"""The log of access: who came in, was turned away, left. What it tells and where: `domain.access`.

What was granted (a login, the end of a session) is appended before its author is answered. What anybody can cause by himself (failures, refusals) is noted
in memory, coalesced, and appended behind the answer, about once a second: best effort, because an attacker must be able neither to hold up logins nor to make
the log grow at will. What is noted when the process is killed is lost, and so is what the log refuses; a process that ends in order appends it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any, Final
from uuid import UUID

import anyio
import msgspec
import structlog
from uuid_utils.compat import uuid7

from domain import access
from domain.access import NoteKeyUse, Reason, Repeated, access_stream
from domain.clock import Clock
from domain.events import Event, Metadata
from domain.ids import NIL_APP
from domain.ports import Appender
from domain.units import Change, Read, Record, Unit
from domain.users import user_stream
from runtime.access.coalescing import Coalescer, Origin
from runtime.access.key_uses import KeyUses
from runtime.access.networks import network_of

FLUSH_EVERY_S: Final = 1.0
MAX_USER_AGENT_CHARS: Final = 256
_MAX_SESSION_IDS: Final = 50
_AT_ONCE: Final = 200
_FINISH_WITHIN_S: Final = 2.0
_PUBLIC: Final = "public"
_LOGINS: Final = Origin(_PUBLIC, access_stream(None), "logins")

log = structlog.get_logger(__name__)


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was refused. `actor` is as events name it, `user_id` the person behind it; nobody where there was no valid credential."""

    reason: Reason
    code: str
    actor: str = _PUBLIC
    user_id: UUID | None = None
    address: str
    method: str
    route: str
    capability: str | None = None
    app_id: UUID | None = None
    request_id: str | None = None


class AccessLog:
    """Appends events of access. One for each process; `run` writes what was noted."""

    def __init__(self, log: Appender, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._table = Coalescer()
        self._uses = KeyUses()
        self._used: list[NoteKeyUse] = []
        self._noted = anyio.Event()

    async def logged_in(self, user_id: UUID, version: int, session_id: UUID, address: str, user_agent: str, request_id: str | None = None) -> None:
        """A session begins of a user whose stream was at `version` when he was let in. Raises ReadConflict when it no longer is."""
        event = access.LoggedIn(user_id=user_id, session_id=session_id, address=address, user_agent=user_agent[:MAX_USER_AGENT_CHARS])
        read = Read(user_stream(user_id), version)
        await self._append(f"user:{user_id}", [told(user_id, event)], request_id=request_id, reads=(read,))

    async def logged_out(self, user_id: UUID, session_id: UUID, request_id: str | None = None) -> None:
        """A session was ended from within."""
        await self._append(f"user:{user_id}", [told(user_id, access.LoggedOut(user_id=user_id, session_id=session_id))], request_id=request_id)

    async def sessions_revoked(self, user_id: UUID, session_ids: Sequence[UUID], actor: str, request_id: str | None = None) -> None:
        """Sessions of a user were ended from outside of them."""
        event = access.SessionsRevoked(user_id=user_id, session_ids=tuple(session_ids[:_MAX_SESSION_IDS]), count=len(session_ids))
        await self._append(actor, [told(user_id, event)], request_id=request_id)

    def login_failed(self, user_id: UUID | None, address: str) -> None:
        """Note wrong credentials for the name of a user, or of nobody."""
        event = access.LoginFailed(user_id=user_id, address=address, **self._now())
        self._note(_LOGINS, ("failed", user_id, network_of(address)), access_stream(user_id), event)

    def login_throttled(self, user_id: UUID | None, address: str) -> None:
        """Note credentials that were not looked at, after too many wrong ones."""
        event = access.LoginThrottled(user_id=user_id, address=address, **self._now())
        self._note(_LOGINS, ("throttled", user_id, network_of(address)), access_stream(user_id), event)

    def refused(self, refusal: Refusal) -> None:
        """Note a call that was refused. Of bad credentials, one address is one kind, whatever it asks for."""
        event = access.Refused(
            reason=refusal.reason,
            code=refusal.code,
            user_id=refusal.user_id,
            address=refusal.address,
            method=refusal.method,
            route=refusal.route,
            capability=refusal.capability,
            app_id=refusal.app_id,
            request_id=refusal.request_id,
            **self._now(),
        )
        stream = access_stream(refusal.user_id)
        what = () if refusal.user_id is None else (refusal.method, refusal.route, refusal.capability, refusal.app_id)
        self._note(Origin(refusal.actor, stream, "calls"), ("refused", refusal.reason, refusal.code, network_of(refusal.address), *what), stream, event)

    def key_used(self, key_id: UUID, user_id: UUID, address: str) -> None:
        """Note a use of an API key: only the first of a day from an address is told."""
        day, network = self._clock().date(), network_of(address)
        if self._uses.is_first(key_id, network, day):
            self._used.append(NoteKeyUse(key_id=key_id, user_id=user_id, address=network, day=day))
            self._noted.set()

    async def run(self) -> None:
        """Write until cancelled, then what is left."""
        try:
            while True:
                await self._noted.wait()
                await anyio.sleep(FLUSH_EVERY_S)
                await self.flush()
                if not len(self._table) and not self._used:
                    self._noted = anyio.Event()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_FINISH_WITHIN_S):
                await self.flush(everything=True)

    async def flush(self, *, everything: bool = False) -> None:
        """Write what is due, or everything, one unit for each who has caused it."""
        by_actor: defaultdict[str, list[Change]] = defaultdict(list)
        for found in self._table.take(anyio.current_time(), everything=everything):
            by_actor[found.origin.actor].append(Change(Record(name=found.stream, event=found.event)))
        used, self._used = self._used, []
        for use in used:
            by_actor[f"key:{use.key_id}"].append(Change(use))
        async with anyio.create_task_group() as tasks:
            for actor, changes in by_actor.items():
                for start in range(0, len(changes), _AT_ONCE):
                    tasks.start_soon(self._write, actor, changes[start : start + _AT_ONCE])

    def _note(self, origin: Origin, key: Hashable, stream: str, event: Repeated) -> None:
        self._table.note(origin, key, stream, event, anyio.current_time())
        self._noted.set()

    async def _write(self, actor: str, changes: list[Change]) -> None:
        try:
            await self._append(actor, changes)
        except Exception as error:  # noqa: BLE001  # dropped and told, whatever it is: nobody waits for it
            log.warning("access_events_dropped", events=len(changes), actor=actor, error=str(error))

    async def _append(self, actor: str, changes: Sequence[Change], *, request_id: str | None = None, reads: tuple[Read, ...] = ()) -> None:
        unit_id = uuid7()
        metadata = Metadata(unit_id=unit_id, actor=actor, correlation_id=unit_id, request_id=request_id)
        await self._log.append(Unit(app_id=NIL_APP, metadata=metadata, now=self._clock(), changes=tuple(changes), reads=reads))

    def _now(self) -> dict[str, Any]:
        now = self._clock()
        return {"count": 1, "first_at": now, "last_at": now}


def told(user_id: UUID | None, event: Event) -> Change:
    """What concerns a user, for his stream of access."""
    return Change(Record(name=access_stream(user_id), event=event))
