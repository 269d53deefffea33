from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from domain.errors import Invalid
from domain.events import Event
from domain.members import AGGREGATE, MemberAdded, MemberRemoved, MemberRoleChanged, check_candidate, member_stream, role_of
from domain.users import UserChanged, UserCreated, UserDeleted
from tests.domain.given import NOW

APP, ADA = UUID(int=1), UUID(int=2)
WHO: dict[str, Any] = {"app_id": APP, "user_id": ADA}
USER: dict[str, Any] = {"user_id": ADA, "username": "ada", "instance_role": "member"}


@pytest.mark.parametrize(
    ("last", "role"),
    [
        (None, None),
        (MemberAdded(**WHO, role="viewer"), "viewer"),
        (MemberRoleChanged(**WHO, role="editor", replaces="viewer"), "editor"),
        (MemberRemoved(**WHO, role="editor"), None),
    ],
)
def test_the_last_event_says_which_role(last: Event | None, role: str | None) -> None:
    assert role_of(last) == role
    assert last is None or AGGREGATE.exists(last, NOW) is (role is not None)


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (None, "unknown_user"),
        (UserDeleted(user_id=ADA, username="ada"), "unknown_user"),
        (UserChanged(**{**USER, "active": False, "email": None}), "inactive_user"),
        (UserCreated(**{**USER, "instance_role": "admin"}), "implicit_authority"),
        (UserChanged(**{**USER, "instance_role": "owner", "active": True, "email": None}), "implicit_authority"),
    ],
)
def test_who_cannot_be_a_member(last: Event | None, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_candidate(last)
    assert (refused.value.code, refused.value.field) == (code, "user_id")


def test_who_can() -> None:
    created = UserCreated(**USER)
    assert check_candidate(created) is created


def test_a_membership_is_a_stream_of_its_app_and_user() -> None:
    assert member_stream(APP, ADA) == f"member:{APP}:{ADA}"
