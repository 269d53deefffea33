"""Slugs and the hosts that come with them: whose one is, whether an app may have it, and the changes by which it takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from domain.apps import LoseSlug, check_slug
from domain.errors import Conflict, Forbidden, Invalid
from domain.hosts import ADMIN_HOST, covers, slug_host
from domain.ids import NIL_APP
from domain.names import NameClaimed, NameRetired, claim_name, name_stream, retire_name
from domain.ports import Reader
from domain.statements import load_sql
from domain.units import ABSENT, Change
from runtime.admin.streams import StreamHead

_SQL: Final = load_sql("runtime.admin", "slugs.sql")

SLUG_NAME: Final = "slug"
HOST_NAME: Final = "domain"
"""Kinds of names: a slug belongs to one app, a host pattern too."""

Sees = Callable[[UUID], bool]
"""Whether the caller may know of an app."""


class HostRules(msgspec.Struct, frozen=True, kw_only=True):
    """What depends on who asks.

    `own_host` is where the instance itself is reached, None when that is not known; `admin.localhost` is another. An app that had it would answer on the origin
    of the instance's own cookie, and so only the instance's admins may give it away (`may_take_own`); the same goes for addresses and names without a dot, by
    which machines reach each other on their own network.
    """

    own_host: str | None
    may_take_own: bool
    sees: Sees


ADMINS_RULES: Final = HostRules(own_host=None, may_take_own=True, sees=lambda _: True)
"""Those of whoever may do everything."""

Standing = Literal["free", "current", "own_old", "taken", "in_history", "host_taken"]
"""How a slug stands to an app: nobody's; what it goes by; what it went by; what another goes by; went by; nobody's, but its host is claimed."""


class Slug(msgspec.Struct, frozen=True, kw_only=True):
    """A slug as it stands to an app; `owner_id` is whose it is. The versions are of its name and its host's."""

    slug: str
    standing: Standing
    owner_id: UUID | None
    name_version: int
    host_version: int


async def read_slug(reader: Reader, slug: str, app_id: UUID | None) -> Slug:
    """How a slug stands to an app; None is one that is not there yet."""
    (row,) = await reader.fetch(_SQL["slug"], NIL_APP, name_stream(SLUG_NAME, slug), name_stream(HOST_NAME, slug_host(slug)), slug)
    name, host = StreamHead(row["name_version"], row["name_topic"] or ""), StreamHead(row["host_version"], row["host_topic"] or "")
    standing = _standing(name, host, is_own=row["app_id"] == app_id)
    return Slug(slug=slug, standing=standing, owner_id=row["app_id"], name_version=_expected(name), host_version=_expected(host))


def take(wanted: Slug, app_id: UUID, *, takeover: bool, sees: Sees) -> list[Change]:
    """The changes by which an app goes by a slug. Raises Conflict: `slug_taken`, `host_taken`, or `slug_in_history` without `takeover`."""
    match wanted.standing:
        case "taken":
            raise Conflict(f"slug: {wanted.slug} belongs to another app", code="slug_taken", field="slug")
        case "host_taken":
            raise Conflict(f"slug: another app has claimed {slug_host(wanted.slug)}", code="host_taken", field="slug")
        case "in_history" if not takeover:
            raise _in_history(wanted, sees)
        case _:
            return _claims(wanted, app_id)


def leave(slug: str, app_id: UUID) -> list[Change]:
    """The changes by which an app goes by a slug no longer, but keeps it. Its app's stream guards them."""
    return [retire_name(SLUG_NAME, slug, app_id), retire_name(HOST_NAME, slug_host(slug), app_id)]


def check_not_ours(slug: str, rules: HostRules) -> str:
    """A slug whose host is not the instance's own. Raises Invalid for what is no slug, Forbidden `host_reserved`."""
    host = slug_host(check_slug(slug))
    if is_ours(host, rules):
        raise Forbidden(f"slug: {host} is this instance's own host; only its admins may give it to an app", code="host_reserved", field="slug")
    return slug


def is_ours(pattern: str, rules: HostRules) -> bool:
    """Whether a pattern would take the instance's own host, and the caller may not give that away."""
    return not rules.may_take_own and any(covers(pattern, host) for host in (ADMIN_HOST, rules.own_host) if host is not None)


def is_slug(slug: str) -> bool:
    """Whether a text could be a slug."""
    try:
        check_slug(slug)
    except Invalid:
        return False
    return True


def _standing(name: StreamHead, host: StreamHead, *, is_own: bool) -> Standing:
    match name.topic:
        case NameClaimed.TOPIC:
            return "current" if is_own else "taken"
        case NameRetired.TOPIC:
            return "own_old" if is_own else "in_history"
        case _:
            return "host_taken" if host.topic in {NameClaimed.TOPIC, NameRetired.TOPIC} else "free"


def _expected(head: StreamHead) -> int:
    """What a claim expects: the version at which a name was retired, or that nobody has it."""
    return head.version if head.topic == NameRetired.TOPIC else ABSENT


def _claims(wanted: Slug, app_id: UUID) -> list[Change]:
    claims = [
        claim_name(SLUG_NAME, wanted.slug, app_id, wanted.name_version),
        claim_name(HOST_NAME, slug_host(wanted.slug), app_id, wanted.host_version),
    ]
    if wanted.standing == "in_history" and wanted.owner_id is not None:
        claims.append(Change(LoseSlug(app_id=wanted.owner_id, slug=wanted.slug)))
    return claims


def _in_history(wanted: Slug, sees: Sees) -> Conflict:
    told: dict[str, Any] = {"app_id": str(wanted.owner_id)} if wanted.owner_id is not None and sees(wanted.owner_id) else {}
    whose = f"the app {told['app_id']}" if told else "another app"
    message = f"slug: {wanted.slug} is an old slug of {whose}, which is still found by it; take it over with takeover: true"
    return Conflict(message, code="slug_in_history", field="slug", **told)
