"""A platform and an app for each test that asks. Apps share nothing, so the tests of a module share a platform."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from runtime.platform import Platform
from tests.postgres import cloned
from tests.runtime.world import App, new_app, running


@pytest.fixture(scope="module")
async def platform(server_dsn: str, template: str) -> AsyncIterator[Platform]:
    """A platform with all roles on a database of the module's own."""
    async with cloned(server_dsn, template) as dsn, running(dsn) as opened:
        yield opened


@pytest.fixture
async def app(platform: Platform) -> App:
    """An app without anything."""
    return await new_app(platform)
