"""Who sends a request: from the `Authorization` header or the session cookie to a principal.

A request that carries both is judged by its header. The cookie alone does not prove that its bearer's own page sent the request, so a change by cookie must
also come with an `Origin` of this host, which browsers set and pages cannot forge.

Pages of an app are written by its authors, and a page can do all that a cookie allows on its own host. So on a host that an app answers for the cookie neither
counts nor is set: whoever administers by cookie does so on a host that is no app's (the public base URL, `admin.localhost`). Nothing less would do: pages
of one origin can read each other, and forge whatever their requests say of where they come from.

This machine's own names (`localhost`, loopback addresses) are excepted, though the app `default` answers for them: who opens them sits at the machine, as a
rule with apps of his own. What would outlast a visit there, a service worker, is not served.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from domain.authz import Principal
from domain.errors import Forbidden, Invalid
from domain.hosts import normalise_host
from runtime.access.authentication import Authentication
from runtime.access.identity import Identity
from runtime.directory import Directory
from runtime.settings import Settings

SESSION_COOKIE: Final = "picloud_session"
COOKIE_PATH: Final = "/"

_RENEWED: Final = "renewed_cookie"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Credential(msgspec.Struct, frozen=True):
    """A token as it came; empty when the `Authorization` header holds none. Its repr does not show it."""

    token: str
    by_cookie: bool

    def __repr__(self) -> str:
        return f"Credential(by_cookie={self.by_cookie})"


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """A request header's first value; names are lower case."""
    headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def credential_of(scope: Mapping[str, Any]) -> Credential | None:
    """What the request shows; None when it shows nothing.

    Two different sessions are none: a page of a neighbouring host has set one of them for its whole domain, and which is the browser's own cannot be told.
    """
    authorization = header(scope, b"authorization")
    if authorization is not None:
        scheme, _, token = authorization.strip().partition(" ")
        return Credential(token.strip() if scheme.lower() == "bearer" else "", by_cookie=False)
    tokens = {token for key, value in scope["headers"] if key == b"cookie" for token in _session_cookies(value.decode("latin-1"))}
    return Credential(tokens.pop() if len(tokens) == 1 else "", by_cookie=True) if tokens else None


async def identity_of(authentication: Authentication, scope: Mapping[str, Any]) -> Identity | None:
    """Whom the request's credential belongs to, asked of the database; None without one and for one that is not valid."""
    credential = credential_of(scope)
    return None if credential is None else await authentication.authenticate(credential.token)


async def principal_of(
    authentication: Authentication, settings: Settings, scope: Mapping[str, Any], *, changes: bool | None = None, by_cookie: bool = True
) -> Principal | None:
    """The principal of a request on the data plane; None is an anonymous one (or an invalid credential, or a cookie that another site's page may have sent).

    `changes` says whether the request changes state; by default its method tells. `by_cookie` says whether cookies count: on hosts of apps they do not.
    Without a credential nothing is asked of the database.
    """
    credential = credential_of(scope)
    if credential is None or (credential.by_cookie and not (by_cookie and comes_from_here(scope, settings, changes=changes))):
        return None
    identity = await authentication.authenticate(credential.token)
    return None if identity is None else identity.principal


async def is_apps_host(directory: Directory, scope: Mapping[str, Any]) -> bool:
    """Whether cookies do not count on the host that a request names, because an app answers for it, or because it could be none. Not so on this machine's.

    The host of an old slug is its app's still: pages that were opened there before are of that origin. And where the public base URL was given to an app, its
    pages are no pages of ours on other hosts either.
    """
    try:
        host = normalise_host(header(scope, b"host") or "")
    except Invalid:
        return True
    hosts = await directory.hosts()
    named = (host, _page_host(scope) or host)
    return any(not is_own_machine(each) and (hosts.match(each) is not None or hosts.moved_to(each) is not None) for each in named)


def _page_host(scope: Mapping[str, Any]) -> str | None:
    """The host of the page that sends a request, None where its `Origin` names none; what could be no host is not ours to `comes_from_here` either."""
    origin = _netloc(header(scope, b"origin") or "")
    if origin is None:
        return None
    try:
        return normalise_host(origin[1])
    except Invalid:
        return None


