"""Apps and the hosts they claim, in the instance's own log."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from domain.aggregates import Aggregate
from domain.errors import Invalid
from domain.events import Event
from domain.ids import stream
from domain.values import check_text

MAX_NAME_CHARS: Final = 100
_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class AppCreated(Event, frozen=True, kw_only=True):
    """An app exists; `<slug>.localhost` is its host."""

    TOPIC = "apps.AppCreated"
    app_id: UUID
    name: str
    slug: str


class AppDeleted(Event, frozen=True, kw_only=True):
    """An app is gone; its own log is closed next."""

    TOPIC = "apps.AppDeleted"
    app_id: UUID
    slug: str


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
    """A slug is one lower-case DNS label, because `<slug>.localhost` must be a host; raises Invalid."""
    if not _SLUG.fullmatch(slug):
        raise Invalid("slug: 1 to 63 of a-z, 0-9 and hyphens, not at either end", field="slug")
    return slug


AGGREGATES: Final = (
    Aggregate(kind="app", events=(AppCreated, AppDeleted), deciders={}, exists=lambda last, _: isinstance(last, AppCreated)),
    Aggregate(kind="domain", events=(DomainAdded, DomainRemoved), deciders={}, exists=lambda last, _: isinstance(last, DomainAdded)),
)
