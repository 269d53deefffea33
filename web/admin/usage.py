"""`/apps/{app}/usage`: what an app has used up today, and what it may."""

from __future__ import annotations

from datetime import date, datetime
from typing import Final

import msgspec
from litestar import Router, get

from domain.authz import Capability
from runtime.limits.quotas import Today
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Segment


class StorageUsed(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that were stored when they were last counted, in all and by service."""

    measured_at: datetime
    used: int
    limit: int | None
    kv: int
    docs: int
    files: int


class UsageToday(msgspec.Struct, frozen=True, kw_only=True):
    """A day is one of UTC. Requests and executions are counted in about a second; events are exact."""

    day: date
    resets_at: datetime
    requests: Today
    executions: Today
    events: Today
    storage_bytes: StorageUsed


@get("/apps/{app:str}/usage", opt=needs(Capability.APPS_READ))
async def read_usage(call: Call, app: Segment) -> UsageToday:
    """What an app has used up today; `limit` is null where it is not bounded."""
    found = await call.app(app)
    core, quotas = call.core, call.core.quotas
    bounds = (await core.directory.view(found.app_id)).bounds.quotas
    used, stored = await quotas.usage.today(found.app_id, fresh=True), await quotas.storage.measure(found.app_id)
    return UsageToday(
        day=core.clock().date(),
        resets_at=quotas.resets_at(),
        requests=Today(used=used.requests, limit=bounds.requests_per_day),
        executions=Today(used=used.executions, limit=bounds.executions_per_day),
        events=Today(used=await quotas.events_today(found.app_id), limit=bounds.events_per_day),
        storage_bytes=StorageUsed(used=stored.total, limit=bounds.storage_bytes, **msgspec.structs.asdict(stored)),
    )


router: Final = Router(path="/", route_handlers=[read_usage], tags=["settings"])
