from __future__ import annotations

import tempfile
import tomllib
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.to_thread
import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters.postgres.embedded import open_embedded
from adapters.postgres.migrate import load_migrations
from runtime.database import prepare_database
from runtime.platform import open_platform
from tests.http.conftest import OWNER, SETTINGS, serve
from tests.postgres import cloned
from web.main import build

pytestmark = pytest.mark.anyio


async def samples(client: httpx.AsyncClient) -> dict[str, float]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        sample.name + "".join(sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_healthz_says_ok(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok")
    assert answer.headers["content-type"].startswith("text/plain")


async def test_readyz_shows_database_and_sandbox(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get("/readyz")
    assert answer.status_code == 200
    ready = answer.json()
    assert ready["status"] == "ready"
    assert ready["database"]["ok"] is True
    assert int(ready["database"]["version"].split(".")[0]) >= 15
    assert 0 < ready["database"]["latency_ms"] < 1000
    assert ready["sandbox"]["ok"] is True
    assert ready["sandbox"]["workers"] >= 0
    assert ready["scripts"] == {"row_security": True}
    assert ready["outbound"] == {"allow_private": False}
    assert ready["secrets"]["ok"] is True
    assert all(isinstance(active, bool) for active in ready["sandbox"]["hardening"].values())


async def test_it_outlives_its_database(url_of_own_server: tuple[str, ExitStack, Path]) -> None:
    url, server, directory = url_of_own_server
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        assert (await client.get("/readyz")).status_code == 200
        await anyio.to_thread.run_sync(server.close)
        await refuses_without_database(client)
        await anyio.to_thread.run_sync(server.enter_context, open_embedded(directory))
        with anyio.fail_after(10):
            while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110  # a condition over HTTP, with a deadline
                await anyio.sleep(0.05)
        assert (await client.post("/api/v1/admin/auth/login", json=OWNER)).status_code == 200


async def refuses_without_database(client: httpx.AsyncClient) -> None:
    with anyio.fail_after(5):
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unready"
    assert answer.json()["database"] == {"ok": False, "version": None, "latency_ms": None}
    assert (await client.get("/healthz")).status_code == 200
    assert (await samples(client))["picloud_database_up"] == 0
    for answer in (
        await client.post("/api/v1/admin/auth/login", json=OWNER),
        await client.get("/api/v1/admin/auth/me", headers={"authorization": "Bearer " + "x" * 43}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1


@pytest.fixture
async def url_of_own_server() -> AsyncIterator[tuple[str, ExitStack, Path]]:
    """A PiCloud on a database server of its own, which a test may stop by closing the stack and start again."""
    with tempfile.TemporaryDirectory(prefix="picloud-tests-") as name, ExitStack() as server:
        dsn = server.enter_context(open_embedded(Path(name)))
        await prepare_database(dsn)
        async with open_platform(dsn, SETTINGS) as platform, serve(build(platform)) as url:
            await platform.accounts.bootstrap(SETTINGS.admin, lambda _: None)
            yield url, server, Path(name)


async def test_version_names_product_and_contracts(anonymous: httpx.AsyncClient) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert (await anonymous.get("/version")).json() == {
        "product": project["version"],
        "api": "v1",
        "sdk": 1,
        "schema": len(load_migrations()),
        "wire": 1,
        "public_base_url": None,
    }


async def test_metrics_count_commits_and_answers(server_dsn: str, template: str) -> None:
    async with cloned(server_dsn, template) as dsn, open_platform(dsn, SETTINGS) as core, serve(build(core)) as url:
        await core.accounts.bootstrap(SETTINGS.admin, lambda _: None)
        async with httpx.AsyncClient(base_url=url) as client:
            await client.post("/api/v1/admin/auth/login", json=OWNER)
            await client.get("/nowhere")
            found = await samples(client)
    assert found["picloud_log_commits_total"] == 2, "the owner's bootstrap and his login"
    assert found["picloud_log_events_total"] == 4
    assert found["picloud_log_batch_units_count"] == 2
    assert found["picloud_log_append_seconds_countaccepted"] == 2
    assert found["picloud_database_up"] == 1
    assert (found["picloud_outbox_depth"], found["picloud_outbox_due"], found["picloud_outbox_age_seconds"]) == (0, 0, 0)
    assert found["picloud_sandbox_workers"] >= 0
    assert found["picloud_http_requests_total2xxcontrol"] == 1, "the login"
    assert found["picloud_http_requests_total4xxdata"] == 1


async def test_metrics_see_what_waits_in_the_outbox(anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    row = "gen_random_uuid(), gen_random_uuid(), 1, 'kv', gen_random_uuid()"
    insert = "INSERT INTO outbox (app_id, id, cause_position, source, script_id, due_at, attempt) SELECT"
    await connection.execute(f"{insert} {row}, now() - interval '90 seconds', 1")
    await connection.execute(f"{insert} {row}, now() + interval '1 hour', 1")
    found = await samples(anonymous)
    assert (found["picloud_outbox_depth"], found["picloud_outbox_due"]) == (2, 1)
    assert 90 <= found["picloud_outbox_age_seconds"] < 120
