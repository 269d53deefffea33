"""What a verification has found."""

from __future__ import annotations

from typing import Final, Literal
from uuid import UUID

import msgspec

SHOWN_CHARS: Final = 200
"""Values in findings are cut to this length."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a projection that is not what the log says.

    `missing`: the log says it should be there. `extra`: it should not. `different`: `columns` maps each column that differs to (live, replayed). Values are
    PostgreSQL's text, None for NULL.
    """

    projection: str
    table: str
    kind: Literal["missing", "extra", "different"]
    key: dict[str, str]
    columns: dict[str, tuple[str | None, str | None]] = {}


class LogFault(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the log itself that cannot be.

    `gap`: a position is missing before `position`. `time`: recorded before its predecessor. `unreadable`: unknown topic, or a state or metadata that cannot be
    decoded. `head`: the head does not stand at the last event. `stream`: versions of a stream have a gap or stand out of order.
    """

    kind: Literal["gap", "time", "unreadable", "head", "stream"]
    app_id: UUID
    position: int
    detail: str


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """The result: `events` replayed, live `rows` compared, what was found, and how much more there is than is listed (`omitted`)."""

    events: int
    rows: int
    differences: tuple[Difference, ...]
    faults: tuple[LogFault, ...]
    omitted: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.differences or self.faults)
