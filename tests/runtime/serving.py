"""Apps behind a real port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
from uuid_utils.compat import uuid7

from domain.apps import DomainAdded, domain_stream
from domain.clock import Clock, utc_now
from domain.ids import NIL_APP
from runtime.environment import Secret
from runtime.platform import Platform, open_platform
from runtime.settings import Admin, Http, Process, SandboxSettings, Settings
from tests.http.conftest import serve
from tests.runtime.world import App, new_app
from web.main import build

OWNER = {"username": "owner", "password": "correct horse battery"}
SERVED = Settings(
    admin=Admin(username=OWNER["username"], password=Secret(OWNER["password"])),
    http=Http(max_body_bytes=3 * 1024 * 1024),
    process=Process(beat_s=0.2, dead_s=1.0, tail_poll_ms=50),
    sandbox=SandboxSettings(slots=2),  # tests count seats
)


class Served(msgspec.Struct, frozen=True):
    """A platform and where it answers."""

    platform: Platform
    url: str

    @asynccontextmanager
    async def site(self) -> AsyncIterator[Site]:
        """A new app, and a client that speaks to its host."""
        app = await new_app(self.platform)
        async with httpx.AsyncClient(base_url=self.url, headers={"host": app.host}, timeout=60) as client:
            yield Site(app, client)

    async def token(self) -> str:
        """The owner's session."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            answer = await client.post("/api/v1/admin/auth/login", json=OWNER)
            assert answer.status_code == 200, answer.text
            token: str = answer.json()["token"]
            return token


class Site(msgspec.Struct, frozen=True):
    """An app and a client of it."""

    app: App
    client: httpx.AsyncClient

    async def claim(self, host: str) -> None:
        """Let the app answer for a host more."""
        added = DomainAdded(domain_id=uuid7(), app_id=self.app.id, pattern=host)
        await App(self.app.platform, NIL_APP).put((domain_stream(added.domain_id), added))

    async def at(self, path: str, source: str, mode: Any = "sync", **script: Any) -> str:
        """Let a script answer at a path; returns the path."""
        more = {key: script.pop(key) for key in ("method", "path_kind") if key in script}
        await self.app.route(await self.app.script(source, name=f"s{path.strip('/') or 'root'}", **script), path, mode, **more)
        return path


@asynccontextmanager
async def serving(dsn: str, settings: Settings = SERVED, clock: Clock = utc_now) -> AsyncIterator[Served]:
    """A whole PiCloud on a prepared database, with an owner."""
    async with open_platform(dsn, settings, clock) as platform:
        await platform.accounts.bootstrap(settings.admin, lambda _: None)
        async with serve(build(platform)) as url:
            yield Served(platform, url)
