"""Where calls may go: the check of a URL, and of each address before a socket is made for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec
from yarl import URL

from domain.addresses import OF_THE_NEIGHBOURHOOD, Category, category_of, is_canonical
from domain.outbound import CallFailed

MAX_URL_CHARS: Final = 8192
_FIRST_HIGH_PORT: Final = 1024
_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+")
_HOST: Final = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_MAX_HOST_CHARS: Final = 253


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """`allow_private` lets calls reach this machine and the networks around it. `categorise` says why an address is not the public Internet's."""

    allow_private: bool = False
    low_ports: frozenset[int] = frozenset({80, 443})
    categorise: Callable[[str], Category | None] = category_of

    def blocks(self, address: str) -> Category | None:
        """Why no call may reach this address; None when one may."""
        category = self.categorise(address)
        return None if self.allow_private and category in OF_THE_NEIGHBOURHOOD else category

    def check_address(self, address: str) -> None:
        """Raise CallFailed when no call may reach this address."""
        category = self.blocks(address)
        if category is not None:
            raise blocked("address", category)

    def check_url(self, text: str) -> URL:
        """The URL as it will be called. Raises CallFailed: what is called must be what stands there, in a spelling that every parser reads alike."""
        url = _parsed(text)
        if url.scheme not in {"http", "https"}:
            raise blocked("scheme", url.scheme[:20] or "none")
        if url.raw_user is not None or url.raw_password is not None:
            raise CallFailed("blocked", "credentials in the URL are not accepted: use an authorization header")
        if url.port is None or not (url.port in self.low_ports or url.port >= _FIRST_HIGH_PORT):
            raise blocked("port", str(url.port))
        self._check_host(url.raw_host or "", text)
        return url.with_fragment(None)

    def _check_host(self, host: str, text: str) -> None:
        """Check the host as it was read (`host`) and as it was written (somewhere in `text`)."""
        if "%" in host:
            raise blocked("host", "zone id or percent-encoding")
        if ":" in host:
            self.check_address(host)
            return
        if host.endswith("."):
            raise blocked("host", "trailing dot")
        if host not in text.lower():
            raise blocked("host", "not ASCII: write its xn-- form")
        if len(host) > _MAX_HOST_CHARS or not _HOST.fullmatch(host):
            raise blocked("host", "not a host name")
        if not _NUMBER.fullmatch(host.rpartition(".")[2]):
            return
        # The last label of a name is never a number (WHATWG URL, "ends in a number"), but resolvers read such hosts as addresses.
        if not is_canonical(host):
            raise blocked("address", "spelling")
        self.check_address(host)


def blocked(what: str, why: str) -> CallFailed:
    """A call that policy forbids."""
    return CallFailed("blocked", f"blocked {what} ({why})")


def _parsed(text: str) -> URL:
    if len(text) > MAX_URL_CHARS:
        raise CallFailed("blocked", f"the URL is longer than {MAX_URL_CHARS} characters")
    if "\\" in text or any(char.isspace() or not char.isprintable() for char in text):
        raise CallFailed("blocked", "the URL contains white space, control characters or a backslash")
    try:
        return URL(text)
    except (ValueError, TypeError):
        raise CallFailed("blocked", "this is not a URL") from None
