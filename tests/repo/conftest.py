"""One instance for all examples and documents that need no fresh one; each test has an app of its own in it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import httpx
import pytest

from tests.repo.instance import API, AppClient
from tests.served import serve, workplace

PASSWORD = "correct horse battery"
_numbers = count(1)


@pytest.fixture(scope="session")
def admin() -> Iterator[httpx.Client]:
    """The owner of a running instance."""
    with (
        workplace() as directory,
        serve(directory, PICLOUD_ADMIN_PASSWORD=PASSWORD, PICLOUD_HTTP_ALLOW_PRIVATE="true") as served,
        httpx.Client(base_url=served.url, timeout=30) as client,
    ):
        answer = client.post(f"{API}/auth/login", json={"username": "admin", "password": PASSWORD})
        client.cookies.clear()
        client.headers["authorization"] = f"Bearer {answer.json()['token']}"
        yield client


@pytest.fixture
def app(admin: httpx.Client) -> Iterator[AppClient]:
    """A new app, and somebody who calls its routes without credentials."""
    slug = f"app-{next(_numbers)}"
    admin.post(f"{API}/apps", json={"name": slug, "slug": slug}).raise_for_status()
    with httpx.Client(base_url=admin.base_url, headers={"host": f"{slug}.localhost"}, timeout=30) as caller:
        yield AppClient(admin, caller, slug)
