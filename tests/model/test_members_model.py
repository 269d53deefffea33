"""Memberships, changed by several people in two processes at once, against a plain model.

Whatever is done at the same time must come out as if it had been done in some order, refusals included. Only who is no longer who he was when he began may be
refused for that alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from copy import deepcopy
from itertools import permutations
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from uuid_utils.compat import uuid7

from adapters.postgres.vault import User
from domain.apps import AppCreated, AppDeleted, app_stream
from domain.authz import AppRole
from domain.errors import PiCloudError, Unauthenticated
from domain.events import Event
from domain.ids import NIL_APP
from domain.units import ANY, Change, Record
from domain.users import InstanceRole, UserChanged, UserCreated, UserDeleted, user_stream
from projections.control.principals import principal_of_actor
from runtime.access.identity import Identity
from runtime.admin.streams import read_states
from runtime.admin.writing import Acting, AdminWriter, retried
from runtime.platform import Platform, open_platform
from runtime.settings import Process, Settings
from web.admin import members as handlers
from web.admin.call import AdminCall
from web.admin.needs import needs_of

OWNER, ADA, BOB, EVE = range(4)
"""The owner is never touched; the others come and go."""
APPS: Final = 2
LOST: Final = "authority_changed"
SYSTEM: Final = Acting("system")

ROLES: Final[tuple[AppRole, ...]] = ("viewer", "editor", "app_admin")


class Op(msgspec.Struct, frozen=True):
    """Something that is done: a membership is added, changed or removed by somebody; a user is changed or removed, or an app is, by appending it."""

    what: Literal["add", "change", "remove", "set_user", "delete_user", "delete_app"]
    by: int
    app: int
    user: int
    role: AppRole = "viewer"
    active: bool = True
    instance_role: InstanceRole = "member"

    def touches(self, other: Op) -> bool:
        """Whether it may have taken from another's author what he acts by."""
        if self.what in {"set_user", "delete_user"}:
            return self.user == other.by
        return self.what in {"add", "change", "remove"} and (self.app, self.user) == (other.app, other.by)


class Person(msgspec.Struct):
    active: bool = True
    instance_role: InstanceRole = "member"
    exists: bool = True


class Model:
    """What is."""

    def __init__(self) -> None:
        self.people = [Person(instance_role="owner"), Person(), Person(), Person()]
        self.apps = [True] * APPS
        self.roles: dict[tuple[int, int], AppRole] = {}

    def apply(self, op: Op) -> str:
        """Do it, or say why not."""
        match op.what:
            case "set_user":
                return self._set_user(op)
            case "delete_user":
                return self._delete_user(op.user)
            case "delete_app":
                return self._delete_app(op.app)
            case _:
                return self._refusal(op) or self._manage(op)

    def _set_user(self, op: Op) -> str:
        person = self.people[op.user]
        if not person.exists:
            return "gone"
        person.active, person.instance_role = op.active, op.instance_role
        return "ok"

    def _delete_user(self, user: int) -> str:
        if not self.people[user].exists:
            return "gone"
        self.people[user] = Person(exists=False)
        self.roles = {key: role for key, role in self.roles.items() if key[1] != user}
        return "ok"

    def _delete_app(self, app: int) -> str:
        if not self.apps[app]:
            return "gone"
        self.apps[app] = False
        self.roles = {key: role for key, role in self.roles.items() if key[0] != app}
        return "ok"

    def _refusal(self, op: Op) -> str | None:
        author = self.people[op.by]
        if not (author.exists and author.active):
            return "unauthenticated"
        role = "app_admin" if author.instance_role != "member" else self.roles.get((op.app, op.by))
        if not self.apps[op.app] or role is None:
            return "app_not_found"
        return None if role == "app_admin" else "forbidden"

    def _manage(self, op: Op) -> str:
        key, target = (op.app, op.user), self.people[op.user]
        if op.what == "remove":
            self.roles.pop(key, None)
            return "ok"
        if op.what == "change" and key not in self.roles:
            return "member_not_found"
        if not target.exists:
            return "unknown_user"
        if not target.active:
            return "inactive_user"
        if target.instance_role != "member":
            return "implicit_authority"
        if op.what == "add" and key in self.roles:
            return "already_member"
        self.roles[key] = op.role
        return "ok"


