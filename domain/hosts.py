"""Hosts: the `Host` header in one canonical form, the patterns by which apps claim hosts, and the table that finds the app of a host.

A canonical host is lower-case ASCII without port, brackets or trailing dot; addresses are in the form of `ipaddress`. A pattern is such a host, or `*.` and a
name: it matches every host with one label or more before that name, never the name itself. Underscores are accepted, since container networks use them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Final, NoReturn
from uuid import UUID

import idna

from domain.errors import Invalid

MAX_HOST_CHARS: Final = 253
LOCALHOST: Final = "localhost"
ADMIN_HOST: Final = "admin.localhost"
"""Where people administer an instance on their own machine: apps answer for `localhost`, and cookies do not count on hosts of apps."""

_WILDCARD: Final = "*."
_MAX_PORT: Final = 65535
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HEADER: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{0,5}))?")


def normalise_host(header: str) -> str:
    """Canonical form of a `Host` header (RFC 9110, 7.2), its port dropped. Raises Invalid naming `host`."""
    parts = _HEADER.fullmatch(header) if len(header) <= MAX_HOST_CHARS + 8 else None
    if parts is None or int(parts["port"] or 0) > _MAX_PORT:
        _refuse("host", "expected a host name or address with an optional port")
    if parts["v6"]:
        return _ipv6(parts["v6"], "host")
    if not parts["name"].isascii():
        _refuse("host", "names that are not ASCII are sent in their xn-- form")
    return _ascii_name(parts["name"], "host")


def parse_exact_host(text: str, field: str) -> str:
    """Canonical form of one host as people write it: Unicode names become their xn-- form (IDNA 2008, UTS 46). Raises Invalid naming `field`."""
    if "/" in text:
        _refuse(field, "expected a host alone, without a scheme or a path")
    if "*" in text:
        _refuse(field, "'*' stands only for the first labels, as in '*.example.com'")
    if text.startswith("[") and text.endswith("]"):
        return _ipv6(text[1:-1], field)
    if text.count(":") > 1:
        return _ipv6(text, field)
    if ":" in text:
        _refuse(field, "a port is not accepted, a host is claimed on all ports")
    return _ascii_name(text if text.isascii() else _to_ascii(text, field), field)


def parse_wildcard_host(text: str, field: str) -> str:
    """Canonical form of `*.example.com`. Raises Invalid naming `field`."""
    if not text.startswith(_WILDCARD):
        _refuse(field, "expected '*.' and a name, as in '*.example.com'")
    name = parse_exact_host(text.removeprefix(_WILDCARD), field)
    if ":" in name or name.rpartition(".")[2].isdigit():
        _refuse(field, "an address has no subdomains")
    return _WILDCARD + name


def parse_host_pattern(text: str, field: str = "pattern") -> str:
    """Canonical form of an exact host or `*.example.com`. Raises Invalid naming `field`."""
    return (parse_wildcard_host if text.startswith(_WILDCARD) else parse_exact_host)(text, field)


def covers(claim: str, pattern: str) -> bool:
    """Whether whoever claimed `claim` has every host that `pattern` matches; both canonical."""
    if claim == pattern:
        return True
    return claim.startswith(_WILDCARD) and pattern.removeprefix(_WILDCARD).endswith(claim[1:])


def overlap(one: str, other: str) -> bool:
    """Whether some host matches both of these canonical patterns."""
    return covers(one, other) or covers(other, one)


def slug_host(slug: str) -> str:
    """The host that every app has without claiming it."""
    return f"{slug}.{LOCALHOST}"


def slug_below(pattern: str) -> str | None:
    """The slug to whose host, or a host below it, a canonical pattern belongs (`shop` for `*.shop.localhost`); None for any other, `localhost` too."""
    labels = pattern.split(".")
    return labels[-2] if len(labels) > 1 and labels[-1] == LOCALHOST else None


def is_public_name(pattern: str) -> bool:
    """Whether a canonical pattern is neither an address nor a name without a dot, as machines have on their own network."""
    name = pattern.removeprefix(_WILDCARD)
    return "." in name and not name.rpartition(".")[2].isdigit()


def parent_names(host: str) -> Iterator[str]:
    """What follows each dot of a host, longest first: `a.b.c` gives `b.c`, `c`."""
    dot = host.find(".")
    while dot >= 0:
        yield host[dot + 1 :]
        dot = host.find(".", dot + 1)


class DomainTable:
    """Which app a host belongs to, which hosts have moved, and which apps there are. Immutable; build a new one when a claim changes."""

    __slots__ = ("_exact", "_moved", "_wildcard", "apps")

    def __init__(self, exact: dict[str, UUID], wildcard: dict[str, UUID], moved: dict[str, str], apps: frozenset[UUID]) -> None:
        self._exact = exact
        self._wildcard = wildcard
        self._moved = moved
        self.apps = apps

    @classmethod
    def compile(cls, claims: Mapping[str, UUID], slugs: Mapping[str, UUID], old_slugs: Mapping[str, str] = MappingProxyType({})) -> DomainTable:
        """From canonical patterns and slugs, each with its app, and old slugs, each with the one of now.

        An app's own `<slug>.localhost` stands before a claim of the same text.
        """
        exact = {pattern: app_id for pattern, app_id in claims.items() if not pattern.startswith(_WILDCARD)}
        exact.update((slug_host(slug), app_id) for slug, app_id in slugs.items())
        wildcard = {pattern.removeprefix(_WILDCARD): app_id for pattern, app_id in claims.items() if pattern.startswith(_WILDCARD)}
        return cls(exact, wildcard, {slug_host(old): slug_host(new) for old, new in old_slugs.items()}, frozenset(slugs.values()))

    def match(self, host: str) -> UUID | None:
        """The app of a canonical host: exact before wildcard, the longest suffix first. None for an unknown host."""
        found = self._exact.get(host)
        if found is not None or not self._wildcard:
            return found
        return next((self._wildcard[name] for name in parent_names(host) if name in self._wildcard), None)

    def moved_to(self, host: str) -> str | None:
        """The host that stands in the place of an old slug's; None for any other."""
        return self._moved.get(host)


def _ascii_name(text: str, field: str) -> str:
    """A dotted name, or an IPv4 address, which is what a name ending in a number must be."""
    name = text.lower().removesuffix(".")
    if len(name) > MAX_HOST_CHARS or _NAME.fullmatch(name) is None:
        _refuse(field, f"expected labels of 1 to 63 letters, digits and inner hyphens, {MAX_HOST_CHARS} characters in all")
    if not name.rpartition(".")[2].isdigit():
        return name
    try:
        return str(IPv4Address(name))
    except ValueError:
        _refuse(field, "a name that ends in a number must be an IPv4 address")


def _ipv6(text: str, field: str) -> str:
    if "%" in text:
        _refuse(field, "zone identifiers are not accepted")
    try:
        return str(IPv6Address(text))
    except ValueError:
        _refuse(field, "not an IPv6 address")


def _to_ascii(text: str, field: str) -> str:
    # The bound comes first: IDNA work grows faster than its input.
    if len(text) > MAX_HOST_CHARS:
        _refuse(field, f"at most {MAX_HOST_CHARS} characters are accepted")
    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except UnicodeError as error:
        _refuse(field, f"not a valid internationalised name ({error})")


def _refuse(field: str, why: str) -> NoReturn:
    raise Invalid(f"{field}: {why}", field=field)
