"""Apps, their slugs, and the hosts they claim, in the instance's own log.

A slug that an app gives up by taking another stays its own: who asks for it is sent to the new one, until another app takes it over on purpose.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from domain.aggregates import Aggregate
from domain.errors import Conflict, Invalid, NotFound, VersionConflict
from domain.events import Event
from domain.ids import parse_uuid, stream
from domain.units import Effect
from domain.values import check_text

MAX_NAME_CHARS: Final = 100
MAX_OLD_SLUGS: Final = 100
MAX_DOMAINS: Final = 100
"""Of one app; together they bound the unit that ends it."""
DOMAINS_GUARD: Final = "domains"
"""Moved by every claim of a host and every end of one, so that two claims which overlap cannot both be made."""
_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class AppCreated(Event, frozen=True, kw_only=True):
    """An app exists; `<slug>.localhost` is its host."""

    TOPIC = "apps.AppCreated"
    app_id: UUID
    name: str
    slug: str


class AppChanged(Event, frozen=True, kw_only=True):
    """An app has another name or slug, or an old slug less. `old_slugs` are those that it has had and still owns, the oldest first."""

    TOPIC = "apps.AppChanged"
    app_id: UUID
    name: str
    slug: str
    old_slugs: tuple[str, ...] = ()


class AppDeleted(Event, frozen=True, kw_only=True):
    """An app is gone; its own log is closed next, and its read models are dropped."""

    TOPIC = "apps.AppDeleted"
    app_id: UUID
    slug: str
    name: str = ""


class AppPurged(Event, frozen=True, kw_only=True):
    """The log of a deleted app is closed, and nothing else is left of it."""

    TOPIC = "apps.AppPurged"
    app_id: UUID


class DomainAdded(Event, frozen=True, kw_only=True):
    """An app answers for a host: exact (`example.com`) or a wildcard (`*.example.com`)."""

    TOPIC = "apps.DomainAdded"
    domain_id: UUID
    app_id: UUID
    pattern: str


class DomainRemoved(Event, frozen=True, kw_only=True):
    """An app no longer answers for a host."""

    TOPIC = "apps.DomainRemoved"
    domain_id: UUID
    app_id: UUID
    pattern: str


class ChangeApp(Effect, frozen=True, kw_only=True):
    """Give an app another name, another slug, or both; None leaves it. A slug of its own past is no longer an old one then."""

    app_id: UUID
    name: str | None = None
    slug: str | None = None

    @property
    def stream(self) -> str:
        return app_stream(self.app_id)


class LoseSlug(Effect, frozen=True, kw_only=True):
    """Take an old slug from an app, because another takes it over."""

    app_id: UUID
    slug: str

    @property
    def stream(self) -> str:
        return app_stream(self.app_id)


class DeleteApp(Effect, frozen=True, kw_only=True):
    """End an app."""

    app_id: UUID

    @property
    def stream(self) -> str:
        return app_stream(self.app_id)


def app_stream(app_id: UUID) -> str:
    """The stream of an app, in the nil log."""
    return stream("app", app_id)


def domain_stream(domain_id: UUID) -> str:
    """The stream of a claimed host, in the nil log."""
    return stream("domain", domain_id)


def check_app_name(name: str) -> str:
    """A display name: 1 to 100 characters; raises Invalid."""
    check_text(name, "name")
    if not 0 < len(name.strip()) <= MAX_NAME_CHARS:
        raise Invalid(f"name: 1 to {MAX_NAME_CHARS} characters", field="name")
    return name.strip()


def check_slug(slug: str) -> str:
    """A slug is one lower-case DNS label, because `<slug>.localhost` must be a host, and not like an id, because paths take either; raises Invalid."""
    if not _SLUG.fullmatch(slug):
        raise Invalid("slug: 1 to 63 of a-z, 0-9 and hyphens, not at either end", field="slug")
    if parse_uuid(slug) is not None:
        raise Invalid("slug: it may not look like an id, because paths take either", field="slug")
    return slug


def _change(effect: ChangeApp, last: Event | None, now: datetime) -> tuple[Event, ...]:
    del now
    before = _living(last)
    name = before.name if effect.name is None else effect.name
    slug = before.slug if effect.slug is None else effect.slug
    if (name, slug) == (before.name, before.slug):
        return ()
    left = () if slug == before.slug else (before.slug,)
    old_slugs = (*(old for old in before.old_slugs if old != slug), *left)
    if len(old_slugs) > MAX_OLD_SLUGS:
        raise Conflict(f"slug: an app keeps at most {MAX_OLD_SLUGS} old slugs", code="too_many_old_slugs", field="slug", most=MAX_OLD_SLUGS)
    return (AppChanged(app_id=before.app_id, name=name, slug=slug, old_slugs=old_slugs),)


def _lose_slug(effect: LoseSlug, last: Event | None, now: datetime) -> tuple[Event, ...]:
    del now
    before = _living(last)
    if effect.slug not in before.old_slugs:
        raise VersionConflict(f"{effect.slug} is no longer an old slug of this app", stream=effect.stream)
    return (msgspec.structs.replace(before, old_slugs=tuple(old for old in before.old_slugs if old != effect.slug)),)


def _delete(effect: DeleteApp, last: Event | None, now: datetime) -> tuple[Event, ...]:
    del effect, now
    before = _living(last)
    return (AppDeleted(app_id=before.app_id, slug=before.slug, name=before.name),)


def _living(last: Event | None) -> AppChanged:
    """An app as its last event says it is. Raises NotFound when there is none."""
    match last:
        case AppChanged():
            return last
        case AppCreated(app_id=app_id, name=name, slug=slug):
            return AppChanged(app_id=app_id, name=name, slug=slug)
        case _:
            raise NotFound("there is no such app", code="app_not_found")


AGGREGATES: Final = (
    Aggregate(
        kind="app",
        events=(AppCreated, AppChanged, AppDeleted, AppPurged),
        deciders={ChangeApp: _change, LoseSlug: _lose_slug, DeleteApp: _delete},
        exists=lambda last, _: isinstance(last, AppCreated | AppChanged),
    ),
    Aggregate(kind="domain", events=(DomainAdded, DomainRemoved), deciders={}, exists=lambda last, _: isinstance(last, DomainAdded)),
)
