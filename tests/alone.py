"""Tests in several processes at once (`pytest -n`), but for those marked `alone`: they measure time, and nothing else runs meanwhile.

They come last, so that they rarely wait for a long one. Outside of them, tests share what no test may hold for itself: cores and disk.
"""

from __future__ import annotations

import fcntl
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_FLOOR: Final = Path(__file__)
"""Held by every running test: shared, or by one that is alone. Any file will do that all processes of a checkout have; the lock ends with its holder."""
_GATE: Final = Path(__file__).with_name("conftest.py")
"""Held while waiting for the floor: who wants it alone is not overtaken by all who would share it."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: measures time, so no other test runs at the same time")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_is_alone)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with _floor(fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH):
        return (yield)


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@contextmanager
def _floor(how: int) -> Iterator[None]:
    with _FLOOR.open() as floor:
        with _GATE.open() as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(floor, how)
        yield
