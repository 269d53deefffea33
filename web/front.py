"""The front: every request passes here first.

It gives the request its id, refuses what no handler should see, picks the plane, and logs and counts the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any, Final

import structlog

from domain.errors import Malformed, PiCloudError, TooLarge, Unavailable
from runtime.metrics import Metrics
from web.bodies import MAX_CONTROL_BODY_BYTES
from web.headers import API, protecting, settled
from web.live import is_live
from web.paths import canonical_path
from web.problems import problem, translate
from web.requests import choose_request_id, note_head, note_options
from web.security import add_renewed_cookie, header
from web.system import PATHS
from web.uploads import MAX_OVERHEAD_BYTES, is_upload

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_DATA_PLANE_API: Final = ("/api/v1/execute/", "/api/v1/executions/")
_ONCE: Final = frozenset({b"host", b"content-length"})
_ONCE_FOR_CONTROL: Final = _ONCE | {b"content-type", b"authorization", b"origin"}
_MAX_LENGTH_DIGITS: Final = 18
_SERVER_ERROR: Final = 500
_AS: Final = {"HEAD": "GET", "OPTIONS": "TRACE"}

log = structlog.get_logger(__name__)
_LEVEL: Final = logging.getLogger(__name__)


class Front:
    """An ASGI app over two others: `control` (REST and system) and `data` (scripts)."""

    def __init__(self, control: App, data: App, metrics: Metrics, max_body_bytes: int, max_file_bytes: int) -> None:
        self._control = control
        self._data = data
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._max_upload_bytes = max_file_bytes + MAX_OVERHEAD_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Web sockets are refused."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = choose_request_id(header(scope, b"x-request-id"))
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        answer = _Answer(send, scope)
        started = perf_counter()
        plane = "data"
        try:
            path, controls = self._check(scope)
            answer.protects = protecting(path, controls=controls)
            if controls:
                plane = "live" if is_live(path) else "control"
                await self._control(_for_control(scope, path), receive, answer.send)
            else:
                plane = "live" if path.startswith("/realtime/") else "data"
                await self._data(scope, receive, answer.send)
        except Exception as error:
            refusal = translate(error, request_id)
            if answer.status:
                log.warning("answer_broken_off", request_id=request_id, code=refusal.code)
                raise
            await answer.refuse(refusal)
        except asyncio.CancelledError:
            # By the server, whose stop this request has held up long enough; its task ends here.
            if answer.status:
                raise
            await answer.refuse(Unavailable("the server is stopping; whether this request has changed anything is not known", retry_after_s=1.0))
        finally:
            self._note(scope, plane, answer.status, perf_counter() - started, request_id)

    def _check(self, scope: Scope) -> tuple[str, bool]:
        """The request's canonical path, and whether it is the control plane's. Raises Malformed or TooLarge."""
        path = canonical_path(scope["raw_path"])
        controls = path in PATHS or (path.startswith("/api/") and not path.startswith(_DATA_PLANE_API))
        _check_headers(scope, _ONCE_FOR_CONTROL if controls else _ONCE)
        length = header(scope, b"content-length")
        if length is not None:
            _check_length(length, self._most_bytes(scope["method"], path) if controls else self._max_body_bytes)
        return path, controls

    def _most_bytes(self, method: str, path: str) -> int:
        """The limit of a body of the control plane. Uploads are not held in memory, so theirs is that of files."""
        return self._max_upload_bytes if is_upload(method, path) else min(self._max_body_bytes, MAX_CONTROL_BODY_BYTES)

    def _note(self, scope: Scope, plane: str, status: int, seconds: float, request_id: str) -> None:
        """The query is left out: it may hold tokens."""
        self._metrics.responded(plane, status, seconds)
        # Executions have records of their own; a line for each would cost the data plane more than it tells.
        quiet = scope["path"] in PATHS or (plane != "control" and status < _SERVER_ERROR)
        if quiet and not _LEVEL.isEnabledFor(logging.DEBUG):
            return  # asked here, because structlog builds a logger before it asks
        level = log.debug if quiet else log.info
        duration_ms = round(seconds * 1000, 2)
        level("http_request", method=scope["method"], path=scope["path"], status=status, duration_ms=duration_ms, request_id=request_id)


class _Answer:
    """The way back: notes the status (0 until there is one), completes the headers, and leaves out the body of an answer to HEAD."""

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send = send
        self._scope = scope
        self.status = 0
        self.protects = API

    async def send(self, message: Message) -> None:
        """See ASGI's `send`."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = settled(self._scope, message.get("headers", ()), self.protects)
            add_renewed_cookie(headers, self._scope)
            message = {**message, "headers": headers}
        elif self._scope["method"] == "HEAD" and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    async def refuse(self, error: PiCloudError) -> None:
        """Answer with a problem document."""
        status, headers, body = problem(error)
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _check_headers(scope: Scope, once: frozenset[bytes]) -> None:
    """Two parties that read different ones of a repeated header would see two different requests."""
    seen: set[bytes] = set()
    for name, _ in scope["headers"]:
        if name in once and name in seen:
            raise Malformed(f"the header {name.decode()} may stand only once", field=name.decode())
        seen.add(name)


def _check_length(text: str, most: int) -> None:
    if not (text.isascii() and text.isdigit()):
        raise Malformed("content-length is not a number", field="content-length")
    if len(text) > _MAX_LENGTH_DIGITS or int(text) > most:
        raise TooLarge(f"the body may have at most {most} bytes", max_body_bytes=most)


def _for_control(scope: Scope, path: str) -> Scope:
    """The request as Litestar routes it: the path still encoded, HEAD as GET, and OPTIONS as a method that no route has, so that it is told which there are."""
    note_head(scope)
    note_options(scope)
    return {**scope, "path": path, "method": _AS.get(scope["method"], scope["method"])}


async def _live(receive: Receive, send: Send) -> None:
    """The life of the process is the composition root's affair; servers only want to be answered."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
