"""From a host's name to a socket: names are looked up once for a connection, and no socket is made for an address that policy blocks."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

import anyio
import anyio.to_thread
from aiohttp import AddrInfoType, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

from adapters.outbound.policy import Policy, blocked
from domain.outbound import CallFailed

Resolve = Callable[[UUID, str, int], Awaitable[Sequence[str]]]
"""`await resolve(app_id, host, port)`: a name's addresses; raises OSError when there are none."""

_LOOKUPS_PER_APP: Final = 8


class SystemLookups:
    """The system's resolver, in threads. A lookup cannot be cancelled, so an app that asks for names that take long is left to wait behind itself.

    A lookup keeps its place until its thread is done with it, also when nobody waits for it any more: otherwise calls with short timeouts would make threads
    without end.
    """

    def __init__(self) -> None:
        self._places: dict[UUID, anyio.CapacityLimiter] = {}
        self._running: set[asyncio.Task[list[str]]] = set()

    async def __call__(self, app_id: UUID, host: str, port: int) -> Sequence[str]:
        """See `Resolve`."""
        places, lookup = self._places.setdefault(app_id, anyio.CapacityLimiter(_LOOKUPS_PER_APP)), object()
        await places.acquire_on_behalf_of(lookup)
        running = asyncio.create_task(_in_thread(host, port))
        self._running.add(running)
        running.add_done_callback(lambda _: places.release_on_behalf_of(lookup))
        running.add_done_callback(self._ended)
        return await asyncio.shield(running)

    def _ended(self, lookup: asyncio.Task[list[str]]) -> None:
        self._running.discard(lookup)
        if not lookup.cancelled():
            lookup.exception()  # nobody may be left to hear of it


class CheckedResolver(AbstractResolver):
    """Gives aiohttp those of a name's addresses that may be reached, and remembers nothing: each connection asks anew."""

    def __init__(self, app_id: UUID, resolve: Resolve, policy: Policy) -> None:
        self._app_id = app_id
        self._resolve = resolve
        self._policy = policy

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """See the base class. Raises CallFailed when no address may be reached."""
        addresses = await self._resolve(self._app_id, host, port)
        categories = {address: self._policy.blocks(address) for address in addresses}
        reachable = [address for address, category in categories.items() if category is None]
        if not reachable:
            raise blocked("address", next((category for category in categories.values() if category is not None), "none"))
        return [_result(host, port, address) for address in reachable]

    async def close(self) -> None:
        """There is nothing to close."""


def connector(app_id: UUID, resolve: Resolve, policy: Policy, tls: ssl.SSLContext | None) -> TCPConnector:
    """What one call connects with. Connections are not kept: nothing of one app's traffic can meet another's. `tls` None: the system's authorities."""

    def make_socket(info: AddrInfoType) -> socket.socket:
        """Whatever led here: this is the address that is connected to."""
        family, kind, protocol, _, place = info
        try:
            policy.check_address(place[0])
        except CallFailed as error:
            raise PermissionError(str(error)) from error
        return socket.socket(family, kind, protocol)

    resolver = CheckedResolver(app_id, resolve, policy)
    return TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True, socket_factory=make_socket, ssl=tls or True)


async def _in_thread(host: str, port: int) -> list[str]:
    # A limiter of its own: the place is held already, and others' work must not wait behind names.
    return await anyio.to_thread.run_sync(_look_up, host, port, limiter=anyio.CapacityLimiter(1))


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for _, _, _, _, place in found))


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": socket.AI_NUMERICHOST}
