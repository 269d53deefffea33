"""Random scripts run side by side; the log tells in which order they happened, and in that order a plain model does the same."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import anyio
import msgspec
import pytest

from domain.kv import KvDeleted, KvSet, SetKey
from runtime.platform import Platform
from tests.runtime.world import App, new_app, running

pytestmark = pytest.mark.anyio

KINDS = ("transfer", "transfer", "empty", "increment", "total")
KEYS = ("a", "b", "c", "d")
SCRIPT = """
def handler(ctx):
    op = ctx.request.body
    acc = kv.collection("acc")
    kv.collection("ops").set(ctx.execution_id, op)
    kind, one, two, n = op
    if kind == "transfer":
        x = acc.get(one) or 0
        y = acc.get(two) or 0
        if one != two and x >= n:
            acc.set(one, x - n)
            acc.set(two, y + n)
    elif kind == "empty":
        x = acc.get(one)
        if x is not None and one != two:
            acc.delete(one)
            acc.increment(two, x)
    elif kind == "increment":
        acc.increment(one, n)
    else:
        kv.collection("totals").set(ctx.execution_id, sum([acc.get(key) or 0 for key in ["a", "b", "c", "d"]]))
"""


@pytest.fixture
async def platform(dsn: str) -> AsyncIterator[Platform]:
    async with running(dsn) as opened:
        yield opened


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_side_by_side_is_as_one_after_the_other(platform: Platform, seed: int) -> None:
    app = await new_app(platform)
    script = await app.script(SCRIPT, timeout_s=30)
    await app.append(*(SetKey(collection="acc", key=key, value=msgspec.Raw(b"100")) for key in KEYS))
    chance = random.Random(seed)
    ops = [
        [chance.choice(("transfer", "transfer", "empty", "increment", "total")), chance.choice(KEYS), chance.choice(KEYS), chance.randint(1, 60)]
        for _ in range(120)
    ]

    async def client(mine: list[list[Any]]) -> None:
        for op in mine:
            outcome = await app.run(script, body=op)
            assert outcome.ending == "returned", outcome.result

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(client, ops[number::8])
    model = _replay(await _units(app))
    assert await app.kv("acc") == model
    assert sum(model.values()) == 400 + sum(int(op[3]) for op in ops if op[0] == "increment")


async def _units(app: App) -> list[list[KvSet | KvDeleted]]:
    """Each execution's events, executions in the order of the log."""
    units: dict[UUID, list[KvSet | KvDeleted]] = defaultdict(list)
    for recorded in await app.events(KvSet, KvDeleted):
        if recorded.metadata.execution_id is not None:
            assert isinstance(recorded.event, KvSet | KvDeleted)
            units[recorded.metadata.unit_id].append(recorded.event)
    return list(units.values())


def _replay(units: list[list[KvSet | KvDeleted]]) -> dict[str, int]:
    model = dict.fromkeys(KEYS, 100)
    assert len(units) == 120
    for first, *rest in units:
        assert isinstance(first, KvSet)
        expected = _step(model, *msgspec.json.decode(first.value))
        assert [_told(event) for event in rest] == expected, first
    return model


def _told(event: KvSet | KvDeleted) -> tuple[str, Any]:
    name = "total" if event.collection == "totals" else event.key
    return name, msgspec.json.decode(event.value) if isinstance(event, KvSet) else None


def _step(model: dict[str, int], kind: str, one: str, two: str, n: int) -> list[tuple[str, Any]]:
    """What one operation does, as `(key, value after it)`; None: deleted."""
    before = dict(model)
    if kind == "transfer" and one != two and model.get(one, 0) >= n:
        model[one], model[two] = model.get(one, 0) - n, model.get(two, 0) + n
        return [(one, model[one]), (two, model[two])]
    if kind == "empty" and one in model and one != two:
        moved = model.pop(one)
        model[two] = model.get(two, 0) + moved
        return [(one, None), (two, model[two])]
    if kind == "increment":
        model[one] = model.get(one, 0) + n
        return [(one, model[one])]
    return [("total", sum(before.values()))] if kind == "total" else []
