"""The users of the instance: made, changed and removed by whoever may, as `domain.user_decisions` says and the log confirms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from domain.access import PasswordChanged
from domain.errors import AlreadyExists, Conflict, Invalid, NotFound, Unauthenticated
from domain.events import Recorded
from domain.ids import NIL_APP
from domain.ports import Reader
from domain.units import Change
from domain.user_decisions import (
    MISSING,
    Decided,
    Standing,
    UserPatch,
    check_reach,
    decide_change,
    decide_creation,
    decide_deletion,
    is_name_of_user,
    require_manager,
)
from domain.users import USER_NAME, InstanceRole, UserState, check_email, check_password, check_username, user_stream
from projections.control.user_reads import StoredUser, page_users, read_user
from runtime.access.credentials import Credentials
from runtime.access.log import told
from runtime.admin.standing import read_standing
from runtime.admin.streams import is_name_taken
from runtime.admin.writing import Acting, AdminWriter, retried


class Manager(msgspec.Struct, frozen=True, kw_only=True):
    """By whose rights a change is made: a user's, and in which epoch he acts, if in a session. Without a manager it is the system's, to whom all is allowed."""

    user_id: UUID
    session_epoch: int | None = None


class NewUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user to be. Its repr does not show the password."""

    username: str
    password: str
    email: str | None = None
    instance_role: InstanceRole = "admin"
    active: bool = True

    def __repr__(self) -> str:
        return f"NewUser(username={self.username!r})"


class UserChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a user changes (a merge patch). Its repr does not show the password."""

    username: str | msgspec.UnsetType = msgspec.UNSET
    password: str | msgspec.UnsetType = msgspec.UNSET
    email: str | msgspec.UnsetType | None = msgspec.UNSET
    instance_role: InstanceRole | msgspec.UnsetType = msgspec.UNSET
    active: bool | msgspec.UnsetType = msgspec.UNSET

    def __repr__(self) -> str:
        return f"UserChange(username={self.username!r})"


class Users:
    """All users."""

    def __init__(self, reader: Reader, writer: AdminWriter, credentials: Credentials) -> None:
        self._reader = reader
        self._writer = writer
        self._credentials = credentials

    async def page(self, after: UUID | None, limit: int) -> list[StoredUser]:
        """Users in the order of their creation."""
        return await page_users(self._reader, after, limit)

    async def get(self, user_id: UUID) -> StoredUser:
        """One user. Raises NotFound."""
        found = await read_user(self._reader, user_id)
        if found is None:
            raise NotFound(MISSING)
        return found

    async def reach(self, manager: Manager, user_id: UUID) -> UserState:
        """A user, if the manager may see into his affairs. Raises NotFound, Unauthenticated, Forbidden."""
        standing = await self._standing(manager, user_id)
        assert standing.actor is not None
        require_manager(standing.actor.state)
        if standing.target is None:
            raise NotFound(MISSING)
        check_reach(standing.actor.state, standing.target.state)
        return standing.target.state

    async def create(self, new: NewUser, manager: Manager | None, acting: Acting) -> StoredUser:
        """Make a user. Raises Invalid, Conflict `username_taken`, Unauthenticated, Forbidden.

        What can be refused at once is refused before the password is hashed, because that takes long.
        """
        user = _checked(new)
        decide_creation(await self._standing(manager, None), user)
        if await is_name_taken(self._reader, NIL_APP, USER_NAME, user.username):
            raise _taken(user.username)
        user = msgspec.structs.replace(user, credential_id=await self._credentials.store(user.id, new.password))

        async def attempt() -> StoredUser:
            decided = decide_creation(await self._standing(manager, None), user)
            events = await self._append(decided, acting)
            return StoredUser(user, _version(events, user.id), events[0].recorded_at)

        return await retried(attempt)

    async def change(self, user_id: UUID, change: UserChange, manager: Manager | None, acting: Acting) -> StoredUser:
        """Change a user. Raises NotFound, Invalid, Conflict `username_taken` or `last_owner`, Unauthenticated, Forbidden."""
        patch, password = _checked_change(change), change.password
        created_at = (await self.get(user_id)).created_at
        decide_change(await self._standing(manager, user_id), patch)
        if isinstance(password, str):
            if manager is not None and manager.user_id == user_id:
                raise Invalid("password: your own is changed together with the current one, by POST auth/password", code="own_password", field="password")
            patch = msgspec.structs.replace(patch, credential_id=await self._credentials.store(user_id, password))

        async def attempt() -> StoredUser:
            standing = await self._standing(manager, user_id)
            decided = decide_change(standing, patch)
            assert standing.target is not None
            assert decided.after is not None
            if not decided.changes:
                return StoredUser(standing.target.state, standing.target.version, created_at)
            has_password = decided.after.credential_id != standing.target.state.credential_id
            events = await self._append(decided, acting, *([told(user_id, PasswordChanged(user_id=user_id))] if has_password else []))
            if has_password:
                await self._credentials.forget(user_id, standing.target.state.credential_id)
            return StoredUser(decided.after, _version(events, user_id), created_at)

        return await retried(attempt)

    async def delete(self, user_id: UUID, manager: Manager | None, acting: Acting) -> None:
        """Remove a user, his sessions and his password. Raises NotFound, Conflict `last_owner`, Unauthenticated, Forbidden."""

        async def attempt() -> None:
            await self._append(decide_deletion(await self._standing(manager, user_id)), acting)

        await retried(attempt)
        await self._credentials.forget(user_id, None)

    async def _standing(self, manager: Manager | None, target_id: UUID | None) -> Standing:
        """What a change is decided on. Raises Unauthenticated when the manager is gone, or his session has ended."""
        standing = await read_standing(self._reader, None if manager is None else manager.user_id, target_id)
        if standing is None:
            raise Unauthenticated
        if manager is not None and standing.actor is not None and manager.session_epoch not in {None, standing.actor.state.session_epoch}:
            raise Unauthenticated
        return standing

    async def _append(self, decided: Decided, acting: Acting, *more: Change) -> tuple[Recorded, ...]:
        try:
            decider = acting.but(*(read.stream for read in decided.reads))
            return await self._writer.append(NIL_APP, decider, (*decided.changes, *more), reads=decided.reads)
        except AlreadyExists as error:
            if decided.after is not None and is_name_of_user(error.extra.get("stream", "")):
                raise _taken(decided.after.username) from error
            raise


def _taken(username: str) -> Conflict:
    return Conflict(f"username: {username} belongs to another user", code="username_taken", field="username")


def _version(events: Sequence[Recorded], user_id: UUID) -> int:
    return next(recorded.version for recorded in events if recorded.stream == user_stream(user_id))


def _checked(new: NewUser) -> UserState:
    """Raises Invalid. The credential is yet to come."""
    user_id: UUID = uuid7()
    check_username(new.username)
    check_password(new.password)
    return UserState(
        id=user_id,
        username=new.username,
        email=None if new.email is None else check_email(new.email),
        instance_role=new.instance_role,
        active=new.active,
        credential_id=user_id,
        session_epoch=0,
    )


def _checked_change(change: UserChange) -> UserPatch:
    """Raises Invalid. The credential is yet to come."""
    if isinstance(change.username, str):
        check_username(change.username)
    if isinstance(change.password, str):
        check_password(change.password)
    if isinstance(change.email, str):
        check_email(change.email)
    given: dict[str, Any] = {name: getattr(change, name) for name in ("username", "email", "instance_role", "active")}
    return UserPatch(**given)
