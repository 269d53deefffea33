"""schedule for scripts: runs of the app's scripts, once, at a time."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.authz import Capability
from domain.cursors import parse_time
from domain.errors import Invalid
from domain.events import Event
from domain.executions import execution_stream
from domain.ids import parse_uuid
from domain.schedule import MAX_PAYLOAD_BYTES, CancelExecution, ExecutionScheduled, ScheduleExecution, check_payload
from domain.units import ABSENT, MAX_UNIT_EVENTS, Change
from domain.values import decode_json
from runtime.admin.streams import read_heads
from runtime.services import Access, Service, as_script_error, rfc3339


async def schedule_id(access: Access, number: object, time: object, script: object, payload: object) -> str:
    """The id of the run's `number`-th call of `at`, whose arguments are in order."""
    return schedule_id_now(access, number, time, script, payload)


def schedule_id_now(access: Access, number: object, time: object, script: object, payload: object) -> str:
    """As `schedule_id`: nothing is read for it."""
    return str(_wanted(access, number, time, script, payload).execution_id)


async def schedule_pending(access: Access, execution_id: object) -> bool:
    """Whether an execution has been scheduled and has no outcome yet."""
    access.require("schedule", Capability.SCRIPTS_WRITE)
    stream = execution_stream(_id(execution_id))
    access.announce(stream)
    (head,) = await read_heads(access.reader, access.app_id, stream)
    access.note(stream, head.version or ABSENT)
    return head.topic == ExecutionScheduled.TOPIC


def schedule_at(access: Access, number: object, time: object, script: object, payload: object) -> Change:
    """The effect of `at`; `payload` is JSON text."""
    return Change(_wanted(access, number, time, script, payload))


def schedule_cancel(access: Access, execution_id: object) -> Change:
    """The effect of `cancel`."""
    access.require("schedule", Capability.SCRIPTS_WRITE)
    return Change(CancelExecution(execution_id=_id(execution_id), lenient=True))


def describe(event: Event, before: Event | None) -> dict[str, Any]:
    """`ctx.event.schedule`."""
    del before
    if not isinstance(event, ExecutionScheduled):
        msg = f"{event.TOPIC} is no event of schedule"
        raise TypeError(msg)
    return {"payload": msgspec.json.decode(event.payload), "run_at": rfc3339(event.run_at)}


def derived_id(execution_id: UUID, number: int, service: str = "schedule") -> UUID:
    """The same in every run of an execution: a UUIDv7 of the execution's own time, the rest a digest."""
    digest = bytearray(hashlib.sha256(service.encode() + execution_id.bytes + number.to_bytes(4, "big")).digest()[:10])
    digest[0] = digest[0] & 0x0F | 0x70
    digest[2] = digest[2] & 0x3F | 0x80
    return UUID(bytes=execution_id.bytes[:6] + bytes(digest))


def _wanted(access: Access, number: object, time: object, script: object, payload: object) -> ScheduleExecution:
    access.require("schedule", Capability.EXECUTE)
    try:
        return ScheduleExecution(
            execution_id=derived_id(access.execution_id, _number(number)),
            script_id=_endpoint(access, script),
            run_at=_time(time),
            payload=_payload(payload),
        )
    except Invalid as error:
        raise as_script_error(error, "schedule") from error


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_UNIT_EVENTS:
        raise Invalid(f"an execution schedules at most {MAX_UNIT_EVENTS} others", field="number")
    return value


def _payload(text: object) -> msgspec.Raw:
    if not isinstance(text, str):
        raise Invalid("payload must be JSON text", field="payload")
    return check_payload(decode_json(text.encode(), "payload", max_bytes=MAX_PAYLOAD_BYTES))


def _endpoint(access: Access, name: object) -> UUID:
    if not isinstance(name, str):
        raise Invalid("script must be a script's name", field="script")
    found = next((script for script in access.scripts.values() if script.name == name), None)
    if found is None:
        raise Invalid(f"there is no script {name[:64]!r}", field="script")
    if found.kind != "endpoint":
        raise Invalid(f"script {name!r} is a module, which cannot be run", field="script")
    return found.id


def _time(value: object) -> datetime:
    """RFC 3339 text, or seconds since 1970."""
    if isinstance(value, str):
        return parse_time(value, "time")
    if isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise Invalid("time must be an RFC 3339 text, a datetime or a number of seconds", field="time")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise Invalid("time: no such time", field="time") from None


def _id(value: object) -> UUID:
    found = parse_uuid(value) if isinstance(value, str) else None
    if found is None:
        message = "schedule: id must be one that schedule.at has returned"
        raise ValueError(message)
    return found


SCHEDULE: Final = Service(
    name="schedule",
    calls={"schedule_id": schedule_id, "schedule_pending": schedule_pending},
    now={"schedule_id": schedule_id_now},
    effects={"schedule_at": schedule_at, "schedule_cancel": schedule_cancel},
    event=describe,
)
