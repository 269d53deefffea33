"""The projection `apps`: the apps of the instance and the hosts they answer for, from the nil log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from domain.apps import AppCreated, AppDeleted, DomainAdded, DomainRemoved
from domain.events import Event, Recorded
from domain.statements import load_sql
from projections.base import Stages
from projections.rows import Life, changed, lives, side_by_side

_SQL: Final = load_sql("projections.control", "apps.sql")


class Apps:
    """Tables `apps` and `domains`."""

    name = "apps"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("apps", "domains")
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({AppCreated, AppDeleted, DomainAdded, DomainRemoved})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """The last event of each app and domain."""
        apps = lives((recorded for recorded in events if isinstance(recorded.event, AppCreated | AppDeleted)), AppDeleted)
        domains = lives((recorded for recorded in events if isinstance(recorded.event, DomainAdded | DomainRemoved)), DomainRemoved)
        return side_by_side(
            changed(apps, AppDeleted, _row, _SQL["save_apps"], _SQL["delete_apps"]),
            changed(domains, DomainRemoved, _row, _SQL["save_domains"], _SQL["delete_domains"]),
        )


def _row(life: Life) -> dict[str, Any]:
    match life.last.event:
        case AppCreated(app_id=app_id, name=name, slug=slug):
            return {"app_id": app_id, "name": name, "slug": slug, "created_at": life.created_at}
        case DomainAdded(app_id=app_id, domain_id=domain_id, pattern=pattern):
            return {"app_id": app_id, "domain_id": domain_id, "pattern": pattern, "created_at": life.created_at}
        case DomainRemoved(app_id=app_id, domain_id=domain_id):
            return {"app_id": app_id, "domain_id": domain_id}
        case AppDeleted(app_id=app_id):
            return {"app_id": app_id}
        case _:
            raise TypeError(life.last.event)
