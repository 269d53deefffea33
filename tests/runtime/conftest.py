"""A platform and an app for each test that asks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from runtime.platform import Platform
from tests.runtime.world import App, new_app, running


@pytest.fixture
async def platform(dsn: str) -> AsyncIterator[Platform]:
    """A platform with all roles on a database of the test's own."""
    async with running(dsn) as opened:
        yield opened


@pytest.fixture
async def app(platform: Platform) -> App:
    """An app without anything."""
    return await new_app(platform)
