"""Seats go to apps in turn."""

from __future__ import annotations

from uuid import UUID, uuid4

import anyio
import anyio.lowlevel
import pytest

from runtime.shares import Shares

pytestmark = pytest.mark.anyio


async def test_who_has_fewest_is_next() -> None:
    shares = Shares(2)
    busy, quiet = uuid4(), uuid4()
    order: list[UUID] = []

    async def run(app: UUID) -> None:
        async with shares.seat(app):
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
    async with shares.seat(app):
        with anyio.move_on_after(0.01) as waited:
            async with shares.seat(app):
                pytest.fail("there was no seat")
        assert waited.cancelled_caught
    for _ in range(3):
        with anyio.fail_after(1):
            async with shares.seat(app):
                assert shares.waiting == 0
