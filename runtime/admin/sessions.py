"""Sessions for people: listed, ended, and what becomes of them when their user gives himself another password."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from adapters.postgres.sessions import StoredSession, StoredSessions
from domain.access import PasswordChanged
from domain.errors import Invalid, NotFound, Unauthenticated
from domain.ids import NIL_APP
from domain.ports import Reader
from domain.user_decisions import Held, decide_own_password
from domain.users import check_password, user_stream
from projections.control.user_reads import read_user
from runtime.access.credentials import Credentials
from runtime.access.log import AccessLog, told
from runtime.admin.writing import Acting, AdminWriter, retried

if TYPE_CHECKING:
    from runtime.access.identity import Identity


class Sessions:
    """The sessions of all users."""

    def __init__(self, reader: Reader, writer: AdminWriter, credentials: Credentials, access: AccessLog) -> None:
        self._reader = reader
        self._writer = writer
        self._credentials = credentials
        self._access = access
        self._stored = StoredSessions(reader)

    async def page(self, user_id: UUID, after: UUID | None, limit: int) -> list[StoredSession]:
        """A user's sessions, newest first."""
        return await self._stored.page(user_id, after, limit)

    async def revoke(self, user_id: UUID, session_id: UUID, acting: Acting) -> None:
        """End one session of a user. Raises NotFound."""
        if not await self._stored.revoke(user_id, session_id):
            raise NotFound("there is no such session")
        await self._access.sessions_revoked(user_id, [session_id], acting.actor, acting.request_id)

    async def revoke_others(self, user_id: UUID, but: UUID | None, acting: Acting) -> None:
        """End all sessions of a user, or all but one. Idempotent."""
        revoked = await self._stored.revoke_others(user_id, but)
        if revoked:
            await self._access.sessions_revoked(user_id, revoked, acting.actor, acting.request_id)

    async def change_password(self, identity: Identity, current: str, new: str, address: str, acting: Acting) -> None:
        """Give a user another password; of his sessions only this one goes on.

        Raises Invalid, naming `current_password` when it is wrong; Unauthenticated when the session has ended meanwhile; what `Credentials.prove` raises.
        """
        check_password(new, "new_password")
        user_id, session_id, epoch = identity.user.id, identity.session_id, identity.session_epoch
        if session_id is None or epoch is None:
            raise Unauthenticated
        try:
            login = await self._credentials.prove(identity.user.username, current, address, user_id=user_id)
        except Unauthenticated:
            raise Invalid("current_password: it is not this", code="wrong_password", field="current_password") from None
        credential_id = await self._credentials.store(user_id, new)

        async def attempt() -> None:
            found = await read_user(self._reader, user_id)
            if found is None or found.state.credential_id != login.credential_id or found.state.session_epoch != epoch:
                raise Unauthenticated
            decided = decide_own_password(Held(found.state, found.version), credential_id)
            changed = told(user_id, PasswordChanged(user_id=user_id, kept_session_id=session_id))
            await self._writer.append(NIL_APP, acting.but(user_stream(user_id)), (*decided.changes, changed))

        await retried(attempt)
        await self._stored.keep(session_id, epoch, epoch + 1)
        await self._credentials.forget(user_id, login.credential_id)
