from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain.errors import Forbidden
from runtime.platform import Platform
from runtime.settings import Http, Session, Settings
from tests.http.conftest import OWNER, SETTINGS
from web.security import credential_of, principal_of, refuse_forgery, set_cookie, without_session

pytestmark = pytest.mark.anyio

HOST = "pi.example.com:8443"


def scope(method: str = "GET", **headers: str) -> dict[str, Any]:
    pairs = [(b"host", HOST.encode()), *((name.encode(), value.encode("latin-1")) for name, value in headers.items())]
    return {"type": "http", "method": method, "headers": pairs, "state": {}}


@pytest.fixture
async def token(core: Platform) -> str:
    session = await core.accounts.log_in(OWNER["username"], OWNER["password"], address="::1", user_agent="")
    return session.token


async def test_the_data_plane_knows_a_principal_by_header_or_cookie(core: Platform, token: str) -> None:
    for asked in (scope(authorization=f"Bearer {token}"), scope(cookie=f"a=b; picloud_session={token}; c"), scope("POST", authorization=f"Bearer {token}")):
        principal = await principal_of(core.authentication, SETTINGS, asked)
        assert principal is not None
        assert (principal.kind, principal.name, principal.instance_role) == ("user", "owner", "owner")
        assert principal.actor == f"user:{principal.id}"


async def test_absent_malformed_and_forged_credentials_are_anonymous(core: Platform, token: str) -> None:
    cookie = f"picloud_session={token}"
    for asked in (
        scope(),
        scope(authorization="Basic abc"),
        scope(authorization="Bearer x"),
        scope(cookie="picloud_session="),
        scope(cookie="other=1"),
        scope("POST", cookie=cookie),
        scope("POST", cookie=cookie, origin="https://evil.example"),
        scope(authorization="Bearer x", cookie=cookie),
    ):
        assert await principal_of(core.authentication, SETTINGS, asked) is None


async def test_two_sessions_are_none(core: Platform, token: str) -> None:
    # A page of a neighbouring host may set a cookie for the whole domain, which goes before the browser's own if its path is longer.
    own = f"picloud_session={token}"
    tossed = "picloud_session=" + "x" * 43
    for cookies in (f"{tossed}; {own}", f"{own}; {tossed}"):
        assert await principal_of(core.authentication, SETTINGS, scope(cookie=cookies)) is None
        refused = credential_of(scope(cookie=cookies))
        assert refused is not None
        assert (refused.token, refused.by_cookie) == ("", True)
    assert await principal_of(core.authentication, SETTINGS, scope(cookie=f"{own}; {own}; picloud_session=")) is not None


async def test_a_call_that_changes_state_by_get_needs_its_origin_too(core: Platform, token: str) -> None:
    cookie = f"picloud_session={token}"
    assert await principal_of(core.authentication, SETTINGS, scope(cookie=cookie), changes=True) is None
    assert await principal_of(core.authentication, SETTINGS, scope(cookie=cookie, origin=f"https://{HOST}"), changes=True) is not None


def test_the_origin_is_compared_whole() -> None:
    cookie = {"cookie": "picloud_session=x"}
    behind = msgspec.structs.replace(SETTINGS, http=Http(public_base_url="https://cloud.example/base"))
    refuse_forgery(scope("POST", **cookie, origin=f"http://{HOST}"), SETTINGS)
    refuse_forgery(scope("POST", **cookie, origin="https://cloud.example"), behind)
    refuse_forgery(scope("POST", **cookie, origin="https://CLOUD.example:443"), behind)
    for origin in (
        "https://pi.example.com",
        "https://cloud.example",
        "https://cloud.example:8443",
        f"https://a@{HOST}",
        "https://[",
        "http://pi.example.com:x",
    ):
        with pytest.raises(Forbidden):
            refuse_forgery(scope("POST", **cookie, origin=origin), SETTINGS)
    with pytest.raises(Forbidden):
        refuse_forgery(scope("POST", **cookie, origin="http://cloud.example"), behind)


@pytest.mark.parametrize(
    ("chosen", "public_base_url", "secure"),
    [("auto", None, False), ("auto", "http://x", False), ("auto", "https://x", True), ("always", None, True), ("never", "https://x", False)],
)
def test_the_cookie_is_for_tls_alone_where_there_is_tls(chosen: Any, public_base_url: str | None, secure: bool) -> None:  # noqa: FBT001  # a table's column
    settings = Settings(http=Http(public_base_url=public_base_url), session=Session(cookie_secure=chosen))
    assert set_cookie(settings, "t").endswith("; Secure") is secure


def test_scripts_never_see_the_session() -> None:
    assert without_session("a=b; picloud_session=secret; c=d") == "a=b; c=d"
    assert without_session("picloud_session=secret") == ""
    assert without_session(" picloud_session = secret;a") == "a"


def test_a_credential_does_not_show_itself() -> None:
    assert "hush" not in repr(credential_of(scope(authorization="Bearer hush")))
