"""More people than the owner: made, changed and deleted by appending events, each with a session of their own."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from uuid_utils.compat import uuid7

from adapters.postgres.vault import User
from domain.authz import Scope
from domain.events import Event, Metadata
from domain.ids import NIL_APP
from domain.units import Change, Record, Unit
from domain.users import InstanceRole, UserChanged, UserCreated, UserDeleted, user_stream
from runtime.platform import Platform

ALL_SCOPES: tuple[Scope, ...] = get_args(Scope)


async def make_user(core: Platform, name: str, role: InstanceRole = "member") -> User:
    """A new active user."""
    user = User(id=uuid7(), username=name, email=None, instance_role=role)
    await put(core, user_stream(user.id), UserCreated(user_id=user.id, username=name, instance_role=role))
    return user


async def change_user(core: Platform, user: User, *, active: bool = True, role: InstanceRole | None = None) -> User:
    """Activate or deactivate a user, or give him another role."""
    changed = msgspec.structs.replace(user, instance_role=role or user.instance_role)
    event = UserChanged(user_id=user.id, username=user.username, email=user.email, instance_role=changed.instance_role, active=active)
    await put(core, user_stream(user.id), event)
    return changed


async def delete_user(core: Platform, user: User) -> None:
    """Remove a user."""
    await put(core, user_stream(user.id), UserDeleted(user_id=user.id, username=user.username))


async def session_of(core: Platform, user: User) -> str:
    """The token of a new session of a user."""
    return (await core.accounts._begin(user, "127.0.0.1", "test")).token


async def put(core: Platform, stream: str, event: Event) -> None:
    """Append an event to the instance's log."""
    changes = (Change(Record(name=stream, event=event)),)
    await core.appender.append(Unit(app_id=NIL_APP, metadata=Metadata(unit_id=uuid7()), now=core.clock(), changes=changes))


def shown(member: dict[str, Any]) -> tuple[str, str]:
    """What tells members apart."""
    return member["user_id"], member["role"]
