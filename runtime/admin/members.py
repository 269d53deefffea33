"""Members of apps: given a role, given another, removed.

Each change is decided on the streams of the membership, the user and the app at one moment, and appended only if they still stand there, as does what gave
its author the right to make it (`Acting.reads`): of changes that exclude each other one happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from adapters.postgres.log import PgLog
from domain.apps import app_stream
from domain.authz import AppRole
from domain.clock import Clock
from domain.errors import Conflict, NotFound
from domain.events import Recorded
from domain.ids import NIL_APP
from domain.members import MemberAdded, MemberRemoved, MemberRoleChanged, check_candidate, member_stream, role_of
from domain.ports import Reader
from domain.registry import RULES
from domain.units import ABSENT, Change, Read, Record, Stream
from domain.users import user_stream
from projections.control.member_reads import Member, page_members, read_member
from runtime.admin.streams import read_states
from runtime.admin.writing import Acting, AdminWriter, retried

MemberEvent = MemberAdded | MemberRoleChanged | MemberRemoved

_MISSING: Final = "this user is no member of the app"


class Members:
    """The members of all apps."""

    def __init__(self, reader: Reader, log: PgLog, writer: AdminWriter, clock: Clock) -> None:
        self._reader = reader
        self._log = log
        self._writer = writer
        self._clock = clock

    async def page(self, app_id: UUID, after: UUID | None, limit: int) -> list[Member]:
        """An app's members by user id."""
        return await page_members(self._reader, app_id, after, limit)

    async def add(self, app_id: UUID, user_id: UUID, role: AppRole, acting: Acting) -> Member:
        """Give a user a role. Raises Invalid (`unknown_user`, `inactive_user`, `implicit_authority`), Conflict `already_member`, NotFound for a deleted app."""

        async def attempt() -> Member:
            member, user, app = await self._states(app_id, user_id)
            candidate = check_candidate(user.last)
            if role_of(member.last) is not None:
                raise Conflict("user_id: this user is a member already", code="already_member", field="user_id")
            added = MemberAdded(app_id=app_id, user_id=user_id, role=role)
            recorded = await self._append(added, ABSENT, [_read(user_stream(user_id), user), _read(app_stream(app_id), app)], acting)
            return Member(user_id=user_id, username=candidate.username, email=candidate.email, active=True, role=role, created_at=recorded.recorded_at)

        return await retried(attempt)

    async def change(self, app_id: UUID, user_id: UUID, role: AppRole, acting: Acting) -> Member:
        """Give a member another role. Raises NotFound, and Invalid as `add` does."""

        async def attempt() -> Member:
            member, user, app = await self._states(app_id, user_id)
            before = role_of(member.last)
            shown = await read_member(self._reader, app_id, user_id)
            if before is None or shown is None:
                raise NotFound(_MISSING, code="member_not_found")
            check_candidate(user.last)
            if before != role:
                changed = MemberRoleChanged(app_id=app_id, user_id=user_id, role=role, replaces=before)
                await self._append(changed, member.version, [_read(user_stream(user_id), user), _read(app_stream(app_id), app)], acting)
            return msgspec.structs.replace(shown, role=role)

        return await retried(attempt)

    async def remove(self, app_id: UUID, user_id: UUID, acting: Acting) -> None:
        """Take a member's role away; nothing happens to whoever has none."""

        async def attempt() -> None:
            member, user, app = await self._states(app_id, user_id)
            role = role_of(member.last)
            if role is not None and not RULES.is_absent(user, self._clock()):
                removed = MemberRemoved(app_id=app_id, user_id=user_id, role=role)
                await self._append(removed, member.version, [_read(app_stream(app_id), app)], acting)

        await retried(attempt)

    async def _states(self, app_id: UUID, user_id: UUID) -> tuple[Stream, Stream, Stream]:
        """The streams of a membership, its user and its app. Raises NotFound when the app is gone."""
        streams = (member_stream(app_id, user_id), user_stream(user_id), app_stream(app_id))
        member, user, app = await read_states(self._reader, self._log, NIL_APP, *streams)
        if RULES.is_absent(app, self._clock()):
            raise NotFound("there is no such app", code="app_not_found")
        return member, user, app

    async def _append(self, event: MemberEvent, expect: int, reads: Sequence[Read], acting: Acting) -> Recorded:
        record = Record(name=member_stream(event.app_id, event.user_id), event=event)
        return (await self._writer.append(NIL_APP, acting, [Change(record, expect)], reads=reads))[0]


def _read(name: str, stream: Stream) -> Read:
    return Read(name, stream.version)
