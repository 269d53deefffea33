"""Servers on loopback for outbound calls: each answers with whatever bytes a test wants, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapters.outbound.client import HttpClient, Limits
from adapters.outbound.policy import Policy
from domain.outbound import HttpCall

APP = UUID(int=1)
DEVELOPMENT = Policy(allow_private=True)


class Asked:
    """One request as it stood on the wire."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        self.lines = lines
        self.body = b""

    async def gone(self) -> None:
        """Whoever asked has hung up."""
        await self._reader.read()


Handler = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Where it listens, and what it was asked."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@asynccontextmanager
async def serving(handler: Handler | bytes, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that answers every request by `handler`, or always with the same bytes, and closes the connection then."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            asked = await _read(reader)
            server.asked.append(asked)
            if isinstance(handler, bytes):
                writer.write(handler)
            else:
                await handler(asked, writer)
            await writer.drain()
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    listening = await asyncio.start_server(connected, host, 0, ssl=tls)
    server = Server(listening.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listening.close()
        if tasks:
            await asyncio.wait(tasks, timeout=10)


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = await reader.readuntil(b"\r\n\r\n")
    asked = Asked(head[:-4], reader)
    asked.body = await reader.readexactly(int(asked.headers.get("content-length", "0")))
    return asked


def response(body: bytes = b"", *, status: int = 200, **headers: str) -> bytes:
    """An answer with a length; header names as keywords."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def get(url: str, **more: Any) -> HttpCall:
    """A GET, unless told otherwise."""
    return HttpCall(**{"method": "GET", "url": url, "timeout_s": 10.0, **more})


class Observed:
    """A client, and the outcomes of its calls."""

    def __init__(self, policy: Policy = DEVELOPMENT, **more: Any) -> None:
        self.outcomes: list[str] = []
        self.client = HttpClient(policy, more.pop("limits", Limits()), lambda outcome, _: self.outcomes.append(outcome), **more)


class Names:
    """A resolver: each name has a list of answers, given one after the other; the last one stays."""

    def __init__(self, **names: Sequence[Sequence[str]]) -> None:
        self._names = {name.replace("_", "."): list(answers) for name, answers in names.items()}
        self.lookups: list[str] = []

    async def __call__(self, app_id: UUID, host: str, port: int) -> Sequence[str]:
        self.lookups.append(host)
        answers = self._names.get(host)
        if answers is None:
            raise OSError(-2, "Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]


def self_signed(name: str) -> tuple[bytes, bytes]:
    """A key and a certificate for a host, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1))
    certificate = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(key, hashes.SHA256())
    encoded = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return encoded, certificate.public_bytes(serialization.Encoding.PEM)
