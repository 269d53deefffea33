"""Seats go to apps in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID, uuid4

import anyio
import anyio.lowlevel
import pytest

from runtime.shares import Shares

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def _seat(shares: Shares, app_id: UUID, *, queued: bool) -> AsyncIterator[None]:
    await shares.take(app_id, queued=queued)
    try:
        yield
    finally:
        shares.leave(app_id, queued=queued)


async def test_who_has_fewest_is_next() -> None:
    shares = Shares(2)
    busy, quiet = uuid4(), uuid4()
    order: list[UUID] = []

    async def run(app: UUID) -> None:
        async with _seat(shares, app, queued=False):
            order.append(app)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(run, busy)
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(run, quiet)
    assert len(order) == 11
    assert order.index(quiet) <= 4
    assert shares.waiting == 0


async def test_a_waiter_who_is_cancelled_takes_no_seat_with_it() -> None:
    shares = Shares(1)
    app = uuid4()
    async with _seat(shares, app, queued=False):
        with anyio.move_on_after(0.01) as waited:
            async with _seat(shares, app, queued=False):
                pytest.fail("there was no seat")
        assert waited.cancelled_caught
    for _ in range(3):
        with anyio.fail_after(1):
            async with _seat(shares, app, queued=False):
                assert shares.waiting == 0


@pytest.mark.parametrize(
    ("seats", "per_app", "queued", "queued_per_app"), [(1, 1, 1, 1), (2, 1, 1, 1), (3, 2, 2, 1), (4, 3, 3, 2), (8, 6, 6, 4), (32, 24, 24, 18)]
)
async def test_room_is_left(seats: int, per_app: int, queued: int, queued_per_app: int) -> None:
    assert await _had(Shares(seats), [(uuid4(), False)] * 40) == per_app
    assert await _had(Shares(seats), [(uuid4(), True) for _ in range(40)]) == queued
    assert await _had(Shares(seats), [(uuid4(), True)] * 40) == queued_per_app
    assert await _had(Shares(seats), [(uuid4(), number % 2 == 0) for number in range(40)]) == seats


async def _had(shares: Shares, wanted: list[tuple[UUID, bool]]) -> int:
    """How many of these have a seat when each has asked, in this order."""
    seated = 0

    async def ask(line: tuple[UUID, bool]) -> None:
        nonlocal seated
        app, queued = line
        async with _seat(shares, app, queued=queued):
            seated += 1
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        for line in wanted:
            tasks.start_soon(ask, line)
        await anyio.wait_all_tasks_blocked()
        had = seated
        assert shares.waiting == len(wanted) - had
        tasks.cancel_scope.cancel()
    assert shares.waiting == 0
    return had


async def test_one_seat_can_let_in_two() -> None:
    """Nine seats, eight taken, six by one app and six by queued runs, so that neither may have the ninth; then a queued run of that app ends."""
    shares = Shares(9)
    app, second, third = uuid4(), uuid4(), uuid4()
    entered: list[UUID] = []
    async with anyio.create_task_group() as tasks, AsyncExitStack() as held:
        leaving = await held.enter_async_context(AsyncExitStack())
        await leaving.enter_async_context(_seat(shares, app, queued=True))
        for who, queued in [(app, True)] * 3 + [(app, False)] * 2 + [(second, True)] * 2:
            await held.enter_async_context(_seat(shares, who, queued=queued))

        async def ask(line: tuple[UUID, bool]) -> None:
            who, queued = line
            async with _seat(shares, who, queued=queued):
                entered.append(who)
                await anyio.sleep_forever()

        tasks.start_soon(ask, (app, False))
        tasks.start_soon(ask, (third, True))
        await anyio.wait_all_tasks_blocked()
        assert (shares.waiting, entered) == (2, [])
        await leaving.aclose()
        await anyio.wait_all_tasks_blocked()
        assert sorted(entered) == sorted([app, third])
        tasks.cancel_scope.cancel()
