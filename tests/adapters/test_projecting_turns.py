"""Whose events a follower applies next."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from adapters.postgres.projecting.turns import MAX_APPS, MAX_EVENTS, Turns, reached, shares

A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)


@given(behind=st.dictionaries(st.uuids(), st.integers(1, 5000), min_size=1, max_size=60), room=st.integers(60, 2000))
def test_room_is_shared_and_nobody_is_left_out(behind: dict[UUID, int], room: int) -> None:
    found = shares(behind, room)
    assert found.keys() == behind.keys()
    assert all(1 <= events <= behind[app_id] for app_id, events in found.items())
    assert sum(found.values()) == min(room, sum(behind.values()))
    least = min(found.values())
    assert all(events == behind[app_id] or events >= least for app_id, events in found.items())


def test_a_long_log_leaves_room_for_short_ones() -> None:
    assert shares({A: 1_000_000, B: 3}, 1000) == {A: 997, B: 3}


def test_those_that_wait_go_before_those_that_have_had_their_turn() -> None:
    turns = Turns()
    apps = [UUID(int=number) for number in range(1, 2 * MAX_APPS + 1)]
    turns.reached(dict.fromkeys(apps, 0))
    for app_id in apps:
        turns.moved(app_id, 10 * MAX_EVENTS)
    first = turns.next(0)
    assert {app_id for app_id, _, _ in first} == set(apps[:MAX_APPS])
    turns.reached({app_id: up_to for app_id, _, up_to in first})
    assert {app_id for app_id, _, _ in turns.next(0)} == set(apps[MAX_APPS:])


def test_who_cannot_go_on_is_let_alone_longer_and_longer() -> None:
    turns = Turns()
    turns.reached({A: 0, B: 5})
    turns.moved(A, 3)
    turns.moved(B, 7)
    pauses = [turns.failed(A, 0) for _ in range(9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert turns.next(59) == [(B, 5, 7)]
    turns.reached({B: 7})
    assert turns.next(59) == []
    assert turns.idle_s(59) == 1
    assert turns.next(60) == [(A, 0, 3)]
    turns.reached({A: 3})
    assert turns.idle_s(60) is None


def test_who_comes_while_others_are_asked_about_has_his_turn_next() -> None:
    turns = Turns()
    turns.moved(A, 3)
    asked = turns.unknown()
    turns.moved(B, 2)
    turns.reached({A: 0})
    turns.drop_unknown(asked)
    assert turns.next(0) == [(A, 0, 3)]
    turns.reached({A: 3})
    assert turns.unknown() == [B]
    assert turns.idle_s(0) == 0


def test_what_is_known_already_is_no_news() -> None:
    turns = Turns()
    turns.moved(A, 4)
    assert turns.unknown() == [A]
    turns.reached({A: 4})
    turns.moved(A, 4)
    assert turns.next(0) == []
    turns.moved(A, 5)
    assert turns.next(0) == [(A, 4, 5)]


def test_a_page_that_was_cut_ends_at_its_last_row() -> None:
    rows = [{"app_id": A, "position": 1, "found": 1}, {"app_id": B, "position": 3, "found": 4}, {"app_id": B, "position": 4, "found": 4}]
    assert reached([(A, 0, 10), (B, 2, 6), (C, 0, 9)], rows) == {A: 10, B: 4, C: 9}
