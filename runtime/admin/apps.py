"""Apps: created with their slug and its host, found by id or slug; and what an empty instance begins with."""

from __future__ import annotations

from importlib import resources
from typing import Final, Protocol
from uuid import UUID

from uuid_utils.compat import uuid7

from adapters.postgres.log import PgLog
from domain.apps import AppCreated, DomainAdded, app_stream, check_app_name, check_slug, domain_stream
from domain.clock import Clock
from domain.errors import AlreadyExists, Conflict, Invalid
from domain.hosts import slug_host
from domain.ids import NIL_APP, parse_uuid
from domain.names import claim_name, move_guard
from domain.ports import Appender, Reader
from domain.routes import ROUTES_GUARD, RouteCreated, route_stream
from domain.routing import RouteSpec, parse_route
from domain.sandbox import Limits
from domain.scripts import DEFAULT_TIMEOUT_S, ScriptSaved, script_stream
from domain.units import ABSENT, Change, Record
from projections.control.app_reads import StoredApp, page_apps, read_app
from runtime.admin.scripts import NAME_KIND as SCRIPT_NAME
from runtime.admin.streams import read_key
from runtime.admin.writing import Acting, AdminWriter
from runtime.directory import Directory

SLUG_NAME: Final = "slug"
HOST_NAME: Final = "domain"
"""Kinds of names: a slug belongs to one app, a host pattern too."""

_SYSTEM: Final = Acting("system")
_SEED_KEY: Final = "seed"
_SEED_HOSTS: Final = ("localhost", "127.0.0.1")
_HELLO: Final = resources.files("runtime.admin").joinpath("hello.monty").read_text(encoding="utf-8")


class Apps:
    """The apps of the instance."""

    def __init__(self, reader: Reader, writer: AdminWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def page(self, only: list[UUID] | None, after: UUID | None, limit: int) -> list[StoredApp]:
        """Apps in the order of their creation: all, or those among `only`."""
        return await page_apps(self._reader, only, after, limit)

    async def create(self, name: str, slug: str, acting: Acting) -> StoredApp:
        """Create an app, which answers for `<slug>.localhost`. Raises Invalid, or Conflict `slug_taken` or `host_taken`."""
        created = AppCreated(app_id=uuid7(), name=check_app_name(name), slug=_check_slug(slug))
        try:
            events = await self._writer.publish(NIL_APP, acting, _creation(created))
        except AlreadyExists as error:
            if error.extra.get("stream", "").startswith(f"name:{SLUG_NAME}:"):
                raise Conflict(f"slug: {slug} belongs to another app", code="slug_taken", field="slug") from error
            raise Conflict(f"slug: another app has claimed {slug_host(slug)}", code="host_taken", field="slug") from error
        return StoredApp(created.app_id, created.name, created.slug, events[0].recorded_at)


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


def _check_slug(slug: str) -> str:
    if parse_uuid(check_slug(slug)) is not None:
        raise Invalid("slug: it may not look like an id, because paths take either", field="slug")
    return slug
