"""The projection `apps`: the apps of the instance, the hosts they answer for, and which apps there were, from the nil log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from domain.apps import AppChanged, AppCreated, AppDeleted, AppPurged, DomainAdded, DomainRemoved
from domain.events import Event, Recorded
from domain.statements import load_sql
from projections.base import Stages
from projections.rows import Life, changed, changes, lives, side_by_side

_SQL: Final = load_sql("projections.control", "apps.sql")


class Apps:
    """Tables `apps`, `domains` and `deleted_apps`."""

    name = "apps"
    version = 2
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("apps", "domains", "deleted_apps")
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({AppCreated, AppChanged, AppDeleted, AppPurged, DomainAdded, DomainRemoved})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """The last event of each app and domain, and the end of each app."""
        apps = lives((recorded for recorded in events if isinstance(recorded.event, AppCreated | AppChanged | AppDeleted)), AppDeleted)
        domains = lives((recorded for recorded in events if isinstance(recorded.event, DomainAdded | DomainRemoved)), DomainRemoved)
        return side_by_side(
            changed(apps, AppDeleted, _row, _SQL["save_apps"], _SQL["delete_apps"]),
            changed(domains, DomainRemoved, _row, _SQL["save_domains"], _SQL["delete_domains"]),
            _ended(events),
        )


def _ended(events: Sequence[Recorded]) -> Stages:
    """Rows of the apps that were deleted, with when they were purged, and of those that were deleted before, that time alone."""
    purged_at = {recorded.event.app_id: recorded.recorded_at for recorded in events if isinstance(recorded.event, AppPurged)}
    deleted: dict[UUID, dict[str, Any]] = {}
    for recorded in events:
        if isinstance(event := recorded.event, AppDeleted):
            row = {"deleted_id": event.app_id, "name": event.name, "slug": event.slug, "deleted_at": recorded.recorded_at}
            deleted.setdefault(event.app_id, row | {"purged_at": purged_at.get(event.app_id)})
    purged = [{"deleted_id": app_id, "purged_at": at} for app_id, at in purged_at.items() if app_id not in deleted]
    return [changes(_SQL["save_deleted"], list(deleted.values()), _SQL["note_purged"], purged)] if deleted or purged else []


def _row(life: Life) -> dict[str, Any]:
    match life.last.event:
        case AppCreated(app_id=app_id, name=name, slug=slug):
            return {"app_id": app_id, "name": name, "slug": slug, "old_slugs": [], "created_at": life.created_at}
        case AppChanged(app_id=app_id, name=name, slug=slug, old_slugs=old_slugs):
            return {"app_id": app_id, "name": name, "slug": slug, "old_slugs": old_slugs, "created_at": life.created_at}
        case DomainAdded(app_id=app_id, domain_id=domain_id, pattern=pattern):
            return {"app_id": app_id, "domain_id": domain_id, "pattern": pattern, "created_at": life.created_at}
        case DomainRemoved(app_id=app_id, domain_id=domain_id):
            return {"app_id": app_id, "domain_id": domain_id}
        case AppDeleted(app_id=app_id):
            return {"app_id": app_id}
        case _:
            raise TypeError(life.last.event)
