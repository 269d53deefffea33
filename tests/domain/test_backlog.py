"""How far ahead rows are claimed, whose turn it is, and what is given back."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID, uuid4

from domain.events import Metadata, Recorded
from domain.executions import Task
from domain.kv import KvDeleted
from projections.outbox.claims import Claim
from runtime.backlog import GIVE_BACK_AFTER_S, MAX_AHEAD, Backlog
from runtime.dispatch import Work

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BUSY, OTHER = uuid4(), uuid4()
SLOTS = 16


def work(app_id: UUID) -> Work:
    task = Task(execution_id=uuid4(), source="kv", script_id=uuid4(), trigger_id=None, cause_position=1)
    event = KvDeleted(collection="c", key="k", op="delete")
    metadata = Metadata(unit_id=uuid4())
    cause = Recorded(app_id=app_id, position=1, stream="s", version=1, event=event, metadata=metadata, recorded_at=NOW)
    claim = Claim(app_id=app_id, task=task, attempt=1, due_at=NOW, first_attempt_at=None, token=1)
    return Work(claim=claim, cause=cause, before=None, trigger=None)


def claim(backlog: Backlog, app_id: UUID, now_s: float, due: int = 1_000_000) -> int:
    """Claim as the query does: what is due, within the app's share and the room that there is. Returns how many rows that were."""
    shares = backlog.shares()
    found = max(0, min(due, shares.room, shares.per_app - shares.held.get(app_id, 0)))
    backlog.looked(shares, Counter({app_id: found}), now_s)
    for _ in range(found):
        backlog.wait(work(app_id), now_s)
    return found


def begin_all(backlog: Backlog, now_s: float) -> list[Work]:
    begun = []
    while (next_work := backlog.begin(now_s)) is not None:
        begun.append(next_work)
    return begun


def finish(backlog: Backlog, app_id: UUID) -> bool:
    """End a run and its row; whether it is worth claiming again."""
    backlog.ended(app_id)
    backlog.leave(app_id)
    return backlog.wants_more(app_id)


def run_all(backlog: Backlog, app_id: UUID, now_s: float) -> None:
    """Run what waits, as quickly as there are slots."""
    while begun := begin_all(backlog, now_s):
        for _ in begun:
            finish(backlog, app_id)


def test_an_app_has_half_of_the_slots() -> None:
    backlog = Backlog(SLOTS)
    assert claim(backlog, BUSY, 0.0) == SLOTS // 2
    assert len(begin_all(backlog, 0.0)) == SLOTS // 2
    assert claim(backlog, OTHER, 0.0) == SLOTS // 2
    assert {begun.claim.app_id for begun in begin_all(backlog, 0.0)} == {OTHER}
    assert backlog.begin(0.0) is None


def test_short_runs_are_claimed_further_and_further_ahead() -> None:
    backlog = Backlog(SLOTS)
    found = []
    for _ in range(8):
        found.append(claim(backlog, BUSY, 0.0))
        run_all(backlog, BUSY, 0.0)
    assert found[0] == SLOTS // 2
    assert found == sorted(found)
    assert found[-1] == (SLOTS + MAX_AHEAD) // 2


def test_nothing_is_claimed_ahead_where_nothing_was_left() -> None:
    backlog = Backlog(SLOTS)
    for _ in range(8):
        assert claim(backlog, BUSY, 0.0, due=3) == 3
        run_all(backlog, BUSY, 0.0)
        assert not backlog.may_have_left
    assert backlog.room == SLOTS


def test_a_late_beginning_halves_what_is_claimed_ahead() -> None:
    backlog = Backlog(SLOTS)
    while backlog.room < SLOTS + MAX_AHEAD:
        claim(backlog, BUSY, 0.0)
        run_all(backlog, BUSY, 0.0)
    claim(backlog, BUSY, 1.0)
    run_all(backlog, BUSY, 1.2)
    claim(backlog, BUSY, 1.2, due=0)
    assert backlog.room == SLOTS + MAX_AHEAD // 2


def test_what_waits_too_long_is_given_back_and_leaves_room_for_others() -> None:
    backlog = Backlog(SLOTS)
    while backlog.room < SLOTS + MAX_AHEAD:
        claim(backlog, BUSY, 0.0)
        run_all(backlog, BUSY, 0.0)
    found = claim(backlog, BUSY, 1.0)
    begun = begin_all(backlog, 1.0)  # and they do not end
    assert len(begun) == SLOTS // 2
    assert backlog.overdue(1.0 + GIVE_BACK_AFTER_S / 2) == []
    late = backlog.overdue(1.0 + GIVE_BACK_AFTER_S)
    assert len(late) == found - len(begun)
    for given_back in late:
        backlog.leave(given_back.claim.app_id)
    assert not backlog.waits()
    assert claim(backlog, OTHER, 2.0) == SLOTS // 2


def test_where_runs_are_long_a_free_slot_is_filled_at_once() -> None:
    backlog = Backlog(SLOTS)
    while backlog.room < SLOTS + MAX_AHEAD:
        claim(backlog, BUSY, 0.0)
        run_all(backlog, BUSY, 0.0)
    claim(backlog, BUSY, 1.0)
    begin_all(backlog, 1.0)
    for given_back in backlog.overdue(2.0):
        backlog.leave(given_back.claim.app_id)
    assert claim(backlog, BUSY, 2.0) == 0
    assert finish(backlog, BUSY)
    assert claim(backlog, BUSY, 2.0) == 1


def test_where_runs_are_short_many_are_claimed_at_a_time() -> None:
    backlog = Backlog(SLOTS)
    while backlog.room < SLOTS + MAX_AHEAD:
        claim(backlog, BUSY, 0.0)
        run_all(backlog, BUSY, 0.0)
    found = claim(backlog, BUSY, 0.0)
    wanted = []
    while begin_all(backlog, 0.0):
        wanted.append(finish(backlog, BUSY))
    assert wanted.index(True) == found // 2 - 1


def test_slots_go_to_the_app_that_has_the_fewest() -> None:
    backlog = Backlog(4)
    for app_id in (BUSY, BUSY, OTHER, BUSY, OTHER):
        backlog.wait(work(app_id), 0.0)
    order = [begun.claim.app_id for begun in begin_all(backlog, 0.0)]
    assert Counter(order) == {BUSY: 2, OTHER: 2}
    assert order[0] != order[1]


def test_what_is_forgone_waits_no_more_but_is_held_until_it_is_given_back() -> None:
    backlog = Backlog(2)
    for app_id in (BUSY, OTHER):
        backlog.hold(app_id)
        backlog.wait(work(app_id), 0)
    assert {each.claim.app_id for each in backlog.forgo()} == {BUSY, OTHER}
    assert (backlog.waits(), backlog.begin(0), len(backlog)) == (False, None, 2)
