"""The log under the eventsourcing library's own contract tests, and a stock application of that library on one app's log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import asyncpg
import psycopg
import pytest
from eventsourcing.application import Application
from eventsourcing.persistence import AggregateRecorder, DataError, IntegrityError, Notification, OperationalError, PersistenceError, StoredEvent
from eventsourcing.tests import persistence as contract
from eventsourcing.utils import clear_topic_cache, register_topic
from uuid_utils.compat import uuid7

from adapters.postgres.recorder import OriginatorIds, PgApplicationRecorder, open_recorder
from tests.adapters.log_support import check_logs, delete_key, entry, open_test_log, set_key, unit


@pytest.fixture
async def checked_dsn(dsn: str) -> AsyncIterator[str]:
    """A database whose logs are sound at the end."""
    yield dsn
    await check_logs(dsn, first_versions=(0, 1))


@pytest.fixture(autouse=True)
def _loop(anyio_backend: object) -> None:
    """These tests are synchronous; their databases come from asynchronous fixtures."""


class _OnOurLog:
    """Gives the library's test cases a recorder of ours, each test on a database of its own."""

    recorder: PgApplicationRecorder

    @pytest.fixture(autouse=True)
    def _open(self, checked_dsn: str) -> Iterator[None]:
        with open_recorder(checked_dsn, uuid7()) as self.recorder:
            yield

    def create_recorder(self) -> PgApplicationRecorder:
        return self.recorder


class TestApplicationRecorder(_OnOurLog, contract.ApplicationRecorderTestCase[PgApplicationRecorder]):
    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class _AggregatesOnly(AggregateRecorder):
    """What an aggregate recorder has: the contract wants no notification ids of it."""

    def __init__(self, recorder: PgApplicationRecorder) -> None:
        self._recorder = recorder

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:
        self._recorder.insert_events(stored_events, **kwargs)

    def select_events(self, originator_id: UUID | str, **kwargs: Any) -> Sequence[StoredEvent]:
        return self._recorder.select_events(originator_id, **kwargs)


class TestAggregateRecorder(_OnOurLog, contract.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:  # type: ignore[override]  # see there
        return _AggregatesOnly(self.recorder)


class TestNonInterleavingNotificationIds(_OnOurLog, contract.NonInterleavingNotificationIDsBaseCase):
    pass


@pytest.fixture
def recorder(checked_dsn: str) -> Iterator[PgApplicationRecorder]:
    with open_recorder(checked_dsn, uuid7()) as opened:
        yield opened


def stored(originator: UUID | str, version: int, topic: str = "t", state: bytes = b"s") -> StoredEvent:
    return StoredEvent(originator, version, topic, state)


@pytest.mark.parametrize("first", [0, 1])
def test_versions_begin_at_0_or_1_and_have_no_gap(recorder: PgApplicationRecorder, first: int) -> None:
    one, other = uuid4(), uuid4()
    assert recorder.insert_events([stored(one, first), stored(one, first + 1)]) == [1, 2]
    for wrong in ([stored(one, first)], [stored(one, first + 1)], [stored(one, first + 3)], [stored(other, 2)], [stored(other, 1), stored(other, 1)]):
        with pytest.raises(IntegrityError):
            recorder.insert_events([stored(uuid4(), 1), *wrong])
    assert recorder.insert_events([stored(other, first), stored(one, first + 2)]) == [3, 4]
    assert [e.originator_version for e in recorder.select_events(one)] == [first, first + 1, first + 2]
    assert recorder.max_notification_id() == 4


def test_many_new_streams_make_no_stream_begin_twice(recorder: PgApplicationRecorder) -> None:
    old = uuid4()
    recorder.insert_events([stored(old, 0)])
    for _ in range(100):
        recorder.insert_events([stored(uuid4(), 1)])
    with pytest.raises(IntegrityError):
        recorder.insert_events([stored(old, 0)])
    assert recorder.insert_events([stored(old, 1)]) == [102]


def test_any_topic_and_state(recorder: PgApplicationRecorder) -> None:
    states = [b"", b"\x00\xff", b"{}", b"x" * 100_000]
    events = [stored(uuid4(), 1, f"module.ünï:Class-{n}", state) for n, state in enumerate(states)]
    recorder.insert_events(events)
    found = recorder.select_notifications(start=None, limit=10)
    assert [(n.originator_id, n.originator_version, n.topic, n.state) for n in found] == [
        (e.originator_id, e.originator_version, e.topic, e.state) for e in events
    ]
    assert recorder.insert_events([]) == []


def test_wrong_input_is_a_data_error(recorder: PgApplicationRecorder) -> None:
    with pytest.raises(DataError):
        recorder.insert_events([stored("nul\x00", 1)])
    with pytest.raises(DataError):
        recorder.insert_events([stored("too many", n) for n in range(1001)])
    with pytest.raises(PersistenceError):
        recorder.insert_events([stored(uuid4(), 1, "nul\x00")])
    assert recorder.max_notification_id() is None


def test_a_closed_recorder_says_so(dsn: str) -> None:
    with open_recorder(dsn, uuid7()) as closed:
        pass
    with pytest.raises((OperationalError, RuntimeError)):
        closed.insert_events([stored(uuid4(), 1)])


@pytest.mark.parametrize(("ids", "originator"), [("uuid", uuid4()), ("text", "kv:c:k")])
def test_ids_come_back_as_they_were(dsn: str, ids: OriginatorIds, originator: UUID | str) -> None:
    with open_recorder(dsn, uuid7(), originator_ids=ids) as opened:
        opened.insert_events([stored(originator, 1)])
        assert opened.select_notifications(start=None, limit=1)[0].originator_id == originator
        assert opened.select_events(originator) == [stored(originator, 1)]


def test_select_events_in_part(recorder: PgApplicationRecorder) -> None:
    one = uuid4()
    recorder.insert_events([stored(one, n) for n in range(1, 8)])

    def versions(**kwargs: Any) -> list[int]:
        return [e.originator_version for e in recorder.select_events(one, **kwargs)]

    assert versions(gt=2, lte=5) == [3, 4, 5]
    assert versions(desc=True, limit=2) == [7, 6]
    assert versions(gt=5, limit=1) == [6]


def test_a_subscription_sees_what_another_process_appends(checked_dsn: str, recorder: PgApplicationRecorder) -> None:
    with open_recorder(checked_dsn, recorder._app_id) as other, recorder.subscribe(topics=["wanted"]) as subscription:
        found: list[Notification] = []
        reader = Thread(target=lambda: found.extend(islice(subscription, 3)))
        reader.start()
        for number in range(6):
            other.insert_events([stored(uuid4(), 1, "wanted" if number % 2 else "other")])
        reader.join(10)
        assert [notification.id for notification in found] == [2, 4, 6]


LONG = "x" * 10_000


@pytest.fixture
async def shop(checked_dsn: str) -> UUID:
    """An app with a history, beside another one."""
    app = uuid7()
    async with open_test_log(checked_dsn) as log:
        await log.append(unit(app, set_key("k", {"a": 1})))
        await log.append(unit(uuid7(), set_key("another app's")))
        await log.append(unit(app, set_key("k", LONG), delete_key("k")))
    return app


@pytest.fixture
async def exposed(checked_dsn: str, shop: UUID) -> AsyncIterator[str]:
    """A database in which that app's log is open to stock applications."""
    connection = await asyncpg.connect(checked_dsn)
    await connection.execute("CREATE ROLE auditor LOGIN")
    for _ in range(2):  # it may be asked for again
        await connection.execute("SELECT picloud_open_app($1, 'app_shop', 'Audit', 'auditor')", shop)
    yield checked_dsn
    await connection.execute("DROP SCHEMA app_shop CASCADE; DROP ROLE auditor")
    await connection.close()


def test_the_facade_reads_an_apps_log(checked_dsn: str, shop: UUID) -> None:
    with open_recorder(checked_dsn, shop, originator_ids="text") as opened:
        assert [n.topic for n in opened.select_notifications(start=1, limit=10)] == ["kv.KvSet", "kv.KvSet", "kv.KvDeleted"]
        with pytest.raises(IntegrityError):
            opened.insert_events([stored(entry("k"), 2)])


class Audit(Application[str]):
    """A stock application: nothing of it is ours."""


class KvSet:
    """What an auditor makes of `kv.KvSet`."""

    originator_id: str
    originator_version: int
    value: Any


@contextmanager
def audit(dsn: str, user: str) -> Iterator[Audit]:
    parts = urlsplit(dsn)
    env = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "CREATE_TABLE": "no",
        "ORIGINATOR_ID_TYPE": "text",
        "POSTGRES_SCHEMA": "app_shop",
        "POSTGRES_DBNAME": parts.path[1:],
        "POSTGRES_HOST": parse_qs(parts.query)["host"][0],
        "POSTGRES_USER": user,
        "POSTGRES_PASSWORD": "",
        "COMPRESSOR_TOPIC": "adapters.postgres.recorder:StateCompressor",
    }
    app = Audit(env)
    try:
        yield app
    finally:
        app.close()


