"""Is it alive, is it ready, which is it, how does it do: for supervisors, load balancers and Prometheus. No credentials are asked for."""

from __future__ import annotations

from contextlib import suppress
from time import perf_counter
from typing import Any, Final

import anyio
import msgspec
from litestar import MediaType, Request, Response, Router, get

from domain.errors import Unavailable
from domain.ports import Reader
from domain.sandbox import Sandbox
from runtime.metrics import MEDIA_TYPE
from runtime.secrets import SecretsState
from runtime.version import read_version
from web.admin.needs import NO_CREDENTIAL
from web.core import Core
from web.documented import Answer, documented

PATHS: Final = frozenset({"/healthz", "/readyz", "/version", "/metrics"})

_DATABASE_WITHIN_S: Final = 1.0
_NO_STORE: Final = {"cache-control": "no-store"}


class DatabaseState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the database answers, its version, and how long a trivial query took."""

    ok: bool
    version: str | None = None
    latency_ms: float | None = None


class SandboxState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether scripts can run, how many workers are alive, and which hardening is active."""

    ok: bool
    workers: int
    hardening: dict[str, bool]


class ScriptsState(msgspec.Struct, frozen=True, kw_only=True):
    """`row_security`: whether scripts' reads are under a role that can read rows of their app alone. Without it views still show no others."""

    row_security: bool


class OutboundState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether scripts can call this machine and the networks around it, which is for development alone."""

    allow_private: bool


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """`status` is `ready` when database and sandbox are ok, else `unready`: without the key of its secrets an instance still answers."""

    status: str
    database: DatabaseState
    sandbox: SandboxState
    scripts: ScriptsState
    outbound: OutboundState
    secrets: SecretsState


class VersionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """See `runtime.version.Version`; `public_base_url` is where people reach this instance, if it was said."""

    product: str
    api: str
    sdk: int
    schema: int
    wire: int
    public_base_url: str | None


@get("/healthz", media_type=MediaType.TEXT, sync_to_thread=False)
def healthz() -> str:
    """The process answers. It says nothing about the database."""
    return "ok"


@get("/readyz", opt=documented(answers={503: Answer(description="Not now.", shape=Readiness)}))
async def readyz(request: Request[Any, Any, Any]) -> Response[Readiness]:
    """Whether requests can be served; 503 when not."""
    core: Core = request.app.state.core
    database, sandbox = await _database(core.reader), _sandbox(core.sandbox)
    ready = database.ok and sandbox.ok
    answer = Readiness(
        status="ready" if ready else "unready",
        database=database,
        sandbox=sandbox,
        scripts=ScriptsState(row_security=core.app_readers.has_role),
        outbound=OutboundState(allow_private=core.settings.outbound.allow_private),
        secrets=await _secrets(core, database),
    )
    return Response(answer, status_code=200 if ready else 503, headers=_NO_STORE)


@get("/version", sync_to_thread=False)
def version(request: Request[Any, Any, Any]) -> VersionAnswer:
    """What runs here."""
    core: Core = request.app.state.core
    return VersionAnswer(**msgspec.structs.asdict(read_version()), public_base_url=core.settings.http.public_base_url)


@get("/metrics", media_type=MEDIA_TYPE)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Prometheus' text format."""
    core: Core = request.app.state.core
    return Response(await core.metrics.render(core.reader), media_type=MEDIA_TYPE, headers=_NO_STORE)


async def _database(reader: Reader) -> DatabaseState:
    started = perf_counter()
    try:
        with anyio.fail_after(_DATABASE_WITHIN_S):
            rows = await reader.fetch("SELECT current_setting('server_version') AS version")
    except (Unavailable, TimeoutError):
        return DatabaseState(ok=False)
    return DatabaseState(ok=True, version=rows[0]["version"], latency_ms=round((perf_counter() - started) * 1000, 3))


async def _secrets(core: Core, database: DatabaseState) -> SecretsState:
    if database.ok:
        with suppress(Unavailable):
            return await core.secrets.state()
    return SecretsState(ok=False, problem="the database is away")


def _sandbox(sandbox: Sandbox) -> SandboxState:
    try:
        status = sandbox.status()
    except Unavailable:
        return SandboxState(ok=False, workers=0, hardening={})
    return SandboxState(ok=True, workers=status.workers, hardening=status.hardening)


router: Final = Router(path="/", route_handlers=[healthz, readyz, version, metrics], tags=["system"], opt=NO_CREDENTIAL)
