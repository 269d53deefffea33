"""Calls of scripts to the outside world: what is asked, what is answered, and how it fails. The adapter in `adapters/outbound` implements `Outbound`."""

from __future__ import annotations

from typing import Final, Literal, Protocol
from uuid import UUID

import msgspec

MAX_BODY_BYTES: Final = 10 * 1024 * 1024
"""Of a request and of an answer, the latter also after decompression."""
MAX_REDIRECTS: Final = 20
DEFAULT_REDIRECTS: Final = 10
DEFAULT_TIMEOUT_S: Final = 30.0
MAX_TIMEOUT_S: Final = 300.0

CallOutcome = Literal["answered", "blocked", "timed_out", "failed", "too_large", "redirects", "malformed"]


class HttpCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call. Header names are lower case; `max_redirects` None: a redirect is an answer like any other. `timeout_s` is for all of it, redirects included."""

    method: str
    url: str
    headers: dict[str, str] = {}
    body: bytes | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    max_redirects: int | None = DEFAULT_REDIRECTS


class HttpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The last answer. Header names are lower case, repeated ones joined by commas; `body` is decompressed."""

    status: int
    headers: dict[str, str]
    body: bytes


class CallFailed(Exception):  # an answer for the script, never an error of PiCloud
    """A call without an answer. The message is for the script's author: it names the kind of trouble and never an address."""

    def __init__(self, outcome: CallOutcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class Outbound(Protocol):
    """Makes calls."""

    async def call(self, app_id: UUID, call: HttpCall) -> HttpAnswer:
        """Make one call for an app. Raises CallFailed."""
        ...
