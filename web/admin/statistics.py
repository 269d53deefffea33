"""`/apps/{app}/stats`: what an app's log comes to."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Router, get
from litestar.params import QueryParameter

from domain.authz import Capability
from runtime.admin.statistics import AppStatistics
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Segment
from web.admin.services import statistics_of

_DAY: Final = {"format": "date"}


# Not APPS_READ: these are numbers about what ran and what was recorded, which a key without the scope `log:read` is not told.
@get("/apps/{app:str}/stats", opt=needs(Capability.EXECUTIONS_READ))
async def read_statistics(
    call: Call,
    app: Segment,
    since: Annotated[str | None, QueryParameter(name="from", schema_extra=_DAY | {"description": "The first day (UTC)."})] = None,
    until: Annotated[str | None, QueryParameter(name="to", schema_extra=_DAY | {"description": "The last day (UTC), included."})] = None,
) -> AppStatistics:
    """Counts and sizes of an app, as of a position in its log. `from` and `to` are days (UTC, YYYY-MM-DD), both included: the last 30, at most 92."""
    found = await call.app(app)
    return await statistics_of(call).of(found.app_id, since, until)


router: Final = Router(path="/", route_handlers=[read_statistics], tags=["statistics"])
