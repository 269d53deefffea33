"""How fast files go up and down, against a plain Litestar handler and (if it is installed) nginx with the same file.

One client, one connection, one file after another. PiCloud hashes what goes up and what goes down, syncs an upload to the disk and appends an event; nginx
sends with `sendfile` and writes an upload without syncing, and the plain handler does likewise in Python. So this shows what the promises cost, not a race
between equals. What was downloaded is compared with the file, once a round.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path

import anyio.to_thread
import msgspec
import psutil

from benchmarks.common import Table, arguments, open_database, open_server, report
from benchmarks.file_servers import SERVERS, Target
from benchmarks.load import Found, cpu, in_turns, run, spread, values

_MIB = 1024 * 1024
_BOUNDARY = "bench-boundary"
_BUFFER = bytearray(_MIB)


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of files in bytes, and about how many bytes a round moves in each direction."""

    files: tuple[int, ...] = (64 * 1024, 1 * _MIB, 32 * _MIB)
    round_bytes: int = 64 * _MIB


class Client:
    """One connection to one server."""

    def __init__(self, target: Target, data: bytes) -> None:
        self._target = target
        self._data = data
        self._socket = socket.create_connection(("127.0.0.1", target.port))
        self._head = "".join(f"{name}: {value}\r\n" for name, value in {"host": "localhost", **target.headers}.items())

    def download(self, count: int) -> None:
        """Get the file so many times; check what came last."""
        request = f"GET {self._target.download} HTTP/1.1\r\n{self._head}\r\n".encode()
        for number in range(count):
            self._socket.sendall(request)
            found = sha256() if number == count - 1 else None
            size, first = self._answer("200")
            pieces = iter(partial(self._socket.recv_into, _BUFFER, _MIB), 0)
            if found is not None:
                found.update(first)
            left = size - len(first)
            while left:
                got = next(pieces)
                left -= got
                if found is not None:
                    found.update(memoryview(_BUFFER)[:got])
            assert found is None or found.digest() == sha256(self._data).digest(), "these are not the bytes of the file"

    def upload(self, count: int) -> None:
        """Send the file so many times."""
        before, after, kind = b"", b"", "application/octet-stream"
        if self._target.is_form:
            before = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="data"\r\n\r\n'.encode()
            after, kind = f"\r\n--{_BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={_BOUNDARY}"
        size = len(before) + len(self._data) + len(after)
        for number in range(count):
            path = self._target.upload if self._target.is_form else f"{self._target.upload}{number}"
            line = f"{self._target.method} {path} HTTP/1.1\r\n{self._head}content-type: {kind}\r\ncontent-length: {size}\r\n\r\n"
            self._socket.sendall(line.encode() + before)
            self._socket.sendall(self._data)
            self._socket.sendall(after)
            length, body = self._answer("20")
            while len(body) < length:
                body += self._socket.recv(_MIB)

    def close(self) -> None:
        self._socket.close()

    def _answer(self, status: str) -> tuple[int, bytes]:
        """The length of the body, and what of it has come with the head."""
        found = b""
        while b"\r\n\r\n" not in found:
            piece = self._socket.recv(65_536)
            assert piece, "the connection was closed"
            found += piece
        head, _, body = found.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status}".encode()), found
        length = next((line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b"0")
        return int(length), body


@contextmanager
def holding(data: bytes) -> Iterator[Path]:
    """A directory with the file, open to all: nginx's worker may run as another user."""
    with tempfile.TemporaryDirectory(prefix="picloud-bench-") as name:
        directory = Path(name)
        (directory / "data").write_bytes(data)
        directory.chmod(0o777)
        yield directory


@contextmanager
def start(name: str, directory: Path, dsn: str) -> Iterator[Target]:
    command = [sys.executable, "-m", "benchmarks.file_servers", name, str(directory), dsn]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the server {name} did not start"
        yield msgspec.json.decode(line, type=Target)
        process.communicate()


async def move(target: Target, direction: str, data: bytes, count: int) -> dict[str, float]:
    """Move the file so many times in one direction."""
    client = Client(target, data)
    process = psutil.Process(target.pid)
    before, begun = cpu(process), time.perf_counter()
    await anyio.to_thread.run_sync(client.download if direction == "download" else client.upload, count)
    seconds = time.perf_counter() - begun
    used = cpu(process).since(before)
    client.close()
    mib = len(data) * count / _MIB
    return {"MiB/s": mib / seconds, "CPU ms/MiB": (used.process + used.children) * 1000 / mib}


async def measure(server_dsn: str, rounds: int, size: Size) -> list[Table]:
    names = [name for name in SERVERS if name != "nginx" or shutil.which("nginx")]
    if "nginx" not in names:
        print("nginx is not installed: its rows are left out")
    tables = []
    for file_bytes in size.files:
        data, count = os.urandom(file_bytes), max(1, min(1000, size.round_bytes // file_bytes))
        async with AsyncExitStack() as stack:
            dsn = await stack.enter_async_context(open_database(server_dsn))
            targets = {}
            for name in names:
                directory = stack.enter_context(holding(data))
                targets[name] = stack.enter_context(start(name, directory, dsn))
            for direction in ("download", "upload"):
                few = count if direction == "download" else max(1, count // 8)
                found = await in_turns(rounds, {name: partial(move, target, direction, data, few) for name, target in targets.items()})
                tables.append(_table(direction, file_bytes, found))
    return tables


def _table(direction: str, file_bytes: int, found: Found) -> Table:
    base = found["nginx"] if "nginx" in found else found["plain"]
    rows = [[name, str(series["MiB/s"]), f"{series['MiB/s'].over(base['MiB/s']):.2f}", spread(series["CPU ms/MiB"])] for name, series in found.items()]
    title = f"files, {direction}, {file_bytes / _MIB:g} MiB; ratio to {'nginx' if 'nginx' in found else 'the plain handler'}"
    return Table(title, ["", "MiB/s", "ratio", "CPU ms a MiB"], rows, values(found))


def main() -> None:
    asked = arguments(__doc__ or "")
    with open_server() as server:
        report("files", run(measure, server, asked.rounds, Size()), asked.json)


if __name__ == "__main__":
    main()
