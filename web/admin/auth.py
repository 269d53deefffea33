"""`/auth`: login, logout, and who one is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.params import JSONBody

from adapters.postgres.vault import User
from domain.users import MAX_PASSWORD_CHARS
from web.admin.call import Call
from web.admin.needs import CREDENTIAL, NO_CREDENTIAL
from web.core import Core
from web.documented import documented
from web.requests import address_of, request_id_of
from web.security import credential_of, header, is_apps_host, refuse_foreign_page, set_cookie

_MAX_LOGIN_BYTES: Final = 16 * 1024
_MAX_USERNAME_CHARS: Final = 64


class LoginRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who wants in. Its repr does not show the password."""

    username: Annotated[str, msgspec.Meta(min_length=1, max_length=_MAX_USERNAME_CHARS)]
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PASSWORD_CHARS)]

    def __repr__(self) -> str:
        return f"LoginRequest(username={self.username!r})"


class LoginAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A session; the same token is set as a cookie."""

    token: str
    expires_at: datetime
    user: User


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Whose session or API key this is, and until when: a session if it is not used, a key at all; None for a key without end."""

    user: User
    expires_at: datetime | None


@post("/auth/login", status_code=200, request_max_body_size=_MAX_LOGIN_BYTES, opt=NO_CREDENTIAL | documented(problems=[401]))
async def log_in(request: Request[Any, Any, Any], data: JSONBody[LoginRequest]) -> Response[LoginAnswer]:
    """Begin a session by name and password. 401 for wrong ones; 429 after five failures of one name and address within a minute.

    The token is set as a cookie, too, unless an app answers for this host. 403 from another site's page, which would have its visitor act in a session that is
    not theirs.
    """
    core: Core = request.app.state.core
    refuse_foreign_page(request.scope, core.settings)
    user_agent = header(request.scope, b"user-agent") or ""
    request_id = request_id_of(request.scope)
    session = await core.accounts.log_in(data.username, data.password, address=address_of(request.scope), user_agent=user_agent, request_id=request_id)
    answer = LoginAnswer(token=session.token, expires_at=session.expires_at, user=session.user)
    shared = await is_apps_host(core.directory, request.scope)
    return Response(answer, headers={} if shared else {"set-cookie": set_cookie(core.settings, session.token)})


@post("/auth/logout", status_code=204, opt=CREDENTIAL)
async def log_out(call: Call, request: Request[Any, Any, Any]) -> Response[None]:
    """End the session that this request was made in."""
    call.session()
    credential = credential_of(request.scope)
    assert credential is not None
    await call.core.accounts.log_out(credential.token, call.acting.request_id)
    return Response(None, status_code=204, headers={"set-cookie": set_cookie(call.core.settings, "")})


@get("/auth/me", opt=CREDENTIAL)
async def me(call: Call) -> Me:
    """Who the credential belongs to."""
    return Me(user=call.identity.user, expires_at=call.identity.expires_at)


router: Final = Router(path="/", route_handlers=[log_in, log_out, me], tags=["auth"])
