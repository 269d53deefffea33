"""Units on their way into the log, and telling their callers what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from domain.errors import Invalid, PiCloudError
from domain.events import Recorded
from domain.judge import streams_of
from domain.units import ABSENT, Unit
from domain.values import check_text

MAX_NAME_BYTES: Final = 2500
"""Of a stream or an idempotency key: what an index entry of PostgreSQL can hold beside an app id."""
_MAX_TOKEN: Final = 2**63 - 1

Verdict = tuple[Recorded, ...] | PiCloudError


class Pending(msgspec.Struct, eq=False):
    """A unit and whoever waits for its verdict.

    `whole` are those of its streams whose last event it takes to judge it; of the others, which it has only read, the version is enough.
    `gives_up_at` is on the loop's clock. `may_be_new`: all streams that it needs could be ones that nothing was appended to, for all that it says itself,
    and it would append to them. `sent`: it may be in the log by now. `settled`: its verdict has been told, whether anybody still listened or not.
    """

    unit: Unit
    streams: frozenset[str]
    whole: frozenset[str]
    verdict: asyncio.Future[tuple[Recorded, ...]]
    gives_up_at: float
    may_be_new: bool
    attempts: int = 0
    sent: bool = False
    settled: bool = False

    def settle(self, verdict: Verdict) -> None:
        """Tell whoever waits, if anybody still does."""
        self.settled = True
        if self.verdict.done():
            return
        if isinstance(verdict, PiCloudError):
            self.verdict.set_exception(verdict)
        else:
            self.verdict.set_result(verdict)


def pending_unit(unit: Unit, wait_s: float) -> Pending:
    """A unit that is to be judged within `wait_s`. Raises Invalid for what no log could hold, so that it cannot trouble the batch it would be in."""
    streams = streams_of(unit)
    for name in streams:
        _check_name(name, "stream")
    if unit.idempotency_key is not None:
        _check_name(unit.idempotency_key, "idempotency_key")
    _check_name(unit.metadata.actor, "actor")
    if unit.metadata.request_id is not None:
        _check_name(unit.metadata.request_id, "request_id")
    if unit.fence is not None and not 0 <= unit.fence.token <= _MAX_TOKEN:
        raise Invalid("fence: not a token that was ever handed out", field="fence")
    loop = asyncio.get_running_loop()
    return Pending(unit, streams, _whole(unit, streams), loop.create_future(), loop.time() + wait_s, _may_be_new(unit))


def refuse(pending: Iterable[Pending], error: Callable[[], PiCloudError]) -> None:
    """Refuse units, each with an error of its own (a raised one carries its raiser's traceback)."""
    for item in pending:
        item.settle(error())


def _check_name(name: str, field: str) -> None:
    if len(name) <= MAX_NAME_BYTES and name.isascii() and "\x00" not in name:
        return
    check_text(name, field)
    if len(name.encode()) > MAX_NAME_BYTES:
        raise Invalid(f"{field}: {len(name.encode())} bytes, at most {MAX_NAME_BYTES} are accepted", field=field)


def _whole(unit: Unit, streams: frozenset[str]) -> frozenset[str]:
    found = {read.stream for read in unit.reads if read.version != ABSENT}
    return streams - (found - {change.effect.stream for change in unit.changes}) if found else streams


def _may_be_new(unit: Unit) -> bool:
    for change in unit.changes:
        if change.expect > ABSENT:
            return False
    if not unit.reads:
        return True
    changed = {change.effect.stream for change in unit.changes}
    return all(read.version == ABSENT and read.stream in changed for read in unit.reads)
