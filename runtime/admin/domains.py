"""Domains: the hosts, beside `<slug>.localhost`, that apps answer for. Each belongs to one app, and no two apps' patterns match the same host."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from uuid_utils.compat import uuid7

from domain.apps import DOMAINS_GUARD, MAX_DOMAINS, DomainAdded, DomainRemoved, app_stream, domain_stream
from domain.errors import Conflict, Forbidden, Invalid, NotFound
from domain.hosts import is_public_name, overlap, parse_host_pattern, slug_below, slug_host
from domain.ids import NIL_APP
from domain.names import claim_name, move_guard, release_name
from domain.ports import Reader
from domain.units import ABSENT, Change, Read, Record
from projections.control.app_reads import HostClaim, StoredApp, StoredDomain, page_domains, read_all_claims, read_claims, read_domain
from runtime.admin.living_apps import read_living_app, refuse_in_use
from runtime.admin.slugs import HOST_NAME, HostRules, is_ours
from runtime.admin.streams import read_guards
from runtime.admin.writing import Acting, AdminWriter, retried

_RESERVED: Final = "host_reserved"


class Domains:
    """The domains of all apps."""

    def __init__(self, reader: Reader, writer: AdminWriter, rules: HostRules) -> None:
        self._reader = reader
        self._writer = writer
        self._rules = rules

    async def page(self, app_id: UUID, after: UUID | None, limit: int) -> list[StoredDomain]:
        """An app's domains in the order of their creation."""
        return await page_domains(self._reader, app_id, after, limit)

    async def add(self, app_id: UUID, pattern: str, acting: Acting) -> StoredDomain:
        """Let an app answer for a host, or for all below a name (`*.example.com`).

        Raises NotFound, Invalid, Forbidden `host_reserved`, or Conflict: `domain_taken`, `domain_overlaps` (neither says whose it is), `too_many_domains`.
        """
        canonical = parse_host_pattern(pattern)
        self._refuse_own(canonical)
        return await retried(lambda: self._add(app_id, canonical, acting))

    async def remove(self, app_id: UUID, domain_id: UUID, acting: Acting, *, force: bool = False) -> None:
        """Let an app answer for a host no longer. Raises NotFound, or, unless forced, Conflict `domain_in_use` with the `routes` that name such a host."""
        await retried(lambda: self._remove(app_id, domain_id, acting, force=force))

    async def _add(self, app_id: UUID, pattern: str, acting: Acting) -> StoredDomain:
        (guard,) = await read_guards(self._reader, NIL_APP, DOMAINS_GUARD)
        app, version = await read_living_app(self._reader, app_id)
        _refuse_slugs_host(pattern, app)
        _refuse_taken(pattern, app_id, await read_all_claims(self._reader))
        added = DomainAdded(domain_id=uuid7(), app_id=app_id, pattern=pattern)
        changes = [
            claim_name(HOST_NAME, pattern, app_id),
            Change(Record(name=domain_stream(added.domain_id), event=added), ABSENT),
            move_guard(DOMAINS_GUARD, guard),
        ]
        events = await self._writer.publish(NIL_APP, acting, changes, reads=[Read(app_stream(app_id), version)])
        return StoredDomain(added.domain_id, pattern, events[0].recorded_at)

    async def _remove(self, app_id: UUID, domain_id: UUID, acting: Acting, *, force: bool) -> None:
        (guard,) = await read_guards(self._reader, NIL_APP, DOMAINS_GUARD)
        app, _ = await read_living_app(self._reader, app_id)
        domain = await read_domain(self._reader, app_id, domain_id)
        if domain is None:
            raise NotFound("there is no such domain")
        if not force:
            others = [claim for claim in await read_claims(self._reader, app_id) if claim != domain.pattern]
            await refuse_in_use(self._reader, app_id, domain.pattern, [slug_host(app.slug), *others], code="domain_in_use")
        await self._writer.publish(NIL_APP, acting, [*removal(app_id, domain_id, domain.pattern), move_guard(DOMAINS_GUARD, guard)])

    def _refuse_own(self, pattern: str) -> None:
        if is_ours(pattern, self._rules) or not (self._rules.may_take_own or is_public_name(pattern)):
            message = "the instance's own host, addresses, and names without a dot are given to apps by the instance's admins"
            raise Forbidden(f"pattern: {message}", code=_RESERVED, field="pattern")


def removal(app_id: UUID, domain_id: UUID, pattern: str) -> list[Change]:
    """The changes by which a domain is nobody's; `DOMAINS_GUARD` moves with them."""
    removed = DomainRemoved(domain_id=domain_id, app_id=app_id, pattern=pattern)
    return [release_name(HOST_NAME, pattern, app_id), Change(Record(name=domain_stream(domain_id), event=removed))]


def _refuse_slugs_host(pattern: str, app: StoredApp) -> None:
    """Below `localhost` hosts follow from slugs. What is below an app's own is free to that app."""
    slug = slug_below(pattern)
    if slug is not None and (slug != app.slug or pattern == slug_host(slug)):
        message = f"hosts below localhost go with slugs; this app has {slug_host(app.slug)}, and may claim what is below that"
        raise Invalid(f"pattern: {message}", code=_RESERVED, field="pattern")


def _refuse_taken(pattern: str, app_id: UUID, claims: list[HostClaim]) -> None:
    if any(claim.pattern == pattern for claim in claims):
        raise Conflict(f"pattern: {pattern} belongs to an app already", code="domain_taken", field="pattern")
    if any(claim.app_id != app_id and overlap(claim.pattern, pattern) for claim in claims):
        raise Conflict(f"pattern: another app answers for some host that {pattern} matches", code="domain_overlaps", field="pattern")
    if sum(claim.app_id == app_id for claim in claims) >= MAX_DOMAINS:
        raise Conflict(f"pattern: an app has at most {MAX_DOMAINS} domains", code="too_many_domains", field="pattern", most=MAX_DOMAINS)
