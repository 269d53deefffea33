"""The judge: units in order against one app's head, each all or nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.errors import AlreadyExists, Conflict, Invalid, LogClosed, PiCloudError, ReadConflict, VersionConflict
from domain.events import Event, Metadata, Recorded
from domain.ids import stream
from domain.judge import Head, Judge, Rules, streams_of
from domain.kv import AGGREGATE, DeleteKey, IncrementKey, KvDeleted, KvExpired, KvSet, SetKey
from domain.units import ABSENT, ANY, EMPTY_STREAM, MAX_UNIT_EVENTS, Change, Effect, Read, Record, Stream, Unit
from tests.domain.given import NOW

APP = UUID(int=7)
RULES = Rules([AGGREGATE])


def setting(key: str, value: Any = 1, ttl_s: float | None = None) -> SetKey:
    return SetKey(collection="c", key=key, value=msgspec.Raw(msgspec.json.encode(value)), ttl_s=ttl_s)


def adding(key: str, by: int = 1) -> IncrementKey:
    return IncrementKey(collection="c", key=key, by=by)


def name(key: str) -> str:
    return stream("kv", "c", key)


def was_set(key: str, expires_in_s: float | None = None) -> KvSet:
    expires_at = None if expires_in_s is None else NOW + timedelta(seconds=expires_in_s)
    return KvSet(op="insert", collection="c", key=key, value=msgspec.Raw(b"1"), expires_at=expires_at)


def unit(*changes: Change | Effect, reads: tuple[Read, ...] = ()) -> Unit:
    whole = tuple(change if isinstance(change, Change) else Change(change) for change in changes)
    return Unit(app_id=APP, metadata=Metadata(unit_id=UUID(int=1)), now=NOW, changes=whole, reads=reads)


class Log:
    """A judge over the given streams; streams that are not given are empty."""

    def __init__(self, position: int = 10, *, closed: bool = False, **streams: Stream) -> None:
        self.states = _Empty({name(key): state for key, state in streams.items()})
        self.judge = Judge(RULES, APP, Head(position=position, last_recorded_at=NOW, closed=closed), self.states, NOW)

    def append(self, appended: Unit) -> tuple[Recorded, ...]:
        events = self.judge.judge(appended)
        self.judge.accept(events)
        return events

    def refuses(self, appended: Unit, error: type[PiCloudError]) -> PiCloudError:
        before = dict(self.states), self.judge.position
        with pytest.raises(error) as refusal:
            self.judge.judge(appended)
        assert type(refusal.value) is error
        assert (dict(self.states), self.judge.position) == before
        return refusal.value


class _Empty(dict[str, Stream]):
    def __missing__(self, key: str) -> Stream:
        return EMPTY_STREAM


DELETED = KvDeleted(collection="c", key="k")


def test_positions_and_versions_go_on_from_the_head() -> None:
    log = Log(10, k=Stream(4, was_set("k")))
    events = log.append(unit(setting("k"), setting("x"), adding("k")))
    assert [(e.position, e.stream, e.version) for e in events] == [(11, name("k"), 5), (12, name("x"), 1), (13, name("k"), 6)]
    assert [e.position for e in log.append(unit(setting("x")))] == [14]
    assert log.states[name("x")].version == 2


def test_every_event_of_a_unit_has_its_metadata_and_one_time() -> None:
    head = Head(position=0, last_recorded_at=NOW + timedelta(seconds=5))
    events = Judge(RULES, APP, head, _Empty(), NOW).judge(unit(setting("a"), setting("b")))
    # Time does not run backwards, whatever this host's clock says.
    assert {e.recorded_at for e in events} == {NOW + timedelta(seconds=5)}
    assert {e.metadata for e in events} == {Metadata(unit_id=UUID(int=1))}
    assert {e.app_id for e in events} == {APP}


def test_judging_changes_nothing_until_it_is_accepted() -> None:
    log = Log()
    log.judge.judge(unit(setting("a")))
    assert (log.states, log.judge.position) == ({}, 10)
    (event,) = log.append(unit(setting("a")))
    assert event.version == 1


@pytest.mark.parametrize(
    ("state", "expect", "error"),
    [
        (EMPTY_STREAM, ANY, None),
        (EMPTY_STREAM, ABSENT, None),
        (EMPTY_STREAM, 1, VersionConflict),
        (Stream(3, was_set("k")), ANY, None),
        (Stream(3, was_set("k")), ABSENT, AlreadyExists),
        (Stream(3, was_set("k")), 3, None),
        (Stream(3, was_set("k")), 2, VersionConflict),
        (Stream(3, was_set("k")), 4, VersionConflict),
        (Stream(3, DELETED), ABSENT, None),
        (Stream(3, DELETED), 3, VersionConflict),
        (Stream(3, was_set("k", expires_in_s=0)), ABSENT, None),
        (Stream(3, was_set("k", expires_in_s=0)), 3, VersionConflict),
        (Stream(3, was_set("k", expires_in_s=1)), 3, None),
    ],
)
def test_expectations(state: Stream, expect: int, error: type[PiCloudError] | None) -> None:
    log = Log(k=state)
    appending = unit(setting("other"), Change(setting("k"), expect))
    if error is None:
        assert log.append(appending)[1].stream == name("k")
    else:
        assert log.refuses(appending, error).extra["stream"] == name("k")


@pytest.mark.parametrize(
    ("state", "version", "holds"),
    [
        (EMPTY_STREAM, ABSENT, True),
        (EMPTY_STREAM, 1, False),
        (Stream(3, was_set("k")), 3, True),
        (Stream(3, was_set("k")), 2, False),
        (Stream(3, was_set("k")), ABSENT, False),
        (Stream(3, DELETED), ABSENT, True),
        (Stream(3, DELETED), 3, True),
        (Stream(3, was_set("k", expires_in_s=0)), ABSENT, True),
        (Stream(3, was_set("k", expires_in_s=1)), ABSENT, False),
    ],
)
def test_read_sets(state: Stream, version: int, holds: bool) -> None:  # noqa: FBT001  # a column of the table above
    log = Log(k=state)
    reading = unit(setting("other"), reads=(Read(name("k"), version),))
    if holds:
        assert len(log.append(reading)) == 1
    else:
        assert log.refuses(reading, ReadConflict).extra == {"stream": name("k")}


def test_what_a_unit_has_read_is_compared_with_the_log_and_not_with_its_own_changes() -> None:
    log = Log(k=Stream(3, was_set("k")))
    assert len(log.append(unit(setting("k"), reads=(Read(name("k"), 3),)))) == 1
    log.refuses(unit(setting("k"), reads=(Read(name("k"), 3),)), ReadConflict)


def test_expectations_see_the_units_own_changes() -> None:
    log = Log(k=Stream(3, was_set("k")))
    remove = DeleteKey(collection="c", key="k")
    events = log.append(unit(Change(setting("k"), 3), Change(remove, 4), Change(setting("k"), ABSENT)))
    assert [type(e.event) for e in events] == [KvSet, KvDeleted, KvSet]
    log.refuses(unit(Change(setting("k"), 6), Change(setting("k"), 6)), VersionConflict)


def test_a_refusal_in_the_middle_refuses_all() -> None:
    log = Log(k=Stream(1, KvSet(op="insert", collection="c", key="k", value=msgspec.Raw(b'"text"'))))
    assert log.refuses(unit(setting("a"), adding("k"), setting("b")), Invalid).code == "not_a_number"
    assert [e.position for e in log.append(unit(setting("a")))] == [11]


def test_an_effect_may_come_to_several_events_or_none() -> None:
    log = Log(k=Stream(1, was_set("k", expires_in_s=0)))
    events = log.append(unit(DeleteKey(collection="c", key="missing"), setting("k")))
    assert [(type(e.event), e.version) for e in events] == [(KvExpired, 2), (KvSet, 3)]
    assert log.append(unit(DeleteKey(collection="c", key="missing"))) == ()
    assert log.append(unit()) == ()


def test_a_unit_has_so_many_events_and_no_more() -> None:
    log = Log()
    assert len(log.append(unit(*(adding("n") for _ in range(MAX_UNIT_EVENTS))))) == MAX_UNIT_EVENTS
    assert log.refuses(unit(*(adding("n") for _ in range(MAX_UNIT_EVENTS + 1))), Invalid).code == "unit_too_large"


def test_a_closed_log_takes_nothing() -> None:
    log = Log(closed=True)
    log.refuses(unit(setting("k")), LogClosed)
    log.refuses(unit(), LogClosed)


def test_record_appends_what_was_decided_before() -> None:
    log = Log(k=Stream(1, was_set("k")))
    (event,) = log.append(unit(Change(Record(name=name("k"), event=DELETED), 1)))
    assert (event.event, event.version) == (DELETED, 2)


def test_every_conflict_is_one() -> None:
    assert all(issubclass(error, Conflict) for error in (VersionConflict, AlreadyExists, ReadConflict, LogClosed))


def test_a_unit_needs_the_streams_it_touches_and_has_read() -> None:
    assert streams_of(unit(setting("a"), adding("a"), adding("b"), reads=(Read(name("c"), 1), Read(name("a"), 0)))) == {name("a"), name("b"), name("c")}


keys = st.sampled_from(["a", "b"])
changes = st.one_of(st.builds(setting, keys, st.integers()), st.builds(adding, keys), st.builds(lambda key: DeleteKey(collection="c", key=key), keys))
units = st.builds(lambda parts: unit(*parts), st.lists(st.builds(Change, changes, st.integers(-1, 3)), max_size=4))


@for_all(st.lists(units, max_size=12))
def test_whatever_is_appended_the_log_has_no_gaps_and_its_streams_are_its_fold(history: list[Unit]) -> None:
    log = Log(0)
    recorded: list[Recorded] = []
    for appending in history:
        try:
            recorded.extend(log.append(appending))
        except PiCloudError:
            continue
    assert [e.position for e in recorded] == list(range(1, len(recorded) + 1))
    folded: dict[str, tuple[int, Event]] = {}
    for e in recorded:
        assert e.version == folded.get(e.stream, (0, None))[0] + 1
        folded[e.stream] = (e.version, e.event)
    assert {found: (state.version, state.last) for found, state in log.states.items()} == folded
