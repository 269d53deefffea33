"""`/apps/{app}/executions`: what ran and what became of it."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from litestar import Router, get

from domain.authz import Capability
from domain.cursors import decode, encode, parse_limit
from runtime.admin.executions import Execution, ExecutionDetail
from web.admin.call import Call
from web.admin.parameters import Query, Segment, id_parameter
from web.admin.services import executions_of
from web.pages import Page
from web.paths import id_segment


@get("/apps/{app:str}/executions")
async def list_executions(  # each is a filter of the list
    call: Call, app: Segment, status: Query = None, script: Query = None, trigger: Query = None, limit: Query = None, cursor: Query = None
) -> Page[Execution]:
    """Executions, newest first. A page looks only so far back: through a filter it may be short, or empty, and still have a next one."""
    found = await call.app(app, Capability.EXECUTIONS_READ)
    size = parse_limit(limit)
    (before,) = (None,) if cursor is None else decode(cursor, "executions", (UUID,))
    script_id, trigger_id = id_parameter(script, "script"), id_parameter(trigger, "trigger")
    rows, following = await executions_of(call).page(found.app_id, status=status, script_id=script_id, trigger_id=trigger_id, before=before, limit=size)
    return Page(rows, None if following is None else encode("executions", following))


@get("/apps/{app:str}/executions/{execution:str}")
async def read_execution(call: Call, app: Segment, execution: Segment) -> ExecutionDetail:
    """One execution, how it ended, and its runs with their logs."""
    found = await call.app(app, Capability.EXECUTIONS_READ)
    return await executions_of(call).get(found.app_id, id_segment(execution, "execution"))


router: Final = Router(path="/", route_handlers=[list_executions, read_execution], tags=["executions"])
