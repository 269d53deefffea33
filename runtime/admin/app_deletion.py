"""The end of an app: one unit in the instance's log, which gives up all its names; then its own log is closed, and `runtime.purge` drops the rest."""

from __future__ import annotations

from uuid import UUID

from adapters.postgres.log import PgLog
from domain.apps import DOMAINS_GUARD, MAX_DOMAINS, DeleteApp
from domain.errors import Conflict
from domain.hosts import slug_host
from domain.ids import NIL_APP
from domain.names import move_guard, release_name
from domain.ports import Reader
from domain.units import Change
from projections.control.app_reads import StoredApp, StoredDomain, count_scripts, page_domains
from runtime.admin.domains import removal
from runtime.admin.living_apps import read_living_app
from runtime.admin.slugs import HOST_NAME, SLUG_NAME
from runtime.admin.streams import read_guards
from runtime.admin.writing import Acting, AdminWriter, retried


class AppDeletion:
    """Deletes apps."""

    def __init__(self, reader: Reader, writer: AdminWriter, log: PgLog) -> None:
        self._reader = reader
        self._writer = writer
        self._log = log

    async def delete(self, app_id: UUID, acting: Acting, *, force: bool) -> None:
        """Delete an app; when this returns no process answers for it, and nothing more is appended to its log.

        Raises NotFound, or Conflict `app_has_scripts` with `script_count` unless `force`. Scripts are in another log than apps, so the count is that of
        this moment: one that is saved right after it goes with the app.
        """
        if not force and (scripts := await count_scripts(self._reader, app_id)):
            raise Conflict(f"this app has scripts, {scripts} in all; delete it with ?force=true", code="app_has_scripts", script_count=scripts)
        await retried(lambda: self._delete(app_id, acting))
        # At once, and again by the purge, should this process die here.
        await self._log.close_app(app_id)

    async def _delete(self, app_id: UUID, acting: Acting) -> None:
        (guard,) = await read_guards(self._reader, NIL_APP, DOMAINS_GUARD)
        app, version = await read_living_app(self._reader, app_id)
        domains = await page_domains(self._reader, app_id, None, MAX_DOMAINS)
        changes = [Change(DeleteApp(app_id=app_id), version), *_released(app, domains), move_guard(DOMAINS_GUARD, guard)]
        await self._writer.publish(NIL_APP, acting, changes)


def _released(app: StoredApp, domains: list[StoredDomain]) -> list[Change]:
    """All names of an app, free again."""
    slugs = (app.slug, *app.old_slugs)
    changes = [change for slug in slugs for change in (release_name(SLUG_NAME, slug, app.id), release_name(HOST_NAME, slug_host(slug), app.id))]
    return [*changes, *(change for domain in domains for change in removal(app.id, domain.id, domain.pattern))]
