"""Units of key-value effects through two processes of the real log, against a plain dict.

The model knows nothing of events: it keeps each key's value, version and expiry, and says what a unit must come to. After every step reads equal the model;
at the end the read model is the fold of the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from uuid_utils.compat import uuid7

from adapters.postgres.log import PgLog
from domain.errors import PiCloudError
from domain.kv import DeleteKey, ExpireKey, IncrementKey, SetKey, entry_stream
from domain.units import ABSENT, ANY, Change, Effect, Read, Unit
from tests.adapters.log_support import check_logs, open_test_log, unit

KEYS = ("a", "b", "with:colon", "with%percent", "ünï")
START = datetime(2026, 1, 1, tzinfo=UTC)

values = st.one_of(
    st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False), st.text("xyz", max_size=3), st.none(), st.lists(st.booleans(), max_size=2)
)
keys = st.sampled_from(KEYS)
ttls = st.one_of(st.none(), st.integers(1, 100))
expectations = st.sampled_from(["any", "absent", "right", "stale"])
ops = st.tuples(st.sampled_from(["set", "delete", "increment", "expire"]), keys, values, ttls, expectations)
read_versions = st.sampled_from(["right", "stale", "absent"])


class Cell(msgspec.Struct):
    """A key: `value` is `...` when there is none. Versions count every event ever, recorded expiries too."""

    value: Any = ...
    version: int = 0
    expires_at: datetime | None = None

    def is_absent(self, now: datetime) -> bool:
        return self.value is ... or (self.expires_at is not None and self.expires_at <= now)


class Refused(Exception):
    """What the model says of a unit that must be refused."""


class Model:
    """What the entries of an app are."""

    def __init__(self) -> None:
        self.cells = {key: Cell() for key in KEYS}
        self.events = 0

    def apply(self, changes: list[tuple[str, str, Any, int | None, int]], reads: list[tuple[str, int]], now: datetime) -> None:
        """All of a unit, or Refused and nothing."""
        for key, version in reads:
            cell = self.cells[key]
            if not (cell.is_absent(now) if version == ABSENT else cell.version == version):
                raise Refused("read_conflict")
        after = deepcopy(self.cells)
        for op, key, value, ttl_s, expect in changes:
            cell = after[key]
            if expect == ABSENT and not cell.is_absent(now):
                raise Refused("already_exists")
            if expect > 0 and (cell.version != expect or cell.is_absent(now)):
                raise Refused("version_conflict")
            self._change(cell, op, value, ttl_s, now)
        self.events += sum(after[key].version - self.cells[key].version for key in KEYS)
        self.cells = after

    @staticmethod
    def _change(cell: Cell, op: str, value: Any, ttl_s: int | None, now: datetime) -> None:
        if cell.value is not ... and cell.is_absent(now):  # its expiry is recorded by whoever comes by
            cell.value, cell.expires_at, cell.version = ..., None, cell.version + 1
        if op == "set":
            cell.value, cell.version = value, cell.version + 1
            cell.expires_at = None if ttl_s is None else now + timedelta(seconds=ttl_s)
        elif op == "delete" and cell.value is not ...:
            cell.value, cell.expires_at, cell.version = ..., None, cell.version + 1
        elif op == "increment":
            number = 0 if cell.value is ... else cell.value
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise Refused("not_a_number")
            cell.value, cell.version = number + 3, cell.version + 1


def effect_of(op: str, key: str, value: Any, ttl_s: int | None) -> Effect:
    match op:
        case "set":
            return SetKey(collection="c", key=key, value=msgspec.Raw(msgspec.json.encode(value)), ttl_s=ttl_s)
        case "delete":
            return DeleteKey(collection="c", key=key)
        case "increment":
            return IncrementKey(collection="c", key=key, by=3)
        case _:
            return ExpireKey(collection="c", key=key)


class Machine(RuleBasedStateMachine):
    """Each example is an app of its own in one database."""

    portal: BlockingPortal
    logs: tuple[PgLog, PgLog]
    connection: asyncpg.Connection

    def __init__(self) -> None:
        super().__init__()
        self.app: UUID = uuid7()
        self.model = Model()
        self.now = START
        self.shared = False

    @rule(changes=st.lists(ops, min_size=1, max_size=4), process=st.integers(0, 1))
    def append(self, changes: list[tuple[str, str, Any, int | None, str]], process: int) -> None:
        self._append(changes, [], process)

    @rule(changes=st.lists(ops, max_size=2), reads=st.lists(st.tuples(keys, read_versions), min_size=1, max_size=2), process=st.integers(0, 1))
    def append_what_was_decided_on_reads(self, changes: list[tuple[str, str, Any, int | None, str]], reads: list[tuple[str, str]], process: int) -> None:
        self._append(changes, reads, process)

    @rule(seconds=st.sampled_from([1, 30, 99]))
    def let_time_pass(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: not self.shared)
    @rule()
    def open_to_another_process(self) -> None:
        """Until now one process has written; from now on both may."""
        self.shared = True

    @rule(key=keys, by=st.lists(st.integers(0, 1), min_size=2, max_size=6))
    def increment_at_the_same_time(self, key: str, by: list[int]) -> None:
        """Increments never conflict, whoever makes them."""
        expected = self._expected([("increment", key, None, None, ANY)] * len(by), each=True)
        units = [unit(self.app, effect_of("increment", key, None, None), now=self.now) for _ in by]
        futures = [self.portal.start_task_soon(self._outcome, process, appended) for process, appended in zip(by, units, strict=True)]
        assert [future.result(10) for future in futures] == expected

    @invariant()
    def the_read_model_is_the_model(self) -> None:
        rows = self.portal.call(self.connection.fetch, "SELECT key, value, version, expires_at FROM kv_entries WHERE app_id = $1", self.app)
        found = {row["key"]: (msgspec.json.decode(row["value"]), row["version"], row["expires_at"]) for row in rows}
        assert found == {key: (cell.value, cell.version, cell.expires_at) for key, cell in self.model.cells.items() if cell.value is not ...}

    @invariant()
    def the_log_ends_where_the_model_does(self) -> None:
        assert self.portal.call(self.logs[0].head, self.app) == self.model.events

    def teardown(self) -> None:
        for key, cell in self.model.cells.items():
            events = self.portal.call(self.logs[0].read_stream, self.app, entry_stream("c", key))
            assert [recorded.version for recorded in events] == list(range(1, cell.version + 1))

    def _append(self, changes: list[tuple[str, str, Any, int | None, str]], reads: list[tuple[str, str]], process: int) -> None:
        whole = [(op, key, value, ttl_s, self._version(key, expect)) for op, key, value, ttl_s, expect in changes]
        known = [(key, self._version(key, version)) for key, version in reads]
        expected = self._expected(whole, known)
        appended = unit(
            self.app,
            *(Change(effect_of(op, key, value, ttl_s), expect) for op, key, value, ttl_s, expect in whole),
            reads=[Read(entry_stream("c", key), version) for key, version in known],
            now=self.now,
        )
        assert [self.portal.call(self._outcome, process, appended)] == expected

    async def _outcome(self, process: int, appended: Unit) -> str:
        try:
            await self.logs[process if self.shared else 0].append(appended)
        except PiCloudError as error:
            return error.code
        return "appended"

    def _expected(self, changes: list[tuple[str, str, Any, int | None, int]], reads: list[tuple[str, int]] | None = None, *, each: bool = False) -> list[str]:
        """What the model says, taken on: of the changes as one unit, or of each as a unit of its own."""
        outcomes = []
        for group in [[change] for change in changes] if each else [changes]:
            try:
                self.model.apply(group, reads or [], self.now)
            except Refused as refusal:
                outcomes.append(str(refusal))
            else:
                outcomes.append("appended")
        return outcomes

    def _version(self, key: str, wanted: str) -> int:
        version = self.model.cells[key].version
        return {"any": ANY, "absent": ABSENT, "right": version, "stale": version + 1}[wanted]


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio", {"use_uvloop": True}) as opened:
        yield opened


def test_units_against_a_dict(dsn: str, portal: BlockingPortal, anyio_backend: object) -> None:
    del anyio_backend  # runs the fixture of `dsn`; the logs live in the portal's loop
    with ExitStack() as stack:

        def enter(context: Any) -> Any:
            manager: AbstractContextManager[Any] = portal.wrap_async_context_manager(context)
            return stack.enter_context(manager)

        Machine.portal = portal
        Machine.logs = (enter(open_test_log(dsn)), enter(open_test_log(dsn)))
        Machine.connection = portal.call(asyncpg.connect, dsn)
        try:
            run_state_machine_as_test(Machine, settings=settings(stateful_step_count=25))
        finally:
            portal.call(Machine.connection.close)
    portal.call(check_logs, dsn)
