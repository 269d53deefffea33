"""What a service gives to running scripts. A service is registered once, in `runtime/sdk/__init__.py`.

`calls` answer while the script runs, `now` those of them whose answer may be at hand; `effects` turn what it has buffered into effects on streams; `event`
is what a script sees of an event that triggered it. All of them get untrusted arguments: a script can forge any.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from adapters.postgres.subscriber_keys import SubscriberKeys
from domain.authz import Capability, Principal, decide
from domain.bounds import Bounds
from domain.errors import Invalid
from domain.events import Event
from domain.outbound import Outbound
from domain.ports import Reader
from domain.secrets import SecretReader
from domain.units import MAX_UNIT_READS, Change, Effect, Read, Stream
from projections.control.views import ScriptView
from runtime.blobs import Blobs
from runtime.outside import Outside
from runtime.redaction import Revealed
from runtime.staging import Staging

AdmitBytes = Callable[[UUID, Bounds, int], Awaitable[None]]
"""`await admit_bytes(app_id, bounds, size)` returns when so many bytes more may be stored; raises StorageFull."""

OVERREAD: Final = f"an execution may read at most {MAX_UNIT_READS} entries, documents and files"


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What the calls of services reach beyond the app's data; opened by the composition root."""

    http: Outbound | None = None
    secrets: SecretReader | None = None
    blobs: Blobs | None = None
    admit_bytes: AdmitBytes | None = None
    subscriber_keys: SubscriberKeys | None = None


class Access(msgspec.Struct, kw_only=True, eq=False):
    """One run's way to its app's data: whose it is, by which clock, and what it has read so far. `reader` finds nothing of other apps.

    `scripts` are the app's, by id. `outside` has what the outside world answered to this execution, in this run and the ones before, `revealed` the
    secrets that they read.
    `principal` None: an anonymous public caller, for whom the script is the gate. `about_to_read` is told each stream before it is read, and may end the run.
    `prepared` has effects by stream that calls have made ready, for which the run need only ask.
    `remembered` gives a stream's state of a moment ago; `recalled` says that it was used, so that the read set must be checked even if nothing is written.
    `overread`: the run wanted to read more than `MAX_UNIT_READS` streams.
    `files` holds the run's file bytes; None where nothing runs.
    """

    reader: Reader
    app_id: UUID
    principal: Principal | None
    now: datetime
    execution_id: UUID
    scripts: Mapping[UUID, ScriptView] = {}
    script_id: UUID
    resources: Resources = Resources()
    outside: Outside = msgspec.field(default_factory=Outside)
    revealed: Revealed = msgspec.field(default_factory=Revealed)
    reads: dict[str, int] = msgspec.field(default_factory=dict)
    prepared: dict[str, Effect] = msgspec.field(default_factory=dict)
    about_to_read: Callable[[str], None] | None = None
    remembered: Callable[[str], Stream | None] | None = None
    recalled: bool = False
    overread: bool = False
    files: Staging | None = None

    def require(self, service: str, capability: Capability) -> None:
        """Raise PermissionError, which the script may catch, when an attached principal lacks a capability."""
        if not self.may(capability):
            raise PermissionError(lacking(service, capability))

    def may(self, capability: Capability) -> bool:
        """Whether the run has a capability; an anonymous one has all of them."""
        return self.principal is None or decide(self.principal, capability, self.app_id).allowed

    def announce(self, stream: str) -> None:
        """Say that a stream is read next."""
        if self.about_to_read is not None:
            self.about_to_read(stream)

    def recall(self, stream: str) -> Stream | None:
        """A stream's state as this process remembers it; None when it must be read."""
        known = None if self.remembered is None else self.remembered(stream)
        self.recalled |= known is not None
        return known

    def note(self, stream: str, version: int) -> None:
        """Add to the read set; of several reads of one stream the first must still hold.

        Raises RuntimeError when it is full; the run cannot succeed any more then.
        """
        if len(self.reads) >= MAX_UNIT_READS and stream not in self.reads:
            self.overread = True
            raise RuntimeError(OVERREAD)
        self.reads.setdefault(stream, version)

    def read_set(self) -> tuple[Read, ...]:
        """What must still hold when the run is committed."""
        return tuple(Read(stream, version) for stream, version in self.reads.items())


def lacking(service: str, capability: Capability) -> str:
    """What a script is told of a capability that its principal lacks."""
    return f"{service}: app_{capability.replace('.', '_')} is required"


HostCall = Callable[..., Awaitable[Any]]
"""`await call(access, *args)`: a plain value, or a built-in error for the script."""
ToChange = Callable[..., Change]
"""`to_change(access, *args)`: the change that a buffered effect asks for; raises a built-in error for the script."""
AnswerNow = Callable[..., Any]
"""`answer_now(access, *args)`: what the call of that name would answer, or `LATER`. In the sandbox's thread, so it must not block."""
Describe = Callable[[Event, Event | None], dict[str, Any]]
"""`describe(event, the event before it in its stream)`: `ctx.event.<source>`."""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service's part in running scripts.

    `slow` names calls that may wait long: their runs are parked meanwhile. `outside` names those that the outside world answers: a re-run of the same
    execution is given their answers again (see `runtime.outside`). No journal keeps the answers of `confidential` ones. `needs` says which capability each
    effect takes, so that a script without it is told where it asks.
    """

    name: str
    calls: Mapping[str, HostCall] = {}
    now: Mapping[str, AnswerNow] = {}
    slow: frozenset[str] = frozenset()
    outside: frozenset[str] = frozenset()
    confidential: frozenset[str] = frozenset()
    effects: Mapping[str, ToChange] = {}
    needs: Mapping[str, Capability] = {}
    event: Describe | None = None


def rfc3339(value: datetime) -> str:
    """A time as scripts see it."""
    return value.isoformat().replace("+00:00", "Z")


def as_script_error(error: Invalid, service: str) -> Exception:
    """A refusal in the terms of a script."""
    message = error.detail if error.detail.startswith(f"{service}: ") else f"{service}: {error.detail}"
    return ValueError(message)
