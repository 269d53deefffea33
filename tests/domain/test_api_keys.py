from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.api_keys import (
    AGGREGATE,
    SCOPES,
    ApiKeyCreated,
    ApiKeyRevoked,
    check_key_name,
    check_scopes,
    is_token,
    prefix_of,
    refuse_wider,
)
from domain.authz import Grounds, Principal, Scope
from domain.errors import Invalid
from domain.principals import authority, key_principal, user_principal
from domain.units import Read
from tests.domain.given import NOW

APP, OTHER, ADA, KEY = (UUID(int=number) for number in range(1, 5))
TOKEN = "pic_" + "a-_Z0" * 8 + "abc"
CREATED = ApiKeyCreated(key_id=KEY, user_id=ADA, name="k", prefix="pic_", scopes=("script:read", "log:read"), app_id=APP, expires_at=NOW)
USER_ROW: dict[str, Any] = {"user_id": ADA, "username": "ada", "instance_role": "member", "user_version": 3, "memberships": f'{{"{APP}": ["editor", 2]}}'}
KEY_ROW: dict[str, Any] = {**USER_ROW, "key_id": KEY, "key_name": "k", "key_version": 1, "scopes": ["script:read"], "app_id": APP}


def maker(*scopes: Scope, bound: UUID | None = None) -> Principal:
    return Principal(kind="key", id=KEY, scopes=frozenset(scopes), bound_app=bound)


def test_tokens_by_their_form() -> None:
    assert is_token(TOKEN)
    for wrong in ("", "pic_", TOKEN[4:], TOKEN[:-1], TOKEN + "a", TOKEN + "\n", TOKEN.replace("-", "+"), "PIC_" + TOKEN[4:], TOKEN.replace("a", "ä", 1)):
        assert not is_token(wrong), wrong
    assert (prefix_of(TOKEN), len(prefix_of(TOKEN))) == (TOKEN[:12], 12)


def test_scopes_are_kept_once_and_in_order() -> None:
    assert check_scopes(["log:read", "script:read", "log:read"], None) == ("script:read", "log:read")
    assert check_scopes(SCOPES, None) == SCOPES
    wrong: list[tuple[list[Scope], UUID | None]] = [([], None), ([], APP), (["instance:admin"], APP)]
    for scopes, app in wrong:
        with pytest.raises(Invalid) as refused:
            check_scopes(scopes, app)
        assert refused.value.field == "scopes"


@pytest.mark.parametrize("name", ["", "  ", "a" * 101, "a\x00", "\ud800"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(Invalid):
        check_key_name(name)
    assert check_key_name(f" {'a' * 100} ") == "a" * 100


def test_a_key_lives_until_it_is_revoked() -> None:
    assert AGGREGATE.exists(CREATED, NOW)
    assert not AGGREGATE.exists(ApiKeyRevoked(key_id=KEY, user_id=ADA), NOW)


@pytest.mark.parametrize(
    ("by", "until", "field"),
    [
        (Principal(kind="user", id=ADA), None, None),
        (maker("script:read", "log:read"), None, None),
        (maker("script:read", "log:read", "instance:admin", bound=APP), NOW, None),
        (maker("script:read", "instance:admin"), None, "scopes"),
        (maker("script:read", "log:read", bound=OTHER), None, "app_id"),
        (maker("script:read", "log:read"), datetime(2025, 1, 1, tzinfo=UTC), "expires_at"),
    ],
)
def test_a_key_makes_none_that_is_wider(by: Principal, until: datetime | None, field: str | None) -> None:
    if field is None:
        refuse_wider(by, until, CREATED)
        return
    with pytest.raises(Invalid) as refused:
        refuse_wider(by, until, CREATED)
    assert (refused.value.code, refused.value.field) == ("cannot_escalate", field)


def test_a_key_without_end_outlives_one_that_ends() -> None:
    with pytest.raises(Invalid):
        refuse_wider(maker("script:read", "log:read"), NOW, msgspec.structs.replace(CREATED, expires_at=None))
    refuse_wider(maker("script:read", "log:read"), None, msgspec.structs.replace(CREATED, expires_at=None))


def test_principals_from_rows() -> None:
    user, key = user_principal(USER_ROW), key_principal(KEY_ROW)
    assert (user.actor, user.name, user.app_roles, user.scopes) == (f"user:{ADA}", "ada", {APP: "editor"}, None)
    assert (key.actor, key.name, key.app_roles, key.scopes, key.bound_app) == (f"key:{KEY}", "k", {APP: "editor"}, frozenset({"script:read"}), APP)
    assert user_principal({**USER_ROW, "memberships": None}).app_roles == {}


def test_what_rights_rest_on() -> None:
    user, member, key = Read(f"user:{ADA}", 3), Read(f"member:{APP}:{ADA}", 2), Read(f"api_key:{KEY}", 1)
    assert authority(user_principal(USER_ROW)) == (user,)
    assert authority(user_principal(USER_ROW), APP, OTHER) == (user, member)
    assert authority(key_principal(KEY_ROW), APP) == (user, key, member)
    assert authority(Principal(kind="system"), APP) == ()
    assert Grounds(user_id=ADA, user=1).key == 0
