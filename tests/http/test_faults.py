"""Parts that fail under load, over a real port: nothing acknowledged is lost, nothing happens twice, nothing stays claimed."""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import psutil
import pytest

from adapters.postgres import postmaster
from adapters.postgres.account import server_account
from adapters.postgres.embedded import open_embedded
from domain.executions import ExecutionDeadLettered, ExecutionSucceeded
from domain.retry import RetryPolicy
from runtime.database import prepare_database, verify_projections
from tests.runtime.serving import Site, serving
from tests.runtime.world import eventually

pytestmark = pytest.mark.anyio

PATIENT = RetryPolicy(max_attempts=20, backoff="constant", base_ms=50, jitter_pct=0)
PUT = "def handler(ctx):\n    c = kv.collection('c')\n    c.set(ctx.request.query['k'], (c.get(ctx.request.query['k']) or 0) + 1)\n    return 1\n"
COUNT = "def handler(ctx):\n    kv.collection('count').increment('runs')\n    kv.collection('done').increment(ctx.event.kv.key)\n"


async def test_postgresql_restarted_in_immediate_mode_under_load(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("pg")
    with open_embedded(home) as dsn:
        await prepare_database(dsn)
        async with serving(dsn) as served, served.site() as site:
            path = await site.at("/put", PUT)
            queue = await site.at("/queue", PUT.replace("'c'", "'queued'"), "async")
            await site.app.trigger(await site.app.script(COUNT, name="count"), "c", retry=PATIENT)
            load = _Load(site, path, queue)
            async with anyio.create_task_group() as tasks:
                for number in range(8):
                    tasks.start_soon(load.run, number)
                for least in (20, 60):
                    await eventually(load.acknowledged, lambda count, least=least: count >= least)  # type: ignore[misc]
                    await anyio.to_thread.run_sync(_restart, home / "pg")
                await eventually(load.acknowledged, lambda count: count >= 120)
                load.stopped = True
            await site.app.drained(within_s=40)
            assert set(load.statuses) <= {200, 202, 500, 503}, load.statuses
            assert 503 in load.statuses
            stored, queued = await site.app.kv("c"), await site.app.kv("queued")
            assert load.put <= set(stored)
            assert load.queued <= set(queued)
            assert not load.refused & (set(stored) | set(queued)), "refused, and yet it happened"
            assert set(stored.values()) == set(queued.values()) == {1}
            assert await site.app.kv("done") == stored
            assert await site.app.kv("count") == {"runs": len(stored)}
            assert await site.app.events(ExecutionDeadLettered) == []
            assert len(await site.app.events(ExecutionSucceeded)) == len(stored) + len(queued)
            assert (await verify_projections(dsn)).clean


class _Load:
    """Callers who each write one new key after the other, and note what they were told."""

    def __init__(self, site: Site, path: str, queue: str) -> None:
        self._site = site
        self._paths = (path, queue)
        self.statuses: dict[int, int] = {}
        self.put: set[str] = set()
        self.queued: set[str] = set()
        self.refused: set[str] = set()
        self.stopped = False

    async def acknowledged(self) -> int:
        return len(self.put) + len(self.queued)

    async def run(self, number: int) -> None:
        queues = number % 2
        index = 0
        while not self.stopped:
            index += 1
            key = f"{number}-{index}"
            answer = await self._site.client.post(self._paths[queues], params={"k": key})
            self._note(key, answer, queued=bool(queues))

    def _note(self, key: str, answer: httpx.Response, *, queued: bool) -> None:
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        if answer.is_success:
            (self.queued if queued else self.put).add(key)
        elif answer.status_code == 503:
            assert answer.headers["retry-after"]
            self.refused.add(key)
        else:
            assert answer.json()["code"] == "outcome_unknown", answer.text


def _restart(home: Path) -> None:
    """PostgreSQL's immediate shutdown, which is a crash, and a start with recovery."""
    running = postmaster.find(home / "data")
    assert running is not None
    running.process.send_signal(signal.SIGQUIT)
    running.process.wait(20)
    postmaster.start(home / "data", running.socket_dir, server_account())


async def test_a_sandbox_worker_killed_in_mid_run_costs_that_run_alone(dsn: str) -> None:
    async with serving(dsn) as served, served.site() as site:
        loop = await site.at("/loop", "def handler(ctx):\n    kv.collection('c').set('k', 1)\n    while True: pass\n", timeout_s=30)
        answers: list[httpx.Response] = []

        async def call() -> None:
            answers.append(await site.client.get(loop))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            busy = await eventually(_busy_child, lambda found: found is not None)
            assert busy is not None
            busy.kill()
        assert (answers[0].status_code, answers[0].json()["code"]) == (502, "script_crashed")
        assert await site.app.kv("c") == {}
        assert (await site.client.get(await site.at("/next", "def handler(ctx):\n    return 1\n"))).text == "1"


async def _busy_child() -> psutil.Process | None:
    """The sandbox worker of this process that computes."""
    before = {child: child.cpu_times().user for child in _workers()}
    await anyio.sleep(0.3)
    grown = [child for child in _workers() if child.cpu_times().user - before.get(child, 0.0) > 0.1]
    return grown[0] if grown else None


def _workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.name() != "postgres"]