@pytest.mark.parametrize("user", ["auditor", "postgres"])
def test_a_stock_application_reads_one_apps_log(exposed: str, user: str) -> None:
    with audit(exposed, user) as app:
        assert app.recorder.max_notification_id() == 3
        notifications = app.notification_log.select(start=1, limit=10)
        assert [(n.id, n.originator_id, n.originator_version, n.topic) for n in notifications] == [
            (1, entry("k"), 1, "kv.KvSet"),
            (2, entry("k"), 2, "kv.KvSet"),
            (3, entry("k"), 3, "kv.KvDeleted"),
        ]
        assert app.notification_log["2,3"].items == notifications[1:]
        assert app.notification_log.select(start=1, limit=10, topics=["kv.KvDeleted"]) == notifications[2:]
        assert [e.originator_version for e in app.recorder.select_events(entry("k"), gt=1)] == [2, 3]
        with app.recorder.subscribe(gt=0) as subscription:
            assert [n.id for n in islice(subscription, 3)] == [1, 2, 3]


def test_a_stock_application_maps_events_to_classes_of_its_own(exposed: str) -> None:
    register_topic("kv.KvSet", KvSet)
    try:
        with audit(exposed, "auditor") as app:
            events: list[Any] = list(app.events.get(entry("k"), lte=2))
    finally:
        clear_topic_cache()
    assert [(type(e), e.originator_version, e.value) for e in events] == [(KvSet, 1, {"a": 1}), (KvSet, 2, LONG)]


@pytest.mark.parametrize("user", ["auditor", "postgres"])
def test_a_stock_application_cannot_write(exposed: str, user: str) -> None:
    with audit(exposed, user) as app:
        with pytest.raises(PersistenceError):
            app.recorder.insert_events([stored("kv:c:x", 1)])
        assert app.recorder.max_notification_id() == 3


def _try(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO app_shop.audit_events (originator_id, originator_version, topic, state) VALUES ('x', 1, 't', '')",
        "UPDATE app_shop.audit_events SET topic = 'x'",
        "DELETE FROM app_shop.audit_events",
    ],
)
def test_the_view_refuses_writes_whoever_makes_them(exposed: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        _try(exposed, statement)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        _try(exposed, f"SET ROLE auditor; {statement}")


def test_a_reader_sees_no_other_app(exposed: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        _try(exposed, "SET ROLE auditor; SELECT * FROM public.events")
