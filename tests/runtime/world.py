"""A running platform and the apps in it, made by appending events, so that tests of the runtime need no admin API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

import anyio
import msgspec
from uuid_utils.compat import uuid7

from domain.apps import AppCreated, AppDeleted, AppPurged, app_stream
from domain.authz import Principal
from domain.clock import Clock, utc_now
from domain.events import Event, Metadata, Recorded
from domain.globs import pattern_key
from domain.ids import NIL_APP
from domain.retry import RetryPolicy
from domain.routes import RouteCreated, route_stream
from domain.routing import Route
from domain.sandbox import Limits, ScriptKind
from domain.scripts import ScriptSaved, script_stream
from domain.triggers import Trigger, TriggerSaved, trigger_stream
from domain.units import Change, Effect, Record, Unit
from runtime.invocation import Invocation, Outcome
from runtime.platform import Platform, open_platform
from runtime.settings import Process, Settings

T = TypeVar("T")

WITHIN_S: Final = 20.0
NOW: Final = RetryPolicy(max_attempts=3, backoff="constant", base_ms=10, jitter_pct=0)
"""Three attempts, one right after the other."""
QUICK: Final = Settings(process=Process(beat_s=0.2, dead_s=1.0, tail_poll_ms=50))


async def eventually(look: Callable[[], Awaitable[T]], holds: Callable[[T], bool] = bool, within_s: float = WITHIN_S) -> T:
    """What `look` finds once it `holds`; fails with what it found last when that takes too long."""
    found = await look()
    with anyio.move_on_after(within_s):
        while not holds(found):
            await anyio.sleep(0.01)
            found = await look()
    assert holds(found), str(found)[:1000]
    return found


class App:
    """An app of a platform."""

    def __init__(self, platform: Platform, app_id: UUID) -> None:
        self.platform = platform
        self.id = app_id
        self.host = f"a{app_id.hex}.localhost"

    async def put(self, *events: tuple[str, Event], actor: str = "system") -> tuple[Recorded, ...]:
        return await self.append(*(Record(name=name, event=event) for name, event in events), actor=actor)

    async def append(self, *effects: Effect, actor: str = "system", depth: int = 0) -> tuple[Recorded, ...]:
        metadata = Metadata(unit_id=uuid7(), actor=actor, depth=depth)
        unit = Unit(app_id=self.id, metadata=metadata, now=self.platform.clock(), changes=tuple(map(Change, effects)))
        return await self.platform.log.append(unit)

    async def script(
        self,
        source: str,
        *,
        name: str = "main",
        kind: ScriptKind = "endpoint",
        timeout_s: float = 5.0,
        limits: Limits | None = None,
        script_id: UUID | None = None,
    ) -> UUID:
        made: UUID = script_id or uuid7()
        saved = ScriptSaved(script_id=made, name=name, kind=kind, source=source, source_version=1, timeout_s=timeout_s, limits=limits or Limits())
        await self.put((script_stream(made), saved))
        return made

    async def route(self, script_id: UUID, path: str, mode: Literal["sync", "async", "durable"] = "sync", **more: Any) -> Route:
        fields: dict[str, Any] = {"host_kind": "any", "host": None, "path_kind": "exact", "method": None, **more}
        route = Route(id=uuid7(), script_id=script_id, path=path, dispatch_mode=mode, **fields)
        await self.put((route_stream(route.id), RouteCreated(route=route)))
        return route

    async def trigger(self, script_id: UUID, collection: str = "*", **more: Any) -> Trigger:
        """A kv trigger, unless told otherwise."""
        fields: dict[str, Any] = {
            "source": "kv",
            "enabled": True,
            "ops": (),
            "pattern": pattern_key(collection),
            "retry": NOW,
            "registrant": "system",
            "detail": {},
        }
        trigger = Trigger(id=uuid7(), script_id=script_id, **{**fields, **more})
        await self.put((trigger_stream(trigger.id), TriggerSaved(trigger=trigger)))
        return trigger

    async def run(self, script_id: UUID, principal: Principal | None = None, **request: Any) -> Outcome:
        """Execute a script here and now."""
        view = await self.platform.directory.view(self.id)
        script = view.scripts[script_id]
        ctx = {
            "request": {"method": "GET", "path": "/", "host": "h", "headers": {}, "query": {}, "params": {}, "rest": None, "body": None, "body_bytes": b""}
            | request
        }
        return await self.platform.executor.execute(
            Invocation(view=view, script=script, execution_id=uuid7(), kind="http", ctx=ctx, timeout_s=script.timeout_s, principal=principal, actor="public")
        )

    async def events(self, *kinds: type[Event]) -> list[Recorded]:
        found: list[Recorded] = []
        while page := await self.platform.log.read(self.id, found[-1].position if found else 0):
            found.extend(page)
        return [recorded for recorded in found if not kinds or isinstance(recorded.event, kinds)]

    async def kv(self, collection: str) -> dict[str, Any]:
        rows = await self.platform.pool.fetch("SELECT key, value FROM kv_entries WHERE app_id = $1 AND collection = $2", self.id, collection)
        return {row["key"]: msgspec.json.decode(row["value"]) for row in rows}

    async def outbox(self) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.platform.pool.fetch("SELECT * FROM outbox WHERE app_id = $1 ORDER BY id", self.id)]

    async def drained(self, within_s: float = WITHIN_S) -> None:
        """Return once nothing is queued or running."""
        await eventually(self.outbox, lambda rows: not rows, within_s)

    async def expect(self, kind: type[Event], count: int = 1, within_s: float = WITHIN_S) -> list[Recorded]:
        """The events of a kind once there are so many; fails when there are more."""
        found = await eventually(lambda: self.events(kind), lambda events: len(events) >= count, within_s)
        assert len(found) == count, found
        return found


async def new_app(platform: Platform) -> App:
    """An app that answers for its own host."""
    app_id: UUID = uuid7()
    created = AppCreated(app_id=app_id, name="test", slug=f"a{app_id.hex}")
    nil = App(platform, NIL_APP)
    await nil.put((app_stream(app_id), created))
    return App(platform, app_id)


async def delete_app(app: App) -> None:
    """Delete an app that `new_app` has made, and wait until nothing is left of it."""
    nil = App(app.platform, NIL_APP)
    await nil.put((app_stream(app.id), AppDeleted(app_id=app.id, slug=f"a{app.id.hex}", name="test")))
    await purged(app)


async def purged(app: App) -> None:
    """Return once nothing is left of a deleted app."""
    nil = App(app.platform, NIL_APP)
    await eventually(lambda: nil.events(AppPurged), lambda events: any(event.event.app_id == app.id for event in events))  # type: ignore[attr-defined]


@asynccontextmanager
async def running(dsn: str, settings: Settings = QUICK, clock: Clock = utc_now) -> AsyncIterator[Platform]:
    """A platform on a prepared database."""
    async with open_platform(dsn, settings, clock) as platform:
        yield platform


def reply(outcome: Outcome) -> Any:
    """The JSON that a run has answered."""
    assert outcome.result.reply is not None, outcome.result
    return msgspec.json.decode(outcome.result.reply.body)


def values(events: Sequence[Recorded], field: str) -> list[Any]:
    """One field of each event."""
    return [getattr(recorded.event, field) for recorded in events]
