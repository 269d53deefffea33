"""The benchmarks still run and still find what they check: each with as little as shows that."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bench_apps, bench_cron, bench_dispatch, bench_docs, bench_files, bench_follow, bench_http, bench_sandbox, bench_sse, bench_triggers
from benchmarks.__main__ import NAMES
from benchmarks.common import Table
from benchmarks.queues import PICLOUD

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


def check(tables: list[Table], rows: int) -> None:
    for table in tables:
        assert len(table.rows) == len(table.values) == rows, table.title
        assert all(len(row) == len(table.columns) for row in table.rows), table.title


async def test_dispatch(server_dsn: str) -> None:
    queues = dict(PICLOUD)
    if all(map(importlib.util.find_spec, ("pgqueuer", "procrastinate"))):  # only `make bench` installs them
        from benchmarks.peers import PEERS  # noqa: PLC0415

        queues["PgQueuer (50)"] = PEERS["PgQueuer (50)"]
    size = bench_dispatch.Size(throughput=40, idle=3, drain=40)
    check(await bench_dispatch.measure(server_dsn, 1, size, queues), len(queues))


async def test_apps(server_dsn: str) -> None:
    check(await bench_apps.measure(server_dsn, 1, bench_apps.Size(rows=1_000, reads=24)), 24)


async def test_docs(server_dsn: str) -> None:
    size = bench_docs.Size(documents=1_000, quick=2, slow=1)
    check(await bench_docs.measure(server_dsn, 1, size), len(bench_docs.questions(1_000)))


async def test_cron(server_dsn: str) -> None:
    check(await bench_cron.measure(server_dsn, 1, bench_cron.Size(cells=((1, 1), (20, 3)))), 2)


async def test_files(server_dsn: str) -> None:
    rows = 3 if shutil.which("nginx") else 2
    check(await bench_files.measure(server_dsn, 1, bench_files.Size(files=(70_000, 1_100_000), round_bytes=140_000)), rows)


async def test_follow(server_dsn: str) -> None:
    rates, catching_up = await bench_follow.measure(server_dsn, 1, bench_follow.Size(seconds=0.2, clients=2, apps=2, backlog=50))
    check([rates], 3)
    check([catching_up], 1)


async def test_http(server_dsn: str) -> None:
    check(await bench_http.measure(server_dsn, 1, bench_http.Size(requests=16, keys=3, clients=(1, 2))), 2)


async def test_sandbox() -> None:
    check(await bench_sandbox.measure(1, bench_sandbox.Size(runs=8)), 2 + len(bench_sandbox.SCRIPTS))


async def test_sse(server_dsn: str) -> None:
    for table, rows in zip(
        await bench_sse.measure(server_dsn, 1, bench_sse.Size(subscribers=((3, 5), (60, 5)), singles=2, fan=(3, 200, 20))), (1, 2), strict=True
    ):
        check([table], rows)


async def test_triggers(server_dsn: str) -> None:
    check(await bench_triggers.measure(server_dsn, 1, bench_triggers.Size(jobs=20, events=(10, 600), triggers=(1, 5))), 2)


def test_every_benchmark_is_run_by_make_bench() -> None:
    assert set(NAMES) == {path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py")}
    refused = subprocess.run([sys.executable, "-m", "benchmarks", "nonsense"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "there is no benchmark nonsense" in refused.stderr
