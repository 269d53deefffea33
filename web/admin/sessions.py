"""`/auth/sessions` and `/auth/password`: one's own. They are for who has logged in: an API key is nobody's session."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Request, Router, delete, get, post
from litestar.params import JSONBody

from adapters.postgres.sessions import StoredSession
from domain.cursors import decode, encode, parse_limit
from domain.users import MAX_PASSWORD_CHARS
from web.admin.call import AdminCall, Call
from web.admin.needs import CREDENTIAL
from web.admin.parameters import Query, Segment
from web.admin.services import sessions_of
from web.pages import Page, page
from web.paths import id_segment
from web.requests import address_of

_MAX_PASSWORDS_BYTES: Final = 32 * 1024


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session. `seen_at` is to the minute; `current`: the one that asks."""

    id: UUID
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    address: str
    user_agent: str
    current: bool


class ChangePassword(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The password that one has and the one that one wants. Its repr shows neither."""

    current_password: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PASSWORD_CHARS)]
    new_password: str

    def __repr__(self) -> str:
        return "ChangePassword()"


@get("/auth/sessions", operation_id="list_own_sessions", opt=CREDENTIAL)
async def list_own(call: Call, limit: Query = None, cursor: Query = None) -> Page[Session]:
    """One's own sessions, newest first."""
    call.session()
    return await session_page(call, call.identity.user.id, limit, cursor)


@delete("/auth/sessions", operation_id="revoke_other_sessions", opt=CREDENTIAL)
async def revoke_others(call: Call) -> None:
    """End all one's own sessions but this one."""
    await sessions_of(call).revoke_others(call.identity.user.id, call.session(), call.acting)


@delete("/auth/sessions/{session_id:str}", operation_id="revoke_own_session", opt=CREDENTIAL)
async def revoke_own(call: Call, session_id: Segment) -> None:
    """End one of one's own sessions. 404 for a missing one and for somebody else's."""
    call.session()
    await sessions_of(call).revoke(call.identity.user.id, id_segment(session_id, "session"), call.acting)


@post("/auth/password", status_code=204, request_max_body_size=_MAX_PASSWORDS_BYTES, opt=CREDENTIAL)
async def change_password(call: Call, request: Request[Any, Any, Any], data: JSONBody[ChangePassword]) -> None:
    """Change one's own password. This session goes on, all others end. 422 `wrong_password`; 429 as for logins."""
    call.session()
    await sessions_of(call).change_password(call.identity, data.current_password, data.new_password, address_of(request.scope), call.acting)


async def session_page(call: AdminCall, user_id: UUID, limit: str | None, cursor: str | None) -> Page[Session]:
    """A page of a user's sessions."""
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "sessions", (UUID,))
    found = await sessions_of(call).page(user_id, after, size + 1)
    return page([_session(session, call.identity.session_id) for session in found], size, lambda session: encode("sessions", session.id))


def _session(session: StoredSession, current: UUID | None) -> Session:
    return Session(
        id=session.id,
        created_at=session.created_at,
        seen_at=session.seen_at,
        expires_at=session.expires_at,
        address=session.address,
        user_agent=session.user_agent,
        current=session.id == current,
    )


router: Final = Router(path="/", route_handlers=[list_own, revoke_others, revoke_own, change_password], tags=["auth"])
