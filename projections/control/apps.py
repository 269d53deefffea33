"""The projection `apps`: the apps of the instance and the hosts they answer for, from the nil log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from domain.apps import AppCreated, AppDeleted, DomainAdded, DomainRemoved
from domain.events import Event, Recorded
from domain.statements import load_sql
from projections.base import Stages
from projections.rows import changes

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
        last = {recorded.stream: recorded for recorded in events}.values()
        apps: list[dict[str, Any]] = []
        gone_apps: list[dict[str, Any]] = []
        domains: list[dict[str, Any]] = []
        gone_domains: list[dict[str, Any]] = []
        for recorded in last:
            match recorded.event:
                case AppCreated(app_id=app_id, name=name, slug=slug):
                    apps.append({"app_id": app_id, "name": name, "slug": slug, "created_at": recorded.recorded_at})
                case AppDeleted(app_id=app_id):
                    gone_apps.append({"app_id": app_id})
                case DomainAdded(app_id=app_id, domain_id=domain_id, pattern=pattern):
                    domains.append({"app_id": app_id, "domain_id": domain_id, "pattern": pattern, "created_at": recorded.recorded_at})
                case DomainRemoved(app_id=app_id, domain_id=domain_id):
                    gone_domains.append({"app_id": app_id, "domain_id": domain_id})
        return [
            [
                *changes(_SQL["save_apps"], apps, _SQL["delete_apps"], gone_apps),
                *changes(_SQL["save_domains"], domains, _SQL["delete_domains"], gone_domains),
            ]
        ]
