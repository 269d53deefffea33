"""Who may make, change and remove whom: `given(owners and admins).when(somebody does something).then(...)`, without a log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.access import KeyUsed, NoteKeyUse, access_stream
from domain.errors import PiCloudError
from domain.events import Event
from domain.names import GuardMoved, NameClaimed, NameReleased
from domain.registry import EVENTS, RULES
from domain.units import Read, Record, Stream
from domain.user_decisions import Decided, Held, Standing, UserPatch, decide_change, decide_creation, decide_deletion, decide_own_password
from domain.users import InstanceRole, UserChanged, UserCreated, UserDeleted, UserState, check_email, check_username, is_above, state_of, user_stream
from tests.domain.given import NOW
from tests.domain.given import given as given_stream

GUARD_AT = 7
CREDENTIAL = UUID(int=99)


def user(name: str, role: InstanceRole = "admin", *, active: bool = True, epoch: int = 0) -> UserState:
    user_id = UUID(int=sum(name.encode()))
    return UserState(id=user_id, username=name, email=None, instance_role=role, active=active, credential_id=user_id, session_epoch=epoch)


class Outcome:
    """What a decision came to."""

    def __init__(self, decide: Callable[[], Decided]) -> None:
        self._decide = decide

    def then(self, *events: type[Event]) -> Decided:
        decided = self._decide()
        recorded = [change.effect for change in decided.changes]
        assert [type(effect.event) for effect in recorded if isinstance(effect, Record)] == list(events)
        return decided

    def refused(self, code: str, field: str | None = None) -> None:
        with pytest.raises(PiCloudError) as refusal:
            self._decide()
        assert (refusal.value.code, refusal.value.field) == (code, field)


class Given:
    """Some users; each one's stream is at version 3."""

    def __init__(self, *users: UserState) -> None:
        self._users = {found.username: found for found in users}

    def standing(self, actor: str | None, target: str | None) -> Standing:
        owners = [found for found in self._users.values() if found.is_active_owner and found.username != target]
        return Standing(
            actor=None if actor is None else Held(self._users[actor], 3),
            target=Held(self._users[target], 3) if target in self._users else None,
            guard=GUARD_AT,
            other_owners=len(owners),
        )

    def when_made(self, made: UserState, by: str | None) -> Outcome:
        return Outcome(lambda: decide_creation(self.standing(by, None), made))

    def when_changed(self, target: str, by: str | None, **patch: Any) -> Outcome:
        return Outcome(lambda: decide_change(self.standing(by, target), UserPatch(**patch)))

    def when_removed(self, target: str, by: str | None) -> Outcome:
        return Outcome(lambda: decide_deletion(self.standing(by, target)))


def given(*users: UserState) -> Given:
    return Given(*users)


OLGA, OTTO, ADA, ART, MAX = user("olga", "owner"), user("otto", "owner"), user("ada"), user("art"), user("max", "member")
EVERYBODY = given(OLGA, OTTO, ADA, ART, MAX)
ALONE = given(OLGA, ADA, user("idle", "owner", active=False))


def test_a_new_user_claims_his_name_and_rests_on_who_makes_him() -> None:
    decided = EVERYBODY.when_made(user("new"), by="ada").then(NameClaimed, UserCreated)
    assert decided.reads == (Read(user_stream(ADA.id), 3),)
    assert [change.expect for change in decided.changes] == [0, 0]


def test_a_new_owner_moves_the_guard_at_its_version() -> None:
    decided = EVERYBODY.when_made(user("new", "owner"), by="olga").then(NameClaimed, UserCreated, GuardMoved)
    assert decided.changes[-1].expect == GUARD_AT
    EVERYBODY.when_made(user("new", "owner", active=False), by="olga").then(NameClaimed, UserCreated)


def test_the_system_makes_anybody_and_rests_on_nobody() -> None:
    assert given().when_made(user("new", "owner"), by=None).then(NameClaimed, UserCreated, GuardMoved).reads == ()


def test_nobody_grants_a_role_above_his_own() -> None:
    EVERYBODY.when_made(user("new", "owner"), by="ada").refused("cannot_escalate", "instance_role")
    for target in ("max", "art", "ada"):
        EVERYBODY.when_changed(target, by="ada", instance_role="owner").refused("cannot_escalate", "instance_role")


def test_members_and_the_inactive_manage_nobody() -> None:
    EVERYBODY.when_made(user("new", "member"), by="max").refused("forbidden")
    EVERYBODY.when_changed("max", by="max", email="m@x.de").refused("forbidden")
    EVERYBODY.when_removed("max", by="max").refused("forbidden")
    gone = given(OLGA, user("ada", active=False))
    gone.when_made(user("new"), by="ada").refused("unauthenticated")
    gone.when_changed("olga", by="ada", active=False).refused("unauthenticated")


def test_nobody_touches_a_user_above_himself() -> None:
    for patch in ({"credential_id": CREDENTIAL}, {"active": False}, {"instance_role": "admin"}, {"username": "x"}, {}):
        EVERYBODY.when_changed("olga", by="ada", **patch).refused("above_you")
    EVERYBODY.when_removed("olga", by="ada").refused("above_you")


def test_equals_may() -> None:
    EVERYBODY.when_changed("art", by="ada", instance_role="member").then(UserChanged)
    EVERYBODY.when_removed("art", by="ada").then(NameReleased, UserDeleted)
    EVERYBODY.when_changed("otto", by="olga", instance_role="member").then(UserChanged, GuardMoved)


def test_a_change_expects_the_user_as_he_was_read() -> None:
    decided = EVERYBODY.when_changed("max", by="ada", email="m@x.de").then(UserChanged)
    assert [change.expect for change in decided.changes] == [3]
    assert decided.after == msgspec.structs.replace(MAX, email="m@x.de")


