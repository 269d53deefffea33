"""What a measurement needs in a PiCloud database: apps, scripts, routes and triggers, appended as the events that the REST API would append."""

from __future__ import annotations

from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from domain.apps import AppCreated, app_stream
from domain.clock import utc_now
from domain.events import Event, Metadata
from domain.globs import pattern_key
from domain.ids import NIL_APP
from domain.kv import SetKey
from domain.ports import Appender
from domain.retry import RetryPolicy
from domain.routes import RouteCreated, route_stream
from domain.routing import Route
from domain.sandbox import Limits
from domain.scripts import DEFAULT_TIMEOUT_S, ScriptSaved, script_stream
from domain.triggers import Trigger, TriggerSaved, trigger_stream
from domain.units import Change, Record, Unit
from runtime.platform import Platform

_UNIT_CHANGES = 500


class Seeder:
    """One app and what is put into it."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.app_id = uuid7()
        self.host = f"{self.slug}.localhost"

    @property
    def slug(self) -> str:
        return f"b{self.app_id.hex[-12:]}"

    async def app(self) -> None:
        await append(self._platform.log, NIL_APP, record(app_stream(self.app_id), AppCreated(app_id=self.app_id, name="bench", slug=self.slug)))

    async def script(self, source: str) -> UUID:
        script_id = uuid7()
        event = ScriptSaved(
            script_id=script_id,
            name=f"s{script_id.hex[-8:]}",
            kind="endpoint",
            source=source,
            source_version=1,
            timeout_s=DEFAULT_TIMEOUT_S,
            limits=Limits(),
        )
        await append(self._platform.log, self.app_id, record(script_stream(script_id), event))
        return script_id

    async def route(self, script_id: UUID, path: str) -> None:
        route_id = uuid7()
        route = Route(id=route_id, script_id=script_id, host_kind="any", host=None, path_kind="exact", path=path, method=None, dispatch_mode="sync")
        await append(self._platform.log, self.app_id, record(route_stream(route_id), RouteCreated(route=route)))

    async def triggers(self, script_id: UUID, patterns: list[str]) -> None:
        """A KV trigger for each pattern; a script that fails is tried once, because no benchmark expects it to."""
        changes = []
        for pattern in patterns:
            trigger = Trigger(
                id=uuid7(),
                source="kv",
                script_id=script_id,
                enabled=True,
                ops=(),
                pattern=pattern_key(pattern),
                retry=RetryPolicy(max_attempts=1),
                registrant="system",
                detail={},
            )
            changes.append(record(trigger_stream(trigger.id), TriggerSaved(trigger=trigger)))
        for start in range(0, len(changes), _UNIT_CHANGES):
            await append(self._platform.log, self.app_id, *changes[start : start + _UNIT_CHANGES])

    async def keys(self, collection: str, numbers: range) -> None:
        """One event for each number, many in a unit."""
        for start in range(0, len(numbers), _UNIT_CHANGES):
            await append(self._platform.log, self.app_id, *(set_key(collection, number) for number in numbers[start : start + _UNIT_CHANGES]))


def record(stream: str, event: Event) -> Change:
    return Change(Record(name=stream, event=event))


def set_key(collection: str, number: int) -> Change:
    """Key and value are the number, so that whoever is told of the event knows which one it is."""
    return Change(SetKey(collection=collection, key=str(number), value=msgspec.Raw(str(number).encode())))


async def append(log: Appender, app_id: UUID, *changes: Change) -> None:
    """One unit; returns when it is durable."""
    await log.append(Unit(app_id=app_id, metadata=Metadata(unit_id=uuid7()), now=utc_now(), changes=changes))
