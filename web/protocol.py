"""HTTP/1.1 as uvicorn reads it, with problem documents for what never becomes a request (`picloud serve` names this class to uvicorn)."""

from __future__ import annotations

from typing import Final

from domain.errors import Malformed
from web.corked import CorkedProtocol
from web.problems import problem
from web.requests import choose_request_id

_REASON: Final = b"HTTP/1.1 400 Bad Request\r\n"


class ProblemProtocol(CorkedProtocol):
    """Answers what is no HTTP with `malformed`, then closes: where the next request would begin cannot be known."""

    def send_400_response(self, msg: str) -> None:
        """See the base class."""
        _, headers, body = problem(Malformed(msg))
        headers += [(b"x-request-id", choose_request_id(None).encode()), (b"connection", b"close")]
        self.transport.write(_REASON + b"".join(b"%b: %b\r\n" % pair for pair in headers) + b"\r\n" + body)
        self.transport.close()
