"""The servers that `bench_files` compares on one file: PiCloud, a Litestar handler that answers with a file and writes an upload down, and nginx.

Run as a process of its own: `python -m benchmarks.file_servers NAME DIRECTORY DSN`. It prints one JSON line, a `Target`, when requests are answered, and stops
when its standard input is closed. The directory holds the file, `data`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import anyio
import anyio.to_thread
import msgspec
import uvicorn
from litestar import Litestar, get, post
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import File
from uuid_utils.compat import uuid7

from benchmarks.load import run
from benchmarks.seeding import Seeder, append
from domain.files import CreateFile
from domain.units import Change
from runtime.environment import Secret
from runtime.platform import open_platform
from runtime.server import bind
from runtime.settings import Admin, Settings, load_settings
from tests.served import free_port
from web.main import build
from web.protocol import ProblemProtocol

OWNER = {"username": "bench", "password": "correct horse battery"}
_LOOK_EVERY_S = 0.005
_PIECE = 1024 * 1024
_NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_max_body_size 0;
    client_body_temp_path {directory}/temp;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {directory};
        location /uploaded/ {{ dav_methods PUT; create_full_put_path on; }}
    }}
}}
"""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where to get the file and where to put one, as a form with a part `file` or as the body itself."""

    port: int
    pid: int
    download: str
    upload: str
    method: str = "POST"
    is_form: bool = True
    headers: dict[str, str] = {}


Serving = AbstractAsyncContextManager[Target]


@asynccontextmanager
async def picloud(directory: Path, dsn: str) -> AsyncIterator[Target]:
    settings = Settings(data_dir=directory, admin=Admin(username=OWNER["username"], password=Secret(OWNER["password"])))
    async with open_platform(dsn, settings) as platform:
        await platform.accounts.bootstrap(settings.admin, lambda _: None)
        session = await platform.accounts.log_in(**OWNER, address="127.0.0.1", user_agent="bench")
        seeder = Seeder(platform)
        await seeder.app()
        blob = await platform.blobs.save_bytes(await anyio.Path(directory / "data").read_bytes())
        file = CreateFile(collection="c", id=uuid7(), name="data", content_type="application/octet-stream", blob=blob)
        await append(platform.log, seeder.app_id, Change(file))
        files = f"/api/v1/admin/apps/{seeder.app_id}/files/c"
        async with _served(build(platform), ProblemProtocol) as (port, pid):
            headers = {"authorization": f"Bearer {session.token}"}
            yield Target(port=port, pid=pid, download=f"{files}/{file.id}/content", upload=files, headers=headers)


@asynccontextmanager
async def plain(directory: Path, dsn: str) -> AsyncIterator[Target]:
    del dsn

    @get("/data", sync_to_thread=False)
    def download() -> File:
        return File(directory / "data")

    @post("/upload")
    async def upload(data: Annotated[dict[str, UploadFile], Body(media_type=RequestEncodingType.MULTI_PART)]) -> int:
        size = 0
        async with await anyio.open_file(directory / uuid4().hex, "wb") as file:
            while piece := await data["file"].read(_PIECE):
                size += await file.write(piece)
        return size

    app = Litestar([download, upload], logging_config=None, openapi_config=None, request_max_body_size=None)
    async with _served(app, "httptools") as (port, pid):
        yield Target(port=port, pid=pid, download="/data", upload="/upload")


@asynccontextmanager
async def nginx(directory: Path, dsn: str) -> AsyncIterator[Target]:
    del dsn
    port = free_port()
    with _nginx_on(port, directory) as pid:
        await _until_open(port)
        yield Target(port=port, pid=pid, download="/data", upload="/uploaded/", method="PUT", is_form=False)


@contextmanager
def _nginx_on(port: int, directory: Path) -> Iterator[int]:
    program = shutil.which("nginx")
    assert program is not None
    (directory / "nginx.conf").write_text(_NGINX.format(directory=directory, port=port))
    process = subprocess.Popen([program, "-p", str(directory), "-c", str(directory / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


SERVERS: dict[str, Callable[[Path, str], Serving]] = {"picloud": picloud, "plain": plain, "nginx": nginx}


async def serve(name: str, directory: str, dsn: str) -> None:
    async with SERVERS[name](Path(directory), dsn) as target:
        print(msgspec.json.encode(target).decode(), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)


@asynccontextmanager
async def _served(app: Any, protocol: Any) -> AsyncIterator[tuple[int, int]]:
    config = uvicorn.Config(app, loop="uvloop", http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False)
    server = uvicorn.Server(config)
    async with anyio.create_task_group() as tasks:
        with bind(load_settings({"PICLOUD_BIND": "127.0.0.1:0"})) as listening:
            tasks.start_soon(partial(server.serve, [listening]))
            while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                await anyio.sleep(_LOOK_EVERY_S)
            yield listening.getsockname()[1], os.getpid()
            server.should_exit = True


async def _until_open(port: int) -> None:
    with anyio.fail_after(10):
        while True:
            try:
                await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
            except OSError:
                await anyio.sleep(_LOOK_EVERY_S)
            else:
                return


if __name__ == "__main__":
    run(serve, *sys.argv[1:])