def is_own_machine(host: str) -> bool:
    """Whether a canonical host is this machine as seen from itself."""
    return host in {"localhost", "::1"} or (host.startswith("127.") and host.replace(".", "").isdigit())


def refuse_service_worker(host: str, scope: Mapping[str, Any]) -> None:
    """Raise Forbidden for a page's service worker on a host where cookies count: it would see what the pages of administration get, ever after."""
    if is_own_machine(host) and header(scope, b"service-worker") is not None:
        raise Forbidden("there are no service workers on this host; use the app's own, <slug>.localhost", code="shared_origin", field="host")


async def refuse_shared_origin(directory: Directory, scope: Mapping[str, Any]) -> None:
    """Raise Forbidden for a cookie on a host that an app answers for."""
    credential = credential_of(scope)
    if credential is not None and credential.by_cookie and await is_apps_host(directory, scope):
        raise Forbidden("the session cookie does not count on a host of an app; use another, or a bearer token", code="shared_origin", field="host")


def refuse_forgery(scope: Mapping[str, Any], settings: Settings, *, changes: bool | None = None) -> None:
    """Raise Forbidden for a change by cookie that does not come from a page of this host."""
    credential = credential_of(scope)
    if credential is not None and credential.by_cookie and not comes_from_here(scope, settings, changes=changes):
        raise Forbidden("a change by cookie must come with an Origin of this host", code="foreign_origin", field="origin")


def refuse_foreign_page(scope: Mapping[str, Any], settings: Settings) -> None:
    """Raise Forbidden for a request that another site's page sends, with or without a credential. What is no browser names no origin."""
    if header(scope, b"origin") is not None and not comes_from_here(scope, settings, changes=True):
        raise Forbidden("this must not come from a page of another host", code="foreign_origin", field="origin")


def comes_from_here(scope: Mapping[str, Any], settings: Settings, *, changes: bool | None = None) -> bool:
    """Whether a request is harmless by its method, or its `Origin` is this host or the public base URL."""
    if not (scope["method"] not in _SAFE if changes is None else changes):
        return True
    origin = _netloc(header(scope, b"origin") or "")
    if origin is None:
        return False
    public = _netloc(settings.http.public_base_url or "")
    scheme = origin[0]
    return origin in (public, _netloc(f"{scheme}://{header(scope, b'host') or ''}"))


def set_cookie(settings: Settings, token: str) -> str:
    """The `Set-Cookie` value of a session; an empty token removes it."""
    max_age_s = settings.session.ttl_s if token else 0
    parts = [f"{SESSION_COOKIE}={token}", f"Path={COOKIE_PATH}", f"Max-Age={max_age_s}", "HttpOnly", "SameSite=Lax"]
    return "; ".join([*parts, "Secure"] if _is_secure(settings) else parts)


def renew_cookie(scope: Any, settings: Settings) -> None:
    """Let the answer set the cookie again, because its session lives longer now. Without effect for a request without the cookie."""
    credential = credential_of(scope)
    if credential is not None and credential.by_cookie:
        scope["state"][_RENEWED] = set_cookie(settings, credential.token)


def add_renewed_cookie(headers: list[tuple[bytes, bytes]], scope: Mapping[str, Any]) -> None:
    """Do what `renew_cookie` has asked for, unless the answer sets a cookie itself (logout)."""
    renewed = scope["state"].get(_RENEWED)
    if renewed is not None and all(name.lower() != b"set-cookie" for name, _ in headers):
        headers.append((b"set-cookie", renewed.encode()))


def without_session(cookies: str) -> str:
    """A `Cookie` header as scripts may see it: without the session."""
    kept = [part for part in cookies.split(";") if part.partition("=")[0].strip() != SESSION_COOKIE]
    return ";".join(kept).strip()


def _session_cookies(cookies: str) -> list[str]:
    """The sessions' tokens among cookies. Not `SimpleCookie`: it drops everything after the first thing that it does not understand."""
    pairs = (part.strip().partition("=") for part in cookies.split(";"))
    return [value.strip() for name, _, value in pairs if name == SESSION_COOKIE and value.strip()]


def _is_secure(settings: Settings) -> bool:
    chosen = settings.session.cookie_secure
    return chosen == "always" or (chosen == "auto" and (settings.http.public_base_url or "").startswith("https://"))


def _netloc(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an http(s) URL; None for anything else (`null`, an empty text)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme]
