"""What an empty instance begins with: the app `default`, with a script that answers `/hello`."""

from __future__ import annotations

from importlib import resources
from typing import Final, Protocol
from uuid import UUID

from uuid_utils.compat import uuid7

from adapters.postgres.log import PgLog
from domain.apps import AppCreated, DomainAdded, app_stream, domain_stream
from domain.clock import Clock
from domain.hosts import slug_host
from domain.ids import NIL_APP
from domain.names import claim_name, move_guard
from domain.ports import Appender, Reader
from domain.routes import ROUTES_GUARD, RouteCreated, route_stream
from domain.routing import RouteSpec, parse_route
from domain.sandbox import Limits
from domain.scripts import DEFAULT_TIMEOUT_S, ScriptSaved, script_stream
from domain.units import ABSENT, Change, Record
from projections.control.app_reads import page_apps, read_app
from runtime.admin.scripts import NAME_KIND as SCRIPT_NAME
from runtime.admin.slugs import HOST_NAME, SLUG_NAME
from runtime.admin.streams import read_key
from runtime.admin.writing import Acting, AdminWriter
from runtime.directory import Directory

_SYSTEM: Final = Acting("system")
_SEED_KEY: Final = "seed"
_SEED_HOSTS: Final = ("localhost", "127.0.0.1")
_HELLO: Final = resources.files("runtime.admin").joinpath("hello.monty").read_text(encoding="utf-8")


class Instance(Protocol):
    """What seeding needs of an opened platform."""

    @property
    def reader(self) -> Reader: ...
    @property
    def log(self) -> PgLog: ...
    @property
    def appender(self) -> Appender: ...
    @property
    def directory(self) -> Directory: ...
    @property
    def clock(self) -> Clock: ...


async def seed(instance: Instance) -> None:
    """Give an empty instance the app `default` with a script that answers `/hello`. What a crash has interrupted is finished; nothing is ever made twice."""
    writer = AdminWriter(instance.appender, instance.clock, instance.directory.passed)
    app_id = await _seeded_app(instance, writer)
    if app_id is None or await instance.log.head(app_id) > 0:
        return
    if await read_app(instance.reader, app_id) is not None:
        await writer.publish(app_id, _SYSTEM, _hello(), key=_SEED_KEY)


async def _seeded_app(instance: Instance, writer: AdminWriter) -> UUID | None:
    """The app that seeding has made, now or at an earlier start; None when people made their own first."""
    made = await read_key(instance.reader, instance.log, NIL_APP, _SEED_KEY)
    if made is None and not await page_apps(instance.reader, None, None, 1):
        created = AppCreated(app_id=uuid7(), name="Default", slug="default")
        changes = [*_creation(created), *(change for host in _SEED_HOSTS for change in _domain(created.app_id, host))]
        made = (await writer.publish(NIL_APP, _SYSTEM, changes, key=_SEED_KEY))[0]
    return made.event.app_id if made is not None and isinstance(made.event, AppCreated) else None


def _creation(created: AppCreated) -> list[Change]:
    return [
        Change(Record(name=app_stream(created.app_id), event=created), ABSENT),
        claim_name(SLUG_NAME, created.slug, created.app_id),
        claim_name(HOST_NAME, slug_host(created.slug), created.app_id),
    ]


def _domain(app_id: UUID, pattern: str) -> list[Change]:
    added = DomainAdded(domain_id=uuid7(), app_id=app_id, pattern=pattern)
    return [claim_name(HOST_NAME, pattern, app_id), Change(Record(name=domain_stream(added.domain_id), event=added), ABSENT)]


def _hello() -> list[Change]:
    script = ScriptSaved(script_id=uuid7(), name="hello", kind="endpoint", source=_HELLO, source_version=1, timeout_s=DEFAULT_TIMEOUT_S, limits=Limits())
    route = parse_route(uuid7(), script.script_id, RouteSpec(path="/hello"))
    return [
        claim_name(SCRIPT_NAME, script.name, script.script_id),
        Change(Record(name=script_stream(script.script_id), event=script), ABSENT),
        Change(Record(name=route_stream(route.id), event=RouteCreated(route=route)), ABSENT),
        move_guard(ROUTES_GUARD, 0),
    ]
