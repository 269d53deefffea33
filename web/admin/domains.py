"""`/apps/{app}/domains`: the hosts that an app answers for, beside its `<slug>.localhost`."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from litestar import Router, delete, get, post
from litestar.params import JSONBody

from domain.authz import Capability
from domain.cursors import decode, encode, parse_limit
from projections.control.app_reads import StoredDomain
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment, flag
from web.admin.services import domains_of
from web.pages import Page, page
from web.paths import id_segment


class AddDomain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host (`example.com`), or all below a name (`*.example.com`)."""

    pattern: str


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """A domain. `pattern` is in canonical form: lower case, `xn--` labels, no trailing dot."""

    id: UUID
    pattern: str
    created_at: datetime


@get("/apps/{app:str}/domains", opt=needs(Capability.DOMAINS_READ))
async def list_domains(call: Call, app: Segment, limit: Query = None, cursor: Query = None) -> Page[Domain]:
    """An app's domains in the order of their creation."""
    found = await call.app(app)
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "domains", (UUID,))
    rows = await domains_of(call).page(found.app_id, after, size + 1)
    return page([_domain(row) for row in rows], size, lambda domain: encode("domains", domain.id))


@post("/apps/{app:str}/domains", opt=needs(Capability.DOMAINS_MANAGE))
async def add_domain(call: Call, app: Segment, data: JSONBody[AddDomain]) -> Domain:
    """Let an app answer for a host. 409 `domain_taken`, `domain_overlaps`; 403 `host_reserved` for what only the instance's admins may give away."""
    found = await call.app(app)
    return _domain(await domains_of(call).add(found.app_id, data.pattern, call.acting))


@delete("/apps/{app:str}/domains/{domain:str}", opt=needs(Capability.DOMAINS_MANAGE))
async def remove_domain(call: Call, app: Segment, domain: Segment, force: Query = None) -> None:
    """Give a host up. 409 `domain_in_use` while `routes` name it, unless `?force=true`: they stay then, and match nothing until it is claimed again."""
    found = await call.app(app)
    await domains_of(call).remove(found.app_id, id_segment(domain, "domain"), call.acting, force=flag(force, "force"))


def _domain(stored: StoredDomain) -> Domain:
    return Domain(id=stored.id, pattern=stored.pattern, created_at=stored.created_at)


router: Final = Router(path="/", route_handlers=[list_domains, add_domain, remove_domain], tags=["domains"])
