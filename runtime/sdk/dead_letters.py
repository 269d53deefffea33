"""dead_letters for scripts that run as somebody: looked at, replayed and resolved, in the run's own unit."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from domain.authz import Capability
from domain.dead_letters import ResolveDeadLetter, dead_letter_stream
from domain.errors import Conflict, Invalid
from domain.executions import Task
from domain.ids import parse_uuid
from domain.units import ABSENT, MAX_UNIT_EVENTS, Change
from projections.outcomes.reads import DeadLetter, DeadLetterQuery, page_dead_letters, read_dead_letter
from runtime.admin.dead_letters import check_reason, require_runnable
from runtime.sdk.schedule import derived_id
from runtime.services import Access, Service, as_script_error, rfc3339

MAX_LIMIT: Final = 1000
_FILTERS: Final = frozenset({"source", "trigger_id", "script_id", "unresolved", "limit", "before"})


async def dead_letters_list(access: Access, wanted: object) -> list[dict[str, Any]]:
    """Dead letters, newest first. `before` is an id, after which in this order the list begins."""
    _require(access)
    try:
        filters, unresolved, limit, before = _filters(wanted)
    except Invalid as error:
        raise as_script_error(error, "dead_letters") from error
    found = await page_dead_letters(access.reader, access.app_id, filters, before, limit, unresolved=unresolved)
    return [_shown(dead_letter) for dead_letter in found]


async def dead_letters_replay(access: Access, number: object, dead_letter_id: object) -> str:
    """Prepare a replay, the run's `number`-th; returns the id of its execution. Trigger, cause and depth stay."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_UNIT_EVENTS:
        message = f"dead_letters: an execution replays at most {MAX_UNIT_EVENTS}"
        raise ValueError(message)
    dead_letter = await _unresolved(access, dead_letter_id)
    try:
        await require_runnable(access.reader, access.app_id, dead_letter)
    except Conflict as error:
        message = f"dead_letters: {error.detail}"
        raise ValueError(message) from error
    task = Task(
        execution_id=derived_id(access.execution_id, number, "dead_letters"),
        source=dead_letter.source,
        script_id=dead_letter.script_id,
        trigger_id=dead_letter.trigger_id,
        cause_position=dead_letter.cause_position,
    )
    _prepare(access, ResolveDeadLetter(dead_letter_id=dead_letter.id, resolution="replayed", replay=task))
    return str(task.execution_id)


async def dead_letters_resolve(access: Access, dead_letter_id: object, reason: object) -> None:
    """Prepare a resolution."""
    dead_letter = await _unresolved(access, dead_letter_id)
    if not isinstance(reason, str):
        message = "dead_letters: reason must be a string"
        raise TypeError(message)
    try:
        effect = ResolveDeadLetter(dead_letter_id=dead_letter.id, resolution="ignored", reason=check_reason(reason))
    except Invalid as error:
        raise as_script_error(error, "dead_letters") from error
    _prepare(access, effect)


def dead_letters_change(access: Access, dead_letter_id: object) -> Change:
    """The effect of `replay` and `resolve`: what a call of this run has prepared, once."""
    _require(access)
    effect = access.prepared.pop(dead_letter_stream(_id(dead_letter_id)), None)
    if effect is None:
        message = "dead_letters: nothing was prepared for this dead letter"
        raise ValueError(message)
    return Change(effect)


async def _unresolved(access: Access, dead_letter_id: object) -> DeadLetter:
    """A dead letter that waits, which must still do so when the run is committed."""
    _require(access)
    wanted = _id(dead_letter_id)
    stream = dead_letter_stream(wanted)
    access.announce(stream)
    found = await read_dead_letter(access.reader, access.app_id, wanted)
    if found is None:
        message = f"dead_letters: there is no dead letter {wanted}"
        raise KeyError(message)
    if found.resolution is not None or stream in access.prepared:
        message = "dead_letters: this dead letter was resolved already"
        raise ValueError(message)
    access.note(stream, ABSENT)
    return found


def _prepare(access: Access, effect: ResolveDeadLetter) -> None:
    access.prepared[effect.stream] = effect


def _require(access: Access) -> None:
    """Nobody is anonymous here: what others have failed at is not the public's."""
    if access.principal is None:
        message = f"dead_letters: app_{Capability.DEAD_LETTERS_MANAGE.replace('.', '_')} is required"
        raise PermissionError(message)
    access.require("dead_letters", Capability.DEAD_LETTERS_MANAGE)


def _filters(wanted: object) -> tuple[DeadLetterQuery, bool, int, UUID | None]:
    if not isinstance(wanted, dict) or not _FILTERS.issuperset(wanted):
        raise Invalid(f"filter must be an object of {', '.join(sorted(_FILTERS))}", field="filter")
    source, unresolved, limit = wanted.get("source"), wanted.get("unresolved", True), wanted.get("limit", 100)
    if source is not None and not isinstance(source, str):
        raise Invalid("source must be a string", field="source")
    if not isinstance(unresolved, bool):
        raise Invalid("unresolved must be True or False", field="unresolved")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be 1 to {MAX_LIMIT}", field="limit")
    ids = {name: None if wanted.get(name) is None else _id(wanted[name], name) for name in ("trigger_id", "script_id", "before")}
    return DeadLetterQuery(source=source, trigger_id=ids["trigger_id"], script_id=ids["script_id"]), unresolved, limit, ids["before"]


def _id(value: object, field: str = "id") -> UUID:
    found = parse_uuid(value) if isinstance(value, str) else None
    if found is None:
        message = f"dead_letters: {field} must be an id"
        raise ValueError(message)
    return found


def _shown(dead: DeadLetter) -> dict[str, Any]:
    return {
        "id": str(dead.id),
        "source": dead.source,
        "script_id": str(dead.script_id),
        "trigger_id": None if dead.trigger_id is None else str(dead.trigger_id),
        "attempts": dead.attempts,
        "reason": dead.reason,
        "last_error": msgspec.to_builtins(dead.last_error),
        "first_attempt_at": rfc3339(dead.first_attempt_at),
        "last_attempt_at": rfc3339(dead.last_attempt_at),
        "resolution": dead.resolution,
    }


DEAD_LETTERS: Final = Service(
    name="dead_letters",
    calls={"dead_letters_list": dead_letters_list, "dead_letters_replay": dead_letters_replay, "dead_letters_resolve": dead_letters_resolve},
    effects={"dead_letters_change": dead_letters_change},
)