def test_a_change_that_changes_nothing_is_none() -> None:
    EVERYBODY.when_changed("max", by="ada").then()
    EVERYBODY.when_changed("max", by="ada", username="max", email=None, active=True, instance_role="member").then()


def test_a_missing_user_is_missing_to_those_who_may_ask() -> None:
    EVERYBODY.when_changed("nobody", by="ada", active=True).refused("not_found")
    EVERYBODY.when_removed("nobody", by="ada").refused("not_found")
    EVERYBODY.when_removed("nobody", by="max").refused("forbidden")


def test_another_name_is_claimed_and_the_old_one_released() -> None:
    decided = EVERYBODY.when_changed("max", by="ada", username="moritz").then(NameClaimed, NameReleased, UserChanged)
    assert decided.changes[0].expect == 0
    EVERYBODY.when_changed("max", by="ada", username="MAX").then(UserChanged)


@pytest.mark.parametrize("patch", [{"active": False}, {"instance_role": "admin"}, {"instance_role": "member"}, {"active": False, "instance_role": "member"}])
def test_the_last_active_owner_stays(patch: dict[str, Any]) -> None:
    for by in ("olga", None):
        ALONE.when_changed("olga", by=by, **patch).refused("last_owner")
        ALONE.when_removed("olga", by=by).refused("last_owner")
    EVERYBODY.when_changed("olga", by="olga", **patch).then(UserChanged, GuardMoved)
    EVERYBODY.when_removed("olga", by="olga").then(NameReleased, UserDeleted, GuardMoved)


def test_every_change_of_the_set_of_active_owners_moves_the_guard_and_no_other_does() -> None:
    ALONE.when_changed("idle", by="olga", active=True).then(UserChanged, GuardMoved)
    ALONE.when_changed("idle", by="olga", instance_role="member").then(UserChanged)
    ALONE.when_removed("idle", by="olga").then(NameReleased, UserDeleted)
    ALONE.when_changed("ada", by="olga", instance_role="owner").then(UserChanged, GuardMoved)
    ALONE.when_changed("ada", by="olga", active=False).then(UserChanged)
    ALONE.when_changed("olga", by="olga", credential_id=CREDENTIAL).then(UserChanged)


def test_deactivation_and_a_password_end_sessions_and_nothing_else_does() -> None:
    def epoch(**patch: Any) -> int:
        after = EVERYBODY.when_changed("max", by="olga", **patch)._decide().after
        assert after is not None
        return after.session_epoch

    assert epoch(active=False) == 1
    assert epoch(credential_id=CREDENTIAL) == 1
    assert epoch(active=False, credential_id=CREDENTIAL) == 1
    assert epoch(username="x", email="a@b.de", instance_role="admin") == 0
    after = given(OLGA, user("max", "member", active=False, epoch=4)).when_changed("max", by="olga", active=True)._decide().after
    assert after is not None
    assert after.session_epoch == 4


def test_anybody_gives_himself_another_password_but_the_inactive() -> None:
    decided = decide_own_password(Held(MAX, 5), CREDENTIAL)
    assert decided.after == msgspec.structs.replace(MAX, credential_id=CREDENTIAL, session_epoch=1)
    assert [change.expect for change in decided.changes] == [5]
    Outcome(lambda: decide_own_password(Held(msgspec.structs.replace(MAX, active=False), 5), CREDENTIAL)).refused("unauthenticated")


def test_the_first_logs_have_users_without_credential_and_epoch() -> None:
    state = f'{{"user_id":"{OLGA.id}","username":"olga","email":null,"instance_role":"owner","active":true}}'.encode()
    event = msgspec.json.decode(state, type=EVENTS["users.UserCreated"])
    assert state_of(event) == OLGA
    assert state_of(UserDeleted(user_id=OLGA.id, username="olga")) is None
    assert state_of(None) is None


def test_a_removed_user_exists_no_more() -> None:
    last = UserDeleted(user_id=MAX.id, username="max")
    assert RULES.is_absent(Stream(2, last), NOW)


def test_roles_are_in_order() -> None:
    roles: list[InstanceRole] = ["member", "admin", "owner"]
    assert [[is_above(role, other) for other in roles] for role in roles] == [[False] * 3, [True, False, False], [True, True, False]]


@pytest.mark.parametrize("bad", ["", " ", "a b", ".a", "a" * 65, "ä", "a\n", "a:b"])
def test_names_that_are_none(bad: str) -> None:
    with pytest.raises(PiCloudError, match="username"):
        check_username(bad)


@pytest.mark.parametrize("bad", ["", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\n", "a\x00@b", f"{'a' * 253}@b", "\ud800@b"])
def test_addresses_that_are_none(bad: str) -> None:
    with pytest.raises(PiCloudError, match="email"):
        check_email(bad)


def test_a_key_use_is_told_once_a_day() -> None:
    def use(day: int) -> NoteKeyUse:
        return NoteKeyUse(key_id=UUID(int=1), user_id=MAX.id, address="10.0.0.1", day=date(2026, 1, day))

    first = KeyUsed(key_id=UUID(int=1), user_id=MAX.id, address="10.0.0.1", day=date(2026, 1, 1))
    given_stream().when(use(1)).then(first)
    given_stream(first).when(use(1)).then()
    given_stream(first).when(use(2)).then(msgspec.structs.replace(first, day=date(2026, 1, 2)))
    given_stream(msgspec.structs.replace(first, day=date(2026, 1, 3))).when(use(2)).then()
    assert use(1).stream == f"access-key:{UUID(int=1)}:10.0.0.1"
    assert (access_stream(MAX.id), access_stream(None)) == (f"access:{MAX.id}", "access:unknown")
