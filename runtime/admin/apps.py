"""Apps: created with their slug and its host, renamed, and found by id or slug."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from domain.apps import AppChanged, AppCreated, ChangeApp, app_stream, check_app_name
from domain.hosts import slug_host
from domain.ids import NIL_APP
from domain.ports import Reader
from domain.units import ABSENT, Change, Record
from projections.control.app_reads import StoredApp, page_apps
from runtime.admin.living_apps import read_living_app, refuse_in_use
from runtime.admin.slugs import ADMINS_RULES, HostRules, check_not_ours, is_ours, is_slug, leave, read_slug, take
from runtime.admin.writing import Acting, AdminWriter, retried


class SlugVerdict(msgspec.Struct, frozen=True):
    """Whether an app could go by a slug now; if not, why, and whether it could take it over."""

    available: bool
    reason: Literal["invalid", "taken", "in_history", "host_taken", "host_reserved"] | None = None
    takeover_possible: bool = False


class Apps:
    """The apps of the instance."""

    def __init__(self, reader: Reader, writer: AdminWriter, rules: HostRules = ADMINS_RULES) -> None:
        self._reader = reader
        self._writer = writer
        self._rules = rules

    async def page(self, only: list[UUID] | None, after: UUID | None, limit: int) -> list[StoredApp]:
        """Apps in the order of their creation: all, or those among `only`."""
        return await page_apps(self._reader, only, after, limit)

    async def create(self, name: str, slug: str, acting: Acting, *, takeover: bool = False) -> StoredApp:
        """Create an app, which answers for `<slug>.localhost`. Raises Invalid, Forbidden `host_reserved`, and what `slugs.take` raises."""
        created = AppCreated(app_id=uuid7(), name=check_app_name(name), slug=self._check_slug(slug))

        async def attempt() -> StoredApp:
            wanted = await read_slug(self._reader, slug, None)
            claims = take(wanted, created.app_id, takeover=takeover, sees=self._rules.sees)
            events = await self._writer.publish(NIL_APP, acting, [Change(Record(name=app_stream(created.app_id), event=created), ABSENT), *claims])
            return StoredApp(created.app_id, created.name, created.slug, events[0].recorded_at)

        return await retried(attempt)

    async def change(self, app_id: UUID, name: str | None, slug: str | None, acting: Acting, *, takeover: bool = False) -> StoredApp:
        """Give an app another name, another slug, or both; None leaves it.

        Raises NotFound, Invalid, Forbidden `host_reserved`, what `slugs.take` raises, and Conflict `too_many_old_slugs`, or `host_in_use` with `routes` that
        name the host which goes with the slug of now.
        """
        effect = ChangeApp(app_id=app_id, name=None if name is None else check_app_name(name), slug=None if slug is None else self._check_slug(slug))
        return await retried(lambda: self._change(effect, acting, takeover=takeover))

    async def check_slug(self, app_id: UUID, slug: str) -> SlugVerdict:
        """Whether an app could go by a slug now."""
        if not is_slug(slug):
            return SlugVerdict(available=False, reason="invalid")
        if is_ours(slug_host(slug), self._rules):
            return SlugVerdict(available=False, reason="host_reserved")
        standing = (await read_slug(self._reader, slug, app_id)).standing
        if standing == "free" or standing == "current" or standing == "own_old":  # noqa: PLR1714  # mypy narrows by each
            return SlugVerdict(available=True)
        return SlugVerdict(available=False, reason=standing, takeover_possible=standing == "in_history")

    async def _change(self, effect: ChangeApp, acting: Acting, *, takeover: bool) -> StoredApp:
        app, version = await read_living_app(self._reader, effect.app_id)
        changes = [Change(effect, version)]
        if effect.slug is not None and effect.slug != app.slug:
            # Routes that name the host which goes with the slug would never match again, since requests to it are sent on.
            await refuse_in_use(self._reader, app.id, slug_host(app.slug), (), code="host_in_use", field="slug")
            wanted = await read_slug(self._reader, effect.slug, app.id)
            changes += [*leave(app.slug, app.id), *take(wanted, app.id, takeover=takeover, sees=self._rules.sees)]
        events = await self._writer.publish(NIL_APP, acting, changes)
        if not events:
            return app
        changed = events[0].event
        assert isinstance(changed, AppChanged)
        return StoredApp(app.id, changed.name, changed.slug, app.created_at, changed.old_slugs)

    def _check_slug(self, slug: str) -> str:
        return check_not_ours(slug, self._rules)
