"""The queues of others, from the dependency group `bench`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import asyncpg
from pgqueuer.core.qm import QueueManager
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from procrastinate import App, PsycopgConnector

from benchmarks.load import PRODUCERS
from benchmarks.queues import Finished, OpenQueue, Queue, Started


class PgQueuerQueue:
    """PgQueuer on asyncpg pools, producers and manager on one each."""

    def __init__(self, producers: asyncpg.Pool, consumer: asyncpg.Pool, batch: int, started: Started, finished: Finished) -> None:
        self._queries = Queries.from_asyncpg_pool(producers)
        self._consumer = consumer
        self._producers = producers
        self._batch = batch
        self._started = started
        self._finished = finished

    async def enqueue(self, number: int) -> None:
        await self._queries.enqueue("noop", str(number).encode())

    async def enqueue_many(self, numbers: range) -> None:
        for start in range(0, len(numbers), 500):
            payloads: list[bytes | None] = [str(number).encode() for number in numbers[start : start + 500]]
            await self._queries.enqueue(["noop"] * len(payloads), payloads, [0] * len(payloads))

    @asynccontextmanager
    async def consume(self) -> AsyncIterator[None]:
        manager = QueueManager(Queries.from_asyncpg_pool(self._consumer))

        @manager.entrypoint("noop")
        async def noop(job: Job) -> None:
            assert job.payload is not None
            self._started(int(job.payload))
            self._finished()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: manager.run(batch_size=self._batch, dequeue_timeout=timedelta(seconds=30)))
            try:
                yield
            finally:
                manager.shutdown.set()

    async def left(self) -> int:
        return int(await self._producers.fetchval("SELECT count(*) FROM pgqueuer"))

    async def check(self, count: int) -> None:
        done = await self._producers.fetchval("SELECT count(DISTINCT job_id) FROM pgqueuer_log WHERE status = 'successful'")
        assert done == count, done


@asynccontextmanager
async def open_pgqueuer(dsn: str, started: Started, finished: Finished, *, batch: int) -> AsyncIterator[Queue]:
    """On an empty database, with its default (durable) tables."""
    async with asyncpg.create_pool(dsn, min_size=PRODUCERS, max_size=PRODUCERS) as producers, asyncpg.create_pool(dsn, min_size=4, max_size=4) as consumer:
        await Queries.from_asyncpg_pool(producers).install()
        yield PgQueuerQueue(producers, consumer, batch, started, finished)


class ProcrastinateQueue:
    """Procrastinate on a psycopg pool, 50 jobs at once."""

    def __init__(self, app: App, started: Started, finished: Finished) -> None:
        self._app = app

        @app.task(name="noop")
        async def noop(number: int) -> None:
            started(number)
            finished()

        self._task = noop

    async def enqueue(self, number: int) -> None:
        await self._task.defer_async(number=number)

    async def enqueue_many(self, numbers: range) -> None:
        for start in range(0, len(numbers), 500):
            jobs: list[Any] = [{"number": number} for number in numbers[start : start + 500]]
            await self._task.batch_defer_async(*jobs)

    @asynccontextmanager
    async def consume(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: self._app.run_worker_async(concurrency=50, install_signal_handlers=False))
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()

    async def left(self) -> int:
        return await self._count("SELECT count(*) AS jobs FROM procrastinate_jobs WHERE status IN ('todo', 'doing')")

    async def check(self, count: int) -> None:
        done = await self._count("SELECT count(*) AS jobs FROM procrastinate_jobs WHERE status = 'succeeded'")
        assert done == count, done

    async def _count(self, sql: Any) -> int:
        row = await self._app.connector.execute_query_one_async(sql)
        return int(row["jobs"])


@asynccontextmanager
async def open_procrastinate(dsn: str, started: Started, finished: Finished) -> AsyncIterator[Queue]:
    """On an empty database."""
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    app = App(connector=PsycopgConnector(conninfo=dsn, min_size=PRODUCERS, max_size=PRODUCERS + 4))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        yield ProcrastinateQueue(app, started, finished)


PEERS: dict[str, OpenQueue] = {
    "PgQueuer (50)": partial(open_pgqueuer, batch=50),
    "PgQueuer (200)": partial(open_pgqueuer, batch=200),
    "Procrastinate": open_procrastinate,
}