class World:
    """The ids of one example, and how its operations are really done, in one of two processes."""

    def __init__(self, processes: tuple[Platform, Platform]) -> None:
        self.processes = processes
        self.users = [uuid7() for _ in range(4)]
        self.apps = [uuid7() for _ in range(APPS)]

    async def begin(self) -> None:
        """Make the users and apps."""
        roles: tuple[InstanceRole, ...] = ("owner", "member", "member", "member")
        for user_id, role in zip(self.users, roles, strict=True):
            await self._append(0, user_stream(user_id), UserCreated(user_id=user_id, username=f"u{user_id}", instance_role=role))
        for app_id in self.apps:
            await self._append(0, app_stream(app_id), AppCreated(app_id=app_id, name="a", slug=app_id.hex))

    async def do(self, process: int, op: Op) -> str:
        """Do it; `ok` or the code of its refusal."""
        try:
            await self._done(process, op)
        except PiCloudError as error:
            return error.code
        return "ok"

    async def rows(self) -> dict[tuple[int, int], str]:
        """The read model."""
        found = await self.processes[0].reader.fetch("SELECT app_id, user_id, role FROM members WHERE app_id = ANY ($1)", self.apps)
        return {(self.apps.index(row["app_id"]), self.users.index(row["user_id"])): row["role"] for row in found}

    async def people(self) -> list[Person]:
        """What the users are: of two changes at the same time nothing else tells which came last."""
        found = await self.processes[0].reader.fetch("SELECT user_id, active, instance_role FROM users WHERE user_id = ANY ($1)", self.users)
        known = {row["user_id"]: Person(active=row["active"], instance_role=row["instance_role"]) for row in found}
        return [known.get(user_id, Person(exists=False)) for user_id in self.users]

    async def _done(self, process: int, op: Op) -> None:
        user_id, app_id = self.users[op.user], self.apps[op.app]
        match op.what:
            case "set_user":
                changed = UserChanged(user_id=user_id, username=f"u{user_id}", email=None, instance_role=op.instance_role, active=op.active)
                await self._replace(process, user_stream(user_id), changed, UserDeleted)
            case "delete_user":
                await self._replace(process, user_stream(user_id), UserDeleted(user_id=user_id, username=f"u{user_id}"), UserDeleted)
            case "delete_app":
                await self._replace(process, app_stream(app_id), AppDeleted(app_id=app_id, slug=app_id.hex), AppDeleted)
            case "add":
                await self._ask(process, op, handlers.add_member, data=handlers.AddMember(user_id=user_id, role=op.role))
            case "change":
                await self._ask(process, op, handlers.change_member, user=str(user_id), data=handlers.ChangeMember(role=op.role))
            case "remove":
                await self._ask(process, op, handlers.remove_member, user=str(user_id))

    async def _ask(self, process: int, op: Op, handler: Any, **parameters: Any) -> None:
        """What a request of somebody does: he is recognised, and then served."""
        platform = self.processes[process]
        principal = await principal_of_actor(platform.reader, f"user:{self.users[op.by]}")
        if principal is None:
            raise Unauthenticated
        user = User(id=self.users[op.by], username="u", email=None, instance_role=principal.instance_role or "member")
        identity = Identity(principal=principal, user=user, session_id=None, expires_at=None, extended=False)
        call = AdminCall(platform, identity, "request", needs_of(handler) or ())
        await handler.fn(call, app=str(self.apps[op.app]), **parameters)

    async def _replace(self, process: int, stream: str, event: Event, ended: type[Event]) -> None:
        platform = self.processes[process]

        async def attempt() -> None:
            (state,) = await read_states(platform.reader, platform.log, NIL_APP, stream)
            if isinstance(state.last, ended):
                raise PiCloudError(code="gone")
            await self._append(process, stream, event, state.version)

        await retried(attempt)

    async def _append(self, process: int, stream: str, event: Event, expect: int = ANY) -> None:
        platform = self.processes[process]
        writer = AdminWriter(platform.appender, platform.clock, platform.directory.passed)
        await writer.append(NIL_APP, SYSTEM, [Change(Record(name=stream, event=event), expect)])


