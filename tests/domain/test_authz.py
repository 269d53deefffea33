"""Authorisation: the whole table, written out a second time by role and by scope, and the three conditions against each other."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any, Literal, get_args
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.authz import PUBLIC, RULES, SYSTEM, AppRole, Capability, InstanceRole, Principal, Scope, app_role, authorize, decide, highest, refuse_escalation
from domain.errors import Forbidden, Invalid, NotFound, Unauthenticated
from tests.access import ADMIN, APP_ADMIN, BY_SCOPE, EDITOR, MEMBER, OWNER, VIEWER, Caller, verdict

APP, OTHER, ME = UUID(int=1), UUID(int=2), UUID(int=3)

ALL_SCOPES: frozenset[Scope] = frozenset(get_args(Scope))


def user(instance_role: InstanceRole | None = "member", role: AppRole | None = None) -> Principal:
    return Principal(kind="user", id=ME, name="ada", instance_role=instance_role, app_roles={APP: role} if role else {})


def key(owner: Principal, *scopes: Scope, bound: UUID | None = None) -> Principal:
    return msgspec.structs.replace(owner, kind="key", scopes=frozenset(scopes), bound_app=bound)


def where(capability: Capability) -> UUID | None:
    return None if RULES[capability].of_instance else APP


def allowed(principal: Principal) -> set[str]:
    return {str(capability) for capability in Capability if decide(principal, capability, where(capability)).allowed}


@pytest.mark.parametrize(
    ("principal", "expected"),
    [
        (user(None), set()),
        (user("member"), MEMBER),
        (user("member", "viewer"), MEMBER | VIEWER),
        (user("member", "editor"), MEMBER | EDITOR),
        (user("member", "app_admin"), MEMBER | APP_ADMIN),
        (user("admin"), ADMIN | APP_ADMIN),
        (user("admin", "viewer"), ADMIN | APP_ADMIN),
        (user("owner"), OWNER | APP_ADMIN),
        (PUBLIC, set()),
        (SYSTEM, OWNER | APP_ADMIN),
    ],
    ids=["nobody", "member", "viewer", "editor", "app admin", "admin", "admin and viewer", "owner", "public", "system"],
)
def test_roles(principal: Principal, expected: set[str]) -> None:
    assert allowed(principal) == expected


def test_the_table_is_complete() -> None:
    assert set(RULES) == set(Capability)
    assert len(ALL_SCOPES) == 7
    assert set().union(*BY_SCOPE.values()) == {str(capability) for capability in Capability}


@pytest.mark.parametrize("instance_role", get_args(InstanceRole))
@pytest.mark.parametrize("role", [None, *get_args(AppRole)])
def test_every_role_with_every_set_of_scopes_bound_here_elsewhere_and_not(instance_role: InstanceRole, role: AppRole | None) -> None:
    """The whole matrix: 29 capabilities, 12 pairs of roles, people and keys with each of the 128 sets of scopes, three bindings."""
    person = user(instance_role, role)
    places: list[tuple[Literal["here", "elsewhere"] | None, UUID | None]] = [(None, None), ("here", APP), ("elsewhere", OTHER)]
    scopes = [None, *(frozenset(some) for size in range(8) for some in combinations(sorted(ALL_SCOPES), size))]
    assert len(scopes) == 1 + 128
    for held, (bound, bound_app) in product(scopes, places):
        if held is None and bound is not None:
            continue
        principal = person if held is None else key(person, *held, bound=bound_app)
        caller = Caller(instance_role=instance_role, app_role=role, scopes=held, bound=bound)
        for capability in Capability:
            decision = decide(principal, capability, where(capability))
            found = "allowed" if decision.allowed else "forbidden" if decision.visible else "missing"
            assert found == verdict(caller, str(capability)), (caller, capability)


@pytest.mark.parametrize("scope", sorted(ALL_SCOPES))
def test_a_scope_allows_its_capabilities_and_no_more(scope: Scope) -> None:
    owner = user("owner")
    assert allowed(key(owner, scope)) == BY_SCOPE[scope]
    assert allowed(key(owner, *(ALL_SCOPES - {scope}))) == allowed(owner) - BY_SCOPE[scope]


def test_a_key_has_no_more_than_its_owner() -> None:
    assert allowed(key(user("member", "viewer"), *ALL_SCOPES)) == MEMBER | VIEWER
    assert allowed(key(user("owner"))) == set()


def test_a_bound_key_works_in_its_app_alone() -> None:
    owner = user("owner")
    assert allowed(key(owner, *ALL_SCOPES, bound=APP)) == APP_ADMIN
    assert allowed(key(owner, *ALL_SCOPES, bound=OTHER)) == set()
    with pytest.raises(NotFound):
        authorize(key(owner, *ALL_SCOPES, bound=OTHER), Capability.KV_READ, APP)
    with pytest.raises(Forbidden, match="bound to one app"):
        authorize(key(owner, *ALL_SCOPES, bound=APP), Capability.USERS_MANAGE, None)


def test_what_may_not_be_seen_is_not_found_and_says_nothing() -> None:
    for principal in (
        user("member"),
        key(user("member", "app_admin"), *ALL_SCOPES, bound=OTHER),
        msgspec.structs.replace(user(), app_roles={OTHER: "app_admin"}),
    ):
        with pytest.raises(NotFound) as refused:
            authorize(principal, Capability.SCRIPTS_READ, APP)
        assert refused.value.detail == NotFound().detail
        assert refused.value.extra == {}


def test_what_may_be_seen_but_not_done_is_forbidden_and_says_why() -> None:
    with pytest.raises(Forbidden, match="the role app_admin is required, you are editor") as refused:
        authorize(user("member", "editor"), Capability.SCRIPTS_DELETE, APP)
    assert refused.value.extra == {"capability": "scripts.delete"}
    with pytest.raises(Forbidden, match="the key lacks the scope script:write"):
        authorize(key(user("member", "editor"), "script:read"), Capability.KV_WRITE, APP)
    with pytest.raises(Forbidden, match="the role owner is required, you are admin"):
        authorize(user("admin"), Capability.INSTANCE_SETTINGS, None)
    with pytest.raises(Forbidden, match="you are none"):
        authorize(user(None), Capability.KEYS_MANAGE, None)


@pytest.mark.parametrize("capability", Capability)
def test_anonymous_callers_must_log_in(capability: Capability) -> None:
    with pytest.raises(Unauthenticated):
        authorize(PUBLIC, capability, where(capability))
    assert not decide(PUBLIC, capability, where(capability)).visible


@pytest.mark.parametrize("capability", Capability)
def test_asking_in_the_wrong_place_is_the_callers_mistake(capability: Capability) -> None:
    with pytest.raises(ValueError, match=str(capability)):
        decide(SYSTEM, capability, None if where(capability) else APP)


def test_an_allowed_request_passes_silently() -> None:
    authorize(user("member", "viewer"), Capability.KV_READ, APP)
    authorize(key(user("member", "viewer"), "script:read", bound=APP), Capability.KV_READ, APP)
    authorize(SYSTEM, Capability.INSTANCE_SETTINGS, None)


def test_roles_and_actors_by_name() -> None:
    assert app_role(user("admin"), OTHER) == "app_admin"
    assert app_role(user("member", "editor"), APP) == "editor"
    assert app_role(user("member", "editor"), OTHER) is None
    assert app_role(PUBLIC, APP) is None
    assert [principal.actor for principal in (user(), key(user()), PUBLIC, SYSTEM)] == [f"user:{ME}", f"key:{ME}", "public", "system"]


principals = st.builds(
    Principal,
    kind=st.sampled_from(["user", "key"]),
    id=st.just(ME),
    instance_role=st.sampled_from([None, *get_args(InstanceRole)]),
    app_roles=st.dictionaries(st.sampled_from([APP, OTHER]), st.sampled_from(get_args(AppRole))),
    scopes=st.none() | st.frozensets(st.sampled_from(sorted(ALL_SCOPES))),
    bound_app=st.sampled_from([None, APP, OTHER]),
)


@given(principals, st.sampled_from(Capability))
def test_role_and_scope_and_binding_must_all_allow(principal: Principal, capability: Capability) -> None:
    place = where(capability)
    by_role = str(capability) in allowed(msgspec.structs.replace(principal, scopes=None, bound_app=None))
    by_scope = principal.scopes is None or any(str(capability) in BY_SCOPE[scope] for scope in principal.scopes)
    by_binding = principal.bound_app is None or principal.bound_app == place
    decision = decide(principal, capability, place)
    assert decision.allowed == (by_role and by_scope and by_binding)
    assert decision.allowed == (decision.reason == "")
    assert decision.visible or not decision.allowed


def test_nobody_gives_a_role_above_their_own() -> None:
    refuse_escalation(user("admin"), "app_admin", APP)
    refuse_escalation(user("member", "editor"), "editor", APP)
    for principal in (user("member", "editor"), user("member", "viewer"), user("member")):
        with pytest.raises(Invalid) as refused:
            refuse_escalation(principal, "app_admin", APP)
        assert (refused.value.code, refused.value.field) == ("cannot_escalate", "role")


@given(principals)
def test_a_principal_survives_the_log(principal: Principal) -> None:
    assert msgspec.json.decode(msgspec.json.encode(principal), type=Principal) == principal


def test_a_principal_with_an_unknown_role_does_not_decode() -> None:
    bodies: list[dict[str, Any]] = [{"kind": "root"}, {"kind": "user", "instance_role": "god"}, {"kind": "key", "scopes": ["*"]}]
    for body in bodies:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(body, Principal)


def test_the_highest_role_has_what_all_have() -> None:
    assert highest(["viewer", "app_admin", "editor"]) == "app_admin"
    assert highest(["member", "owner"]) == "owner"
    assert highest([]) is None
