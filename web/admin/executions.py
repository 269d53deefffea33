"""`/apps/{app}/executions`: what ran and what became of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Router, delete, get, post
from litestar.params import JSONBody, QueryParameter

from domain.authz import Capability
from domain.cursors import decode, encode, parse_limit, parse_time
from runtime.admin.executions import STATUSES, Execution, ExecutionDetail
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment, id_parameter
from web.admin.services import executions_of, one_off_of
from web.pages import Page
from web.paths import id_segment

Status = Annotated[str | None, QueryParameter(schema_extra={"enum": list(STATUSES), "description": "Only those that stand like this."})]


class AskRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of one of the app's scripts, at `run_at` (RFC 3339) or at once; `payload` is any JSON value of at most 256 KiB."""

    script_id: UUID
    run_at: str | None = None
    payload: Any = None


class AcceptedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that has been queued."""

    execution_id: UUID
    accepted_at: datetime
    run_at: datetime


@get("/apps/{app:str}/executions", opt=needs(Capability.EXECUTIONS_READ))
async def list_executions(  # each is a filter of the list
    call: Call, app: Segment, status: Status = None, script: Query = None, trigger: Query = None, limit: Query = None, cursor: Query = None
) -> Page[Execution]:
    """Executions, newest first. A page looks only so far back: through a filter it may be short, or empty, and still have a next one."""
    found = await call.app(app)
    size = parse_limit(limit)
    (before,) = (None,) if cursor is None else decode(cursor, "executions", (UUID,))
    script_id, trigger_id = id_parameter(script, "script"), id_parameter(trigger, "trigger")
    rows, following = await executions_of(call).page(found.app_id, status=status, script_id=script_id, trigger_id=trigger_id, before=before, limit=size)
    return Page(rows, None if following is None else encode("executions", following))


@get("/apps/{app:str}/executions/{execution:str}", opt=needs(Capability.EXECUTIONS_READ))
async def read_execution(call: Call, app: Segment, execution: Segment) -> ExecutionDetail:
    """One execution, how it ended, and its runs with their logs."""
    found = await call.app(app)
    return await executions_of(call).get(found.app_id, id_segment(execution, "execution"))


@post("/apps/{app:str}/executions", status_code=202, opt=needs(Capability.EXECUTE))
async def create_execution(call: Call, app: Segment, data: JSONBody[AskRun]) -> AcceptedRun:
    """Run a script once, as the caller, at a time or at once. Its handler finds `ctx.event.schedule`."""
    found = await call.app(app)
    await call.admit_write(found.app_id)
    run_at = call.core.clock() if data.run_at is None else parse_time(data.run_at, "run_at")
    execution_id, event = await one_off_of(call).schedule(found.app_id, data.script_id, run_at, data.payload, call.acting)
    return AcceptedRun(execution_id=execution_id, accepted_at=event.recorded_at, run_at=run_at)


@delete("/apps/{app:str}/executions/{execution:str}", opt=needs(Capability.SCRIPTS_WRITE))
async def cancel_execution(call: Call, app: Segment, execution: Segment) -> None:
    """Cancel a scheduled execution that has no outcome yet. 409 `not_scheduled` for any other."""
    found = await call.app(app)
    await one_off_of(call).cancel(found.app_id, id_segment(execution, "execution"), call.acting)


router: Final = Router(
    path="/",
    route_handlers=[list_executions, read_execution, create_execution, cancel_execution],
    tags=["executions"],
)
