"""`/apps/{app}/executions/{execution}/chain`: from the request to whatever came of it."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Router, get
from litestar.params import QueryParameter

from domain.authz import Capability
from domain.cursors import parse_limit, parse_position
from runtime.admin.chain_parts import MAX_LEVELS, Chain
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment
from web.admin.services import chains_of
from web.paths import id_segment

Depth = Annotated[
    str | None,
    QueryParameter(schema_extra={"type": "integer", "minimum": 1, "maximum": MAX_LEVELS, "default": MAX_LEVELS, "description": "How many levels down."}),
]


@get("/apps/{app:str}/executions/{execution:str}/chain", opt=needs(Capability.EXECUTIONS_READ, Capability.EVENTS_READ))
async def read_chain(call: Call, app: Segment, execution: Segment, depth: Depth = None, limit: Query = None, cursor: Query = None) -> Chain:
    """What an execution goes back to, a page of the events that it appended, and the executions that these have triggered, `depth` levels down (1 to 8)."""
    found = await call.app(app)
    levels = parse_limit(depth, default=MAX_LEVELS, maximum=MAX_LEVELS, field="depth")
    after = 0 if cursor is None else parse_position(cursor, "cursor")
    return await chains_of(call).of(found.app_id, id_segment(execution, "execution"), after=after, limit=parse_limit(limit), levels=levels)


router: Final = Router(path="/", route_handlers=[read_chain], tags=["executions"])
