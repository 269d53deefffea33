"""Several people who manage users at the same time, through two processes, against a table.

Whatever they do at once happens one after another: the order is the log's. Each unit in it must have been allowed where it stands and must have come to what
the table says; whatever was refused must have had a cause at some moment while it was tried; and at every position there is an active owner. A session is good
as long as its user is active in the epoch in which it began.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import groupby
from typing import Any
from uuid import UUID

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from argon2 import PasswordHasher
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from uuid_utils.compat import uuid7

from adapters.postgres.connect import open_pool
from adapters.postgres.log import PgLog
from adapters.postgres.reader import PgReader
from adapters.postgres.vault import PgVault, User
from domain.clock import utc_now
from domain.errors import PiCloudError
from domain.events import Recorded
from domain.ids import NIL_APP
from domain.users import UserDeleted, UserSaved, state_of
from projections.control.user_reads import page_users
from runtime.access.accounts import Accounts
from runtime.access.credentials import Credentials
from runtime.access.log import AccessLog
from runtime.access.passwords import Passwords
from runtime.admin.sessions import Sessions
from runtime.admin.users import Manager, NewUser, UserChange, Users
from runtime.admin.writing import Acting, AdminWriter
from runtime.settings import Session as SessionSettings
from tests.adapters.log_support import check_logs, open_test_log
from tests.model.users_model import Op, Table, after, causes, owners

NAMES = ("ada", "bob", "Ada", "eve", "max", "zoe")
ROLES = ("owner", "admin", "member")
CHANGES = (
    [{"instance_role": role} for role in ROLES]
    + [{"active": False}, {"active": True}, {"active": False, "instance_role": "member"}, {"email": "a@b.de"}]
    + [{"username": name} for name in NAMES[:3]]
)

created = st.tuples(st.just("create"), st.builds(lambda name, role: {"username": name, "instance_role": role}, st.sampled_from(NAMES), st.sampled_from(ROLES)))
changed = st.tuples(st.just("change"), st.sampled_from(CHANGES))
nothing: dict[str, Any] = {}
others = st.tuples(st.sampled_from(["password", "delete", "log_in", "own_password"]), st.just(nothing))
wants = st.tuples(st.one_of(created, changed, changed, others), st.integers(0, 5), st.integers(0, 5), st.integers(0, 1))


class Process:
    """What one process manages users with. Hashing is made cheap, not left out."""

    def __init__(self, log: PgLog, pool: Any) -> None:
        reader = PgReader(pool)

        async def at_once(*_: object) -> None:
            """Nobody caches users, so nobody is waited for."""

        writer = AdminWriter(log, utc_now, at_once)
        access, vault = AccessLog(log, utc_now), PgVault(pool)
        credentials = Credentials(vault, Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)), access)
        self.log = log
        self.reader = reader
        self.users = Users(reader, writer, credentials)
        self.sessions = Sessions(reader, writer, credentials, access)
        self.accounts = Accounts(vault, reader, credentials, access, log, SessionSettings(), utc_now)


class Machine(RuleBasedStateMachine):
    """Each example begins with one owner; those of the one before are removed."""

    portal: BlockingPortal
    processes: tuple[Process, Process]
    numbers = iter(range(10**9))

    def __init__(self) -> None:
        super().__init__()
        self.table: Table = {}
        self.passwords: dict[UUID, str] = {}
        self.sessions: dict[str, tuple[UUID, int]] = {}
        self.portal.call(self._begin)

    @rule(wanted=wants)
    def one_does_something(self, wanted: Any) -> None:
        self.portal.call(self._do, [wanted])

    @rule(wanted=st.lists(wants, min_size=2, max_size=4))
    def several_do_something_at_once(self, wanted: list[Any]) -> None:
        self.portal.call(self._do, wanted)

    @rule(owner=st.integers(0, 5), other=st.integers(0, 5), how=st.sampled_from([{"instance_role": "member"}, {"active": False}]))
    def two_remove_each_other(self, owner: int, other: int, how: dict[str, Any]) -> None:
        self.portal.call(self._do, [(("change", how), owner, other, 0), (("change", how), other, owner, 1)])

    @rule(how=st.sampled_from([{"instance_role": "member"}, {"active": False}, {}]))
    def all_owners_leave_at_once(self, how: dict[str, Any]) -> None:
        """Each changes, or removes, nobody but himself: only the guard tells them of each other."""
        made = ("create", {"username": f"owner{next(self.numbers)}", "instance_role": "owner"})
        places = self._owners()
        self.portal.call(self._do, [(made, places[0], places[0], 0)])
        places = self._owners()
        leave = ("change", how) if how else ("delete", {})
        self.portal.call(self._do, [(leave, place, place, number % 2) for number, place in enumerate(places)])

    @invariant()
    def the_read_model_is_the_table(self) -> None:
        found = self.portal.call(page_users, self.processes[0].reader, None, 1000)
        assert {user.state.id: user.state for user in found} == self.table

    @invariant()
    def sessions_are_good_in_their_epoch_alone(self) -> None:
        for token, (user_id, epoch) in self.sessions.items():
            user = self.table.get(user_id)
            good = user is not None and user.active and user.session_epoch == epoch
            assert (self.portal.call(self.processes[1].accounts.authenticate, token) is not None) == good

    def _owners(self) -> list[int]:
        """Where in the table the active owners are."""
        return [place for place, user in enumerate(self.table.values()) if user.is_active_owner]

    async def _begin(self) -> None:
        """A new owner, and nobody else."""
        users, system = self.processes[0].users, Acting("system")
        before = await page_users(self.processes[0].reader, None, 1000)
        made = await users.create(NewUser(username=f"first{next(self.numbers)}", password="password 0", instance_role="owner"), None, system)
        for user in before:
            await users.delete(user.state.id, None, system)
        self.table = {made.state.id: made.state}
        self.passwords = {made.state.credential_id: "password 0"}
        self.position = await self.processes[0].log.head(NIL_APP)

    async def _do(self, wanted: Sequence[Any]) -> None:
        ops = [self._op(*want[:3]) for want in wanted]
        outcomes: dict[int, str] = {}

        async def client(op: Op, process: Process) -> None:
            try:
                await self._ask(op, process)
            except PiCloudError as error:
                outcomes[op.number] = error.code
            else:
                outcomes[op.number] = "done"

        async with anyio.create_task_group() as clients:
            for op, want in zip(ops, wanted, strict=True):
                clients.start_soon(client, op, self.processes[want[3]])
        self._judge(ops, outcomes, await self.processes[0].log.read(NIL_APP, self.position))

    def _op(self, what: tuple[str, dict[str, Any]], actor: int, target: int) -> Op:
        everybody = list(self.table.values())
        who, whom = everybody[actor % len(everybody)], everybody[target % len(everybody)]
        kind, given = what
        if kind == "password" and who.id == whom.id:
            kind = "own_password"
        number = next(self.numbers)
        if kind == "password":
            return Op(number=number, kind="change", actor=who, target=whom, password=True)
        return Op(number=number, kind=kind, actor=who, target=who if kind == "own_password" else whom, given=given, password=kind == "own_password")

    async def _ask(self, op: Op, process: Process) -> None:
        manager = Manager(user_id=op.actor.id, session_epoch=op.actor.session_epoch)
        acting = Acting(f"user:{op.actor.id}", str(op.number))
        secret = f"password {op.number}"
        match op.kind:
            case "create":
                await process.users.create(NewUser(password=secret, **op.given), manager, acting)
            case "change":
                change = UserChange(**{**op.given, **({"password": secret} if op.password else {})})
                await process.users.change(op.target.id, change, manager, acting)
            case "delete":
                await process.users.delete(op.target.id, manager, acting)
            case "log_in":
                user = User(id=op.target.id, username="", email=None, instance_role="member")
                begun = await process.accounts._begin(user, "", "", credential_id=op.target.credential_id, request_id=str(op.number))
                self.sessions[begun.token] = (op.target.id, -1)
            case "own_password":
                await self._own_password(op, process, secret, acting)

    async def _own_password(self, op: Op, process: Process, secret: str, acting: Acting) -> None:
        """In a session of its own, which goes on. Each comes from another address, so that none is throttled for another's failure."""
        user = User(id=op.target.id, username=op.target.username, email=None, instance_role="member")
        try:
            begun = await process.accounts._begin(user, "", "", credential_id=op.target.credential_id)
        except PiCloudError:
            raise PiCloudError("the session ended before it began", code="unauthenticated") from None
        identity = await process.accounts.authenticate(begun.token)
        if identity is None or identity.session_epoch != op.target.session_epoch:
            raise PiCloudError("the session has ended", code="unauthenticated")
        current = self.passwords[op.target.credential_id]
        await process.sessions.change_password(identity, current, secret, f"address {op.number}", acting)
        self.sessions[begun.token] = (op.target.id, op.target.session_epoch + 1)

    def _judge(self, ops: Sequence[Op], outcomes: dict[int, str], events: Sequence[Recorded]) -> None:
        by_number = {str(op.number): op for op in ops}
        moments, happened = [self.table], set()
        for _, unit in groupby(events, lambda recorded: recorded.metadata.unit_id):
            recorded = list(unit)
            op = by_number.get(recorded[0].metadata.request_id or "")
            if op is None:  # the login before an own password
                assert [event.event.TOPIC for event in recorded] == ["access.LoggedIn"]
                continue
            assert op.number not in happened
            happened.add(op.number)
            self._judge_unit(op, recorded)
            moments.append(self.table)
        for op in ops:
            outcome = outcomes[op.number]
            if outcome == "done":
                assert op.number in happened or any(self._is_nothing(op, table) for table in moments), op
            else:
                assert op.number not in happened, (op, outcome)
                assert outcome in set().union(*(causes(op, table) for table in moments)), (op, outcome)
        if events:
            self.position = events[-1].position

    def _judge_unit(self, op: Op, unit: Sequence[Recorded]) -> None:
        """It was allowed here, and came to what the table says."""
        assert causes(op, self.table) == set(), op
        saved = [state_of(recorded.event) for recorded in unit if isinstance(recorded.event, UserSaved)]
        gone = [recorded.event.user_id for recorded in unit if isinstance(recorded.event, UserDeleted)]
        user = saved[0] if saved else None
        if user is not None and (op.kind == "create" or op.password):
            assert user.credential_id not in self.passwords
            self.passwords[user.credential_id] = f"password {op.number}"
        expected = after(op, self.table, user.id if user else op.target.id, user.credential_id if user else uuid7())
        found = {**self.table, **({user.id: user} if user else {})}
        self.table = {key: value for key, value in found.items() if key not in gone}
        assert self.table == expected
        assert owners(self.table) > 0
        if op.kind == "log_in":
            self.sessions = {
                token: (user_id, self.table[user_id].session_epoch if epoch < 0 and user_id == op.target.id else epoch)
                for token, (user_id, epoch) in self.sessions.items()
            }

    @staticmethod
    def _is_nothing(op: Op, table: Table) -> bool:
        """Whether an operation is allowed and changes nothing, so that nothing is appended."""
        return op.kind == "change" and not op.password and not causes(op, table) and after(op, table, op.target.id, op.target.credential_id) == table


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio", {"use_uvloop": True}) as opened:
        yield opened


def test_people_who_manage_users_at_once_against_a_table(dsn: str, portal: BlockingPortal, anyio_backend: object) -> None:
    del anyio_backend  # runs the fixture of `dsn`; the logs live in the portal's loop
    with ExitStack() as stack:

        def enter(context: Any) -> Any:
            manager: AbstractContextManager[Any] = portal.wrap_async_context_manager(context)
            return stack.enter_context(manager)

        Machine.portal = portal
        logs = [enter(open_test_log(dsn)) for _ in range(2)]
        pools = [enter(open_pool(dsn, 4)) for _ in range(2)]
        Machine.processes = (portal.call(Process, logs[0], pools[0]), portal.call(Process, logs[1], pools[1]))
        run_state_machine_as_test(Machine, settings=settings(stateful_step_count=15))
    portal.call(check_logs, dsn)
