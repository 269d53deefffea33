"""One call from its URL to its last answer: limits, redirects, and each kind of trouble in a few fixed words."""

from __future__ import annotations

import errno
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import aiohttp
import anyio
import msgspec

from adapters.outbound.answers import ACCEPTED, read_answer
from adapters.outbound.connecting import Resolve, SystemLookups, connector
from adapters.outbound.policy import Policy
from adapters.outbound.redirects import following
from domain.outbound import MAX_BODY_BYTES, CallFailed, HttpAnswer, HttpCall

CONNECT_WITHIN_S: Final = 10.0
READ_WITHIN_S: Final = 30.0
"""Longest silence of a server."""

Observe = Callable[[str, float], None]
"""`observe(outcome, seconds)`: one call has ended. The outcome is a `CallOutcome`, or `cancelled`."""

_REFUSED: Final = {errno.ECONNREFUSED: "refused", errno.ENETUNREACH: "unreachable", errno.EHOSTUNREACH: "unreachable"}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Calls in progress at once; the others wait, and that is their scripts' time."""

    calls: int = 64
    calls_per_app: int = 16


class HttpClient:
    """Implements `domain.outbound.Outbound`. No cookies, no proxy from the environment, no connection outlives its call, certificates are verified."""

    def __init__(self, policy: Policy, limits: Limits, observe: Observe, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._policy = policy
        self._limits = limits
        self._observe = observe
        self._resolve = resolve or SystemLookups()
        self._tls = tls
        self._all = anyio.CapacityLimiter(limits.calls)
        self._of_app: dict[UUID, anyio.CapacityLimiter] = {}

    async def call(self, app_id: UUID, call: HttpCall) -> HttpAnswer:
        """See `Outbound.call`."""
        if call.body is not None and len(call.body) > MAX_BODY_BYTES:
            raise CallFailed("too_large", f"the body is larger than {MAX_BODY_BYTES} bytes")
        with self._observed(), _translated():
            with anyio.fail_after(call.timeout_s):
                async with self._of_app.setdefault(app_id, anyio.CapacityLimiter(self._limits.calls_per_app)), self._all:
                    return await self._follow(app_id, call)

    async def _follow(self, app_id: UUID, call: HttpCall) -> HttpAnswer:
        """The answer after all redirects; the URL of each is checked as the first was."""
        url = self._policy.check_url(call.url)
        for _ in range((call.max_redirects or 0) + 1):
            async with self._session(app_id) as session, session.request(call.method, url, **_request(call)) as response:
                target = None if call.max_redirects is None else following(call, url, response)
                if target is None:
                    return await read_answer(response)
            call, url = target, self._policy.check_url(target.url)
        raise CallFailed("redirects", f"more than {call.max_redirects} redirects")

    @asynccontextmanager
    async def _session(self, app_id: UUID) -> AsyncIterator[aiohttp.ClientSession]:
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_WITHIN_S, sock_read=READ_WITHIN_S)
        connecting = connector(app_id, self._resolve, self._policy, self._tls)
        async with aiohttp.ClientSession(
            connector=connecting, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
        ) as session:
            yield session

    @contextmanager
    def _observed(self) -> Iterator[None]:
        began, outcome = perf_counter(), "cancelled"
        try:
            yield
            outcome = "answered"
        except CallFailed as error:
            outcome = error.outcome
            raise
        finally:
            self._observe(outcome, perf_counter() - began)


def _request(call: HttpCall) -> dict[str, Any]:
    return {
        "headers": {"accept": "*/*", "accept-encoding": ACCEPTED, **call.headers},
        "data": None if call.body is None else BytesIO(call.body),
        "allow_redirects": False,
        "skip_auto_headers": ("Content-Type",),
    }


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the library and of the system as CallFailed. None of them is quoted: they name addresses."""
    try:
        yield
    except CallFailed:
        raise
    except aiohttp.ConnectionTimeoutError:
        raise CallFailed("timed_out", "timed out (connecting)") from None
    except TimeoutError as error:  # aiohttp's for reading is one, too
        raise CallFailed("timed_out", "timed out (reading)" if isinstance(error, aiohttp.ServerTimeoutError) else "timed out") from None
    except aiohttp.ClientConnectorDNSError:
        raise CallFailed("failed", "connection failed (there is no such host)") from None
    except (aiohttp.ClientSSLError, ssl.SSLError):
        raise CallFailed("failed", "connection failed (TLS)") from None
    except aiohttp.ClientConnectorError as error:
        raise _not_connected(error.os_error) from None
    except (aiohttp.ClientResponseError, ValueError):  # whatever a parser makes of what a hostile server sends
        raise CallFailed("malformed", "the answer is not HTTP") from None
    except (aiohttp.ClientError, OSError):
        raise CallFailed("failed", "connection lost") from None


def _not_connected(error: OSError) -> CallFailed:
    if isinstance(error, PermissionError):
        return CallFailed("blocked", str(error))
    return CallFailed("failed", f"connection failed ({_REFUSED.get(error.errno or 0, 'no answer')})")
