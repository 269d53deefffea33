"""Which app a request of the data plane is for."""

from __future__ import annotations

from uuid import UUID

from domain.errors import Moved, NotFound
from runtime.directory import Directory
from web.front import Scope
from web.incoming import host_of
from web.security import header


async def app_of_request(directory: Directory, scope: Scope) -> UUID:
    """The app that answers for a request's host. Raises Moved for the host of an old slug, NotFound `unknown_host`."""
    host = host_of(scope)
    hosts = await directory.hosts()
    app_id = hosts.match(host)
    if app_id is not None:
        return app_id
    moved_to = hosts.moved_to(host)
    if moved_to is None:
        raise NotFound("no app answers for this host", code="unknown_host")
    raise Moved(f"{host} is {moved_to} now", location=f"//{moved_to}{_port(scope)}{_target(scope)}")


def _port(scope: Scope) -> str:
    """As the request has it; a host that has moved is no address, so there is one colon at most."""
    _, colon, port = (header(scope, b"host") or "").partition(":")
    return f":{port}" if colon and port else ""


def _target(scope: Scope) -> str:
    path = scope["raw_path"].partition(b"?")[0].decode("ascii")
    query = scope["query_string"].decode("ascii", "replace")
    return f"{path}?{query}" if query else path
