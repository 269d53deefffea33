"""What the tests of users, sessions and access share: people who are quickly logged in, and what the log says of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import httpx
import msgspec

from adapters.postgres.vault import User
from domain.ids import NIL_APP
from runtime.platform import Platform
from tests.http.admin_support import API
from tests.http.conftest import client_of

PASSWORD: Final = "a password of theirs"


async def make_user(client: httpx.AsyncClient, username: str, role: str = "admin", **more: Any) -> str:
    """A new user's id."""
    answer = await client.post(f"{API}/admins", json={"username": username, "password": PASSWORD, "instance_role": role, **more})
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


async def token_of(core: Platform, user_id: str) -> str:
    """A session that begins as a login's does, but for the password, which takes long to verify."""
    user = User(id=UUID(user_id), username="", email=None, instance_role="member")
    return (await core.accounts._begin(user, "127.0.0.1", "test")).token


@asynccontextmanager
async def person(core: Platform, url: str, owner: httpx.AsyncClient, username: str, role: str = "admin") -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """A new user's id, and a client of his."""
    user_id = await make_user(owner, username, role)
    async with client_of(url, await token_of(core, user_id)) as client:
        yield user_id, client


async def change(client: httpx.AsyncClient, user_id: str, **fields: Any) -> httpx.Response:
    """A PATCH of a user."""
    return await client.patch(f"{API}/admins/{user_id}", json=fields)


async def told(core: Platform, topic: str) -> list[dict[str, Any]]:
    """The events of a topic in the instance's log, with their actors; what is only noted so far is written first."""
    await core.access.flush(everything=True)
    events = await core.log.read(NIL_APP, 0)
    return [{**msgspec.to_builtins(event.event), "actor": event.metadata.actor} for event in events if topic == event.event.TOPIC]
