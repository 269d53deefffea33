"""What outsiders cause as often as they like is told as little."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from domain.access import LoginFailed, Suppressed
from runtime.access.coalescing import MAX_KINDS, MAX_KINDS_PER_ORIGIN, WINDOW_S, Coalescer, Origin, Told
from runtime.access.key_uses import MAX_ADDRESSES, KeyUses
from runtime.access.networks import network_of

START = datetime(2026, 1, 1, tzinfo=UTC)
PUBLIC = Origin("public", "access:unknown", "logins")
ADA = Origin("user:ada", "access:ada", "calls")


def note(table: Coalescer, at_s: float, address: str = "1.2.3.4", origin: Origin = PUBLIC) -> None:
    at = START + timedelta(seconds=at_s)
    table.note(origin, ("failed", address), "access:ada", LoginFailed(user_id=None, address=address, count=1, first_at=at, last_at=at), at_s)


def counts(told: list[Told]) -> list[int]:
    return [found.event.count for found in told]


def test_the_first_is_told_at_once_and_its_repetitions_of_a_minute_together() -> None:
    table = Coalescer()
    note(table, 0)
    (first,) = table.take(1)
    assert (first.origin, first.stream, first.event.count) == (PUBLIC, "access:ada", 1)
    for second in (2, 3, 40):
        note(table, second)
    assert table.take(1 + WINDOW_S - 0.1) == []
    (rest,) = table.take(1 + WINDOW_S)
    assert (rest.event.count, rest.event.first_at, rest.event.last_at) == (3, START + timedelta(seconds=2), START + timedelta(seconds=40))
    assert table.take(1 + 2 * WINDOW_S) == []
    assert len(table) == 0, "what is over is forgotten"
    note(table, 1000)
    assert counts(table.take(1000)) == [1]


def test_what_repeats_itself_before_the_first_look_is_one_event() -> None:
    table = Coalescer()
    for _ in range(5):
        note(table, 0)
    assert counts(table.take(1)) == [5]


def test_one_originator_is_told_of_in_so_many_kinds_and_one_sum_and_does_not_hide_others() -> None:
    table = Coalescer()
    for number in range(MAX_KINDS_PER_ORIGIN + 25):
        note(table, 0, f"a{number}")
    note(table, 0, "a0", ADA)
    told = table.take(1)
    assert len(told) == MAX_KINDS_PER_ORIGIN + 2
    (suppressed,) = [found for found in told if isinstance(found.event, Suppressed)]
    assert isinstance(suppressed.event, Suppressed)
    assert (suppressed.stream, suppressed.event.part, suppressed.event.count) == ("access:unknown", "logins", 25)
    assert [found.origin for found in told].count(ADA) == 1
    for number in range(100, 200):
        note(table, 2, f"a{number}")
    assert table.take(3) == []
    assert counts(table.take(1 + WINDOW_S)) == [100], "within the same minute all of it is in the sum"


def test_whoever_has_many_keys_is_one_originator() -> None:
    table = Coalescer()
    for key in range(100):
        for number in range(MAX_KINDS_PER_ORIGIN):
            note(table, 0, f"a{number}", Origin(f"key:{key}", "access:mallory", "calls"))
    note(table, 0)
    told = table.take(1)
    assert [type(found.event) for found in told if found.origin == PUBLIC] == [LoginFailed], "nobody else is hidden by it"
    assert sum(counts(told)) == 100 * MAX_KINDS_PER_ORIGIN + 1
    assert len(told) <= MAX_KINDS_PER_ORIGIN + 100 + 1
    table.take(1 + 2 * WINDOW_S)
    table.take(2 + 3 * WINDOW_S)
    assert len(table) == 0


def test_the_table_is_bounded_whoever_fills_it() -> None:
    table = Coalescer()
    originators = [Origin(f"user:{number}", f"access:{number}", "calls") for number in range(200)]
    for origin in originators:
        for number in range(40):
            note(table, 0, f"a{number}", origin)
    assert len(table) <= MAX_KINDS + len(originators)
    assert sum(counts(table.take(0))) == 200 * 40


@given(st.lists(st.tuples(st.sampled_from(["note", "take"]), st.integers(0, 90), st.integers(0, 3)), max_size=60))
def test_nothing_is_lost_and_nothing_told_twice(steps: list[tuple[str, int, int]]) -> None:
    table, now, noted, told = Coalescer(), 0.0, 0, 0
    for what, passed, who in steps:
        now += passed
        if what == "note":
            note(table, now, f"a{who}")
            noted += 1
        else:
            told += sum(counts(table.take(now)))
    assert told + sum(counts(table.take(now, everything=True))) == noted


def test_a_key_is_new_once_a_day_and_address() -> None:
    uses = KeyUses()
    key, day = uuid4(), date(2026, 1, 1)
    assert [uses.is_first(key, address, day) for address in ("a", "a", "b")] == [True, False, True]
    assert uses.is_first(key, "a", day + timedelta(days=1))
    assert sum(uses.is_first(key, str(number), day + timedelta(days=1)) for number in range(1000)) == MAX_ADDRESSES - 1


def test_people_are_told_apart_by_what_is_theirs() -> None:
    assert network_of("10.0.0.1") == network_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff%eth0") == "2001:db8::/64"
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("") == ""
    assert network_of("unix") == "unix"
