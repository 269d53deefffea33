"""Apps that stand, as changes of them in the nil log read them, and what still goes by their hosts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from domain.apps import app_stream
from domain.errors import Conflict, NotFound
from domain.hosts import covers
from domain.ids import NIL_APP
from domain.ports import Reader
from projections.control.app_reads import StoredApp, read_app
from projections.control.route_reads import read_routes
from runtime.admin.streams import read_heads

_SHOWN: Final = 20


async def read_living_app(reader: Reader, app_id: UUID) -> tuple[StoredApp, int]:
    """An app, and the version of its stream that a change of it expects. Raises NotFound."""
    (head,) = await read_heads(reader, NIL_APP, app_stream(app_id))
    app = await read_app(reader, app_id)
    if app is None or not head.version:
        raise NotFound("there is no such app", code="app_not_found")
    return app, head.version


async def refuse_in_use(reader: Reader, app_id: UUID, pattern: str, others: Iterable[str], *, code: str, field: str | None = None) -> None:
    """Raise Conflict with `routes` (up to 20) when routes name hosts that only `pattern` claims for their app, and none of `others`.

    Routes are in another log, so that one which is made at this very moment is not seen; it matches nothing then, as it says when somebody asks.
    """
    kept = list(others)
    routes = [stored.route for stored in await read_routes(reader, app_id)]
    using = [each for each in routes if each.host is not None and covers(pattern, each.host) and not any(covers(other, each.host) for other in kept)]
    if using:
        message = f"routes name {pattern} or a host that it matches, {len(using)} in all; delete them first"
        raise Conflict(message, code=code, field=field, route_count=len(using), routes=using[:_SHOWN])
