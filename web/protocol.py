"""HTTP/1.1 as uvicorn reads it, with problem documents for what never becomes a request (`picloud serve` names this class to uvicorn).

The parser below joins the fragments of a header by copying them, and neither it nor uvicorn bounds a head or the time that one may take. Both are bounded here,
before anybody is authenticated.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import ClassVar, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from domain.errors import Malformed, PiCloudError
from web.corked import CorkedProtocol
from web.headers import API
from web.problems import HeadersTooLarge, RequestTimeout, UriTooLong, problem
from web.requests import choose_request_id

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 100
"""Trailers count as headers."""
MAX_TARGET_BYTES: Final = 8 * 1024
_PIECE_BYTES: Final = 16 * 1024
BREAK_OFF: Final = "picloud.break_off"
"""An extension of ASGI: its `call` is made by an app that does not want to wait for a caller who reads nothing. The connection is closed at once."""


class _At(Enum):
    """What of a request the next byte belongs to."""

    START = auto()
    HEAD = auto()
    BODY = auto()


class ProblemProtocol(CorkedProtocol):
    """Answers what is no HTTP, too large or too slow with a problem, then closes: where the next request would begin cannot be known."""

    HEAD_TIMEOUT_S: ClassVar[float] = 15.0
    """For a whole head from its first byte, for a new connection's first byte, and for the rest of a body that is answered already."""
    BODY_TIMEOUT_S: ClassVar[float] = 30.0
    """For the next bytes of a body."""
    LINGER_S: ClassVar[float] = 1.0
    """How long a refused caller may go on sending. Closing at once would reset the connection, and the answer would be lost with it."""

    _at = _At.START
    _unread = 0
    """Bytes since a head or a body has last made progress: those of an unfinished head, or of unfinished trailers."""
    _progressed = False
    _fault: PiCloudError | None = None
    _refused = False
    _deferred: PiCloudError | None = None
    _deadline: asyncio.TimerHandle | None = None
    _extensions: dict[str, dict[object, object]]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._extensions = {BREAK_OFF: {"call": self._break_connection}}
        self._arm(self.HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser in pieces, so that it never holds more of a head than the limit (and a piece, of one that follows another request)."""
        start, progressed = 0, False
        while start < len(data) and not self._refused:
            if self._unread >= MAX_HEAD_BYTES:
                self._refuse(HeadersTooLarge(f"the head of a request may have at most {MAX_HEAD_BYTES} bytes", max_head_bytes=MAX_HEAD_BYTES))
                return
            end = start + min(_PIECE_BYTES, MAX_HEAD_BYTES - self._unread)
            self._feed(data[start:end])
            progressed |= self._progressed
            start = end
        if not self._refused:
            self._watch(progressed=progressed)

    def on_message_begin(self) -> None:
        """See the base class."""
        self._at = _At.HEAD
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def on_url(self, url: bytes) -> None:
        """See the base class. Raises UriTooLong."""
        if len(self.url) + len(url) > MAX_TARGET_BYTES:
            self._fault = UriTooLong(f"the request target may have at most {MAX_TARGET_BYTES} bytes", max_target_bytes=MAX_TARGET_BYTES)
            raise self._fault
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See the base class. Raises HeadersTooLarge."""
        if len(self.headers) >= MAX_HEADERS:
            self._fault = HeadersTooLarge(f"a request may have at most {MAX_HEADERS} headers", max_headers=MAX_HEADERS)
            raise self._fault
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See the base class."""
        super().on_headers_complete()
        self._enter(_At.BODY)

    def on_body(self, body: bytes) -> None:
        """See the base class."""
        self._progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See the base class."""
        self._enter(_At.START)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """See the base class. Then it is the turn of a refusal that waited, or of the caller."""
        last = not self.pipeline
        super().on_response_complete()
        if not last or self.transport.is_closing():
            return
        if self._deferred is not None:
            self._unset_keepalive_if_required()
            self._answer(self._deferred)
        elif not self._refused and self._at is not _At.START:
            self._disarm()
            self._arm(self.HEAD_TIMEOUT_S)
            if self._at is _At.HEAD:
                self._unset_keepalive_if_required()

    def send_400_response(self, msg: str) -> None:
        """See the base class, which calls this for whatever the parser or a callback of it has refused."""
        self._refuse(self._fault or Malformed(msg))

    def _feed(self, piece: bytes) -> None:
        self._progressed = False
        super().data_received(piece)
        self._unread = 0 if self._progressed else self._unread + len(piece)

    def _enter(self, at: _At) -> None:
        self._at = at
        self._progressed = True
        self._disarm()

    def _owes_answer(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete  # there is none before the first request

    def _watch(self, *, progressed: bool) -> None:
        """Set the caller's deadline when it is its turn. While it waits for answers, an unfinished next head costs nobody anything."""
        if not self._owes_answer():
            self._arm(self.HEAD_TIMEOUT_S)
        elif self._at is _At.BODY:
            if progressed:
                self._disarm()
            self._arm(self.BODY_TIMEOUT_S)

    def _arm(self, seconds: float) -> None:
        """A deadline that runs already stays: who sends a byte now and then gains nothing."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if not self._owes_answer():
            if self._at is _At.HEAD:
                self._refuse(RequestTimeout("the head of the request did not arrive in time"))
            else:
                self.transport.close()
        elif self._at is _At.BODY:
            self._expire_body()

    def _expire_body(self) -> None:
        """It is no fault of the caller when we have stopped reading, or when it still waits to be told to go on."""
        if self.pipeline or self.flow.read_paused or self.cycle.waiting_for_100_continue:
            self._arm(self.BODY_TIMEOUT_S)
        else:
            self._refuse(RequestTimeout("the body of the request did not arrive in time"))

    def _refuse(self, error: PiCloudError) -> None:
        """Read no further, and answer in turn: callers match answers to requests by their order."""
        self._refused = True
        self._disarm()
        mine = self._at is _At.BODY and self._owes_answer()
        if mine and self.pipeline:
            self.pipeline.popleft()  # the newest stands left; this answer takes its place
            self._deferred = error
        elif mine:
            self._break_off(error)
        elif self._owes_answer():
            self._deferred = error
        else:
            self._answer(error)

    def _break_off(self, error: PiCloudError) -> None:
        """The handler of the request with the broken body hears that its caller has gone; this answer takes the place of its own."""
        if self.cycle.response_started:
            self.transport.close()
            return
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self._answer(error)

    def _break_connection(self) -> None:
        self.cycle.disconnected = True
        self.transport.abort()

    def _answer(self, error: PiCloudError) -> None:
        status, headers, body = problem(error)
        headers += [(b"x-request-id", choose_request_id(None).encode()), (b"connection", b"close"), *API]
        self.transport.write(STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % pair for pair in headers) + b"\r\n" + body)
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._deadline = self.loop.call_later(self.LINGER_S, self.transport.close)