people = st.integers(ADA, EVE)
apps = st.sampled_from([0, 0, 0, 1])
managing = st.builds(
    Op, what=st.sampled_from(["add", "add", "change", "remove"]), by=st.integers(OWNER, EVE), app=apps, user=people, role=st.sampled_from(ROLES)
)
appending = st.builds(
    Op,
    what=st.sampled_from(["set_user", "set_user", "set_user", "delete_user", "delete_app"]),
    by=st.just(OWNER),
    app=st.just(1),
    user=people,
    active=st.booleans(),
    instance_role=st.sampled_from(["member", "member", "admin"]),
)
ops = st.one_of(managing, managing, managing, appending)
processes = st.integers(0, 1)


class Machine(RuleBasedStateMachine):
    """Each example has users and apps of its own in one database."""

    portal: BlockingPortal
    platforms: tuple[Platform, Platform]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.world = World(self.platforms)
        self.portal.call(self.world.begin)

    @rule(op=ops, process=processes)
    def one(self, op: Op, process: int) -> None:
        expected = self.model.apply(op)
        assert self.portal.call(self.world.do, process, op) == expected

    @rule(together=st.lists(st.tuples(ops, processes), min_size=2, max_size=4))
    def several_at_once(self, together: list[tuple[Op, int]]) -> None:
        self._at_once(together)

    @rule(user=people, first=st.sampled_from(ROLES), second=st.sampled_from(ROLES))
    def two_grants(self, user: int, first: AppRole, second: AppRole) -> None:
        """Of two who add the same user, one does."""
        grantable = self.model.people[user] == Person() and (0, user) not in self.model.roles
        outcomes = self._at_once([(Op("add", OWNER, 0, user, first), 0), (Op("add", OWNER, 0, user, second), 1)])
        assert not grantable or sorted(outcomes) == ["already_member", "ok"]

    @rule(user=people, role=st.sampled_from(ROLES))
    def a_change_against_a_removal(self, user: int, role: AppRole) -> None:
        """The removal is the last word, whoever comes first."""
        change, removal = self._at_once([(Op("change", OWNER, 0, user, role), 0), (Op("remove", OWNER, 0, user), 1)])
        assert removal == "ok"
        assert change in {"ok", "member_not_found", "inactive_user", "implicit_authority"}
        assert (0, user) not in self.model.roles

    @rule(one=people, other=people)
    def two_who_remove_each_other(self, one: int, other: int) -> None:
        """At most one of them does, when neither may without his role."""
        rivals = one != other and all(self.model.people[user] == Person() and self.model.roles.get((0, user)) == "app_admin" for user in (one, other))
        outcomes = self._at_once([(Op("remove", one, 0, other), 0), (Op("remove", other, 0, one), 1)])
        assert not rivals or outcomes.count("ok") == 1

    @invariant()
    def the_read_model_is_the_model(self) -> None:
        assert self.portal.call(self.world.rows) == self.model.roles

    def _at_once(self, together: list[tuple[Op, int]]) -> list[str]:
        """Do these at the same time; the model does them in an order that comes out the same."""
        futures = [self.portal.start_task_soon(self.world.do, process, op) for op, process in together]
        outcomes = [future.result(20) for future in futures]
        done = [op for op, _ in together]
        for op, outcome in zip(done, outcomes, strict=True):
            assert outcome != LOST or any(other.touches(op) for other in done if other is not op), (done, outcomes)
        rows, known = self.portal.call(self.world.rows), self.portal.call(self.world.people)
        for order in permutations(range(len(done))):
            after = deepcopy(self.model)
            # Who has lost has done nothing, so the model leaves it out.
            if all(outcomes[number] == LOST or after.apply(done[number]) == outcomes[number] for number in order) and (after.roles, after.people) == (
                rows,
                known,
            ):
                self.model = after
                return outcomes
        raise AssertionError(f"no order explains {list(zip(done, outcomes, strict=True))}, {rows} and {known} after {self.model.roles} and {self.model.people}")


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio", {"use_uvloop": True}) as opened:
        yield opened


def test_memberships_against_a_model(dsn: str, portal: BlockingPortal, tmp_path: Path, anyio_backend: object) -> None:
    del anyio_backend  # runs the fixture of `dsn`; the platforms live in the portal's loop
    chosen = Settings(data_dir=tmp_path, process=Process(roles=("web",)))
    with ExitStack() as stack:

        def enter() -> Platform:
            manager: AbstractContextManager[Platform] = portal.wrap_async_context_manager(open_platform(dsn, chosen))
            return stack.enter_context(manager)

        Machine.portal = portal
        Machine.platforms = (enter(), enter())
        run_state_machine_as_test(Machine, settings=settings(stateful_step_count=15))
