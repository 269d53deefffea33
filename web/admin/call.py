"""What every admin handler gets: who calls, and what may be done for him."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import SkipValidation

from domain.authz import Capability, Principal, authorize, decide
from domain.errors import Forbidden, Invalid, Moved, NotFound, Unauthenticated
from domain.ids import NIL_APP, parse_uuid
from domain.principals import authority
from domain.statements import load_sql
from projections.control.app_reads import read_deleted_app
from runtime.access.identity import Identity
from runtime.admin.writing import Acting
from web.admin.needs import needs_of, of_instance
from web.core import Core
from web.limits import limit_rate
from web.noted import note_key
from web.requests import request_id_of
from web.security import identity_of, refuse_forgery, refuse_shared_origin, renew_cookie

_SQL: Final = load_sql("web.admin", "call.sql")


class AppRow(msgspec.Struct, frozen=True, kw_only=True):
    """An app as its path names it."""

    app_id: UUID
    name: str
    slug: str


class Denied(msgspec.Struct, frozen=True):
    """What a caller lacked in an app, seen or not."""

    capability: Capability
    app_id: UUID


class AdminCall:
    """One authenticated request. `principal` was checked in the database for it.

    `target` is its path, still encoded, with its query.

    `needs` are the capabilities that its route declares. Those of the instance were asked for before the handler; those in an app are by `app` and `require`.
    `denied` is what he lacked in an app, once he was refused for it, whatever he is told.
    """

    def __init__(self, core: Core, identity: Identity, request_id: str, needs: Sequence[Capability], target: str = "") -> None:
        self.core = core
        self.needs = needs
        self.identity = identity
        self.principal: Principal = identity.principal
        self._request_id = request_id
        self._apps: list[UUID] = []
        self._target = target
        self.denied: Denied | None = None

    @property
    def acting(self) -> Acting:
        """Who changes are made by, and by what right: that of the instance, and that in each app in which something was asked for."""
        return Acting(self.principal.actor, self._request_id, authority(self.principal, *self._apps))

    def session(self) -> UUID:
        """The session that this request is made in. Raises Forbidden for who comes with an API key: what is about sessions is for who has logged in."""
        if self.identity.session_id is None:
            raise Forbidden("an API key is no session: log in with name and password", code="session_required")
        return self.identity.session_id

    def require(self, app_id: UUID, *instead: Capability) -> None:
        """Return when the principal has all declared capabilities in an app (or those given instead). Raises NotFound for what he may not see, Forbidden."""
        for capability in instead or self.needs:
            try:
                authorize(self.principal, capability, app_id)
            except (NotFound, Forbidden):
                self.denied = Denied(capability, app_id)
                raise
        self._apps.append(app_id)

    async def app(self, reference: str, *instead: Capability) -> AppRow:
        """The app of an id or slug, if the principal has what is needed there. A missing app and one that he may not see are the same NotFound.

        Raises Moved to the same place under the slug of now for an old slug in the path, and NotFound `app_renamed` for one anywhere else.
        """
        found = await self._find_app(reference)
        missing = NotFound("there is no such app", code="app_not_found")
        if found is None:
            raise missing
        try:
            self.require(found.app_id, *instead)
        except NotFound:
            raise missing from None
        if parse_uuid(reference) is None and found.slug != reference:
            raise self._renamed(reference, found.slug)
        return found

    async def app_id(self, reference: str, field: str = "app_id") -> UUID:
        """The id that an id or the slug of now stands for. Whether the principal may know of the app is not asked. Raises Invalid for a slug that is none."""
        app_id = parse_uuid(reference)
        if app_id is not None:
            return app_id
        found = await self._find_app(reference)
        if found is None or found.slug != reference:
            raise Invalid(f"{field}: there is no such app", code="unknown_app", field=field)
        return found.app_id

    async def admit_write(self, app_id: UUID, size: int = 0) -> None:
        """Return when the app may take a write of so many bytes. Raises QuotaExceeded, StorageFull. Deletions, and changes of how things are, need not ask."""
        await self.core.quotas.admit_write(app_id, size)

    async def app_or_deleted(self, reference: str) -> UUID:
        """The app of an id or slug as `app` finds it; of a deleted one the id, for those who read the instance's own log. Raises as `app` does."""
        app_id = parse_uuid(reference)
        if app_id is not None and decide(self.principal, Capability.INSTANCE_READ_LOG, None).allowed and await read_deleted_app(self.core.reader, app_id):
            self.require(app_id)
            return app_id
        return (await self.app(reference)).app_id

    def _renamed(self, old: str, slug: str) -> Moved | NotFound:
        before, segment, after = self._target.partition(f"/apps/{old}")
        if not segment or (after and after[0] not in "/?"):
            return NotFound(f"the app {old} goes by {slug} now", code="app_renamed", slug=slug)
        return Moved(f"the app {old} goes by {slug} now", location=f"{before}/apps/{slug}{after}", slug=slug)

    async def _find_app(self, reference: str) -> AppRow | None:
        app_id = parse_uuid(reference)
        sql, argument = (_SQL["app_by_slug"], reference) if app_id is None else (_SQL["app_by_id"], app_id)
        rows = await self.core.reader.fetch(sql, argument)
        return None if not rows or rows[0]["app_id"] == NIL_APP else AppRow(app_id=rows[0]["app_id"], name=rows[0]["name"], slug=rows[0]["slug"])


Call = NamedDependency[SkipValidation[AdminCall]]
"""How handlers ask for it: `async def handler(call: Call, ...)`."""


async def admitted(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard before every admin handler: nothing of the body is read for whoever is not let in. Raises Unauthenticated, Forbidden.

    What a route needs in an app is asked for when its handler has found that app.
    """
    wanted = needs_of(handler)
    if wanted is None:
        return
    core: Core = connection.app.state.core
    await refuse_shared_origin(core.directory, connection.scope)
    identity = await identity_of(core.authentication, connection.scope)
    if identity is None:
        raise Unauthenticated
    if identity.principal.kind == "key":
        per_minute = (await core.directory.instance()).control_plane.requests_per_minute_per_key
        limit_rate(core.rates, connection.scope, "key", ("control", identity.principal.id), per_minute)
    connection.state.identity = identity
    note_key(core.access, connection.scope, identity.principal)
    refuse_forgery(connection.scope, core.settings)
    if identity.extended:
        renew_cookie(connection.scope, core.settings)
    if of_instance(wanted):
        for capability in wanted:
            authorize(identity.principal, capability, None)


async def provide_call(request: Request[Any, Any, Any]) -> AdminCall:
    """The dependency behind `Call`."""
    query = request.scope["query_string"].decode("latin-1")
    target = f"{request.scope['path']}?{query}" if query else request.scope["path"]
    call = AdminCall(request.app.state.core, request.state.identity, request_id_of(request.scope), needs_of(request.route_handler) or (), target)
    request.state.call = call
    return call
