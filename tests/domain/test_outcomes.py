"""What an ending of a queued execution comes to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.dead_letters import ResolveDeadLetter
from domain.events import Event
from domain.executions import ExecutionDeadLettered, ExecutionFailed, ExecutionSkipped, ExecutionSucceeded, Task
from domain.retry import RetryPolicy
from domain.sandbox import Ending, Reply, RunResult, ScriptError
from domain.units import Change, Record
from runtime.outcomes import WORKER_LOST, Attempt, Retries, Terms, settle, settle_failure, skip

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TASK = Task(execution_id=uuid4(), source="kv", script_id=uuid4(), trigger_id=uuid4(), cause_position=7)
LETTER = Task(execution_id=uuid4(), source="kv", script_id=uuid4(), trigger_id=uuid4(), cause_position=3)
REPLY = Reply(status=200, headers={}, body=b"1")
POLICY = RetryPolicy(max_attempts=3, backoff="exponential", base_ms=1000, jitter_pct=20)


def attempt(number: int) -> Attempt:
    return Attempt(task=TASK, number=number, first_at=NOW, started_at=NOW, duration_ms=1.0, script_version=2)


def terms(retries: Retries = "policy", **more: Any) -> Terms:
    return Terms(policy=POLICY, retries=retries, **more)


def result(ending: Ending) -> RunResult:
    return RunResult(ending=ending, reply=REPLY if ending in {"returned", "aborted"} else None, error=None if ending == "returned" else ScriptError("E", "m"))


def events(changes: tuple[Change, ...]) -> list[Event]:
    return [change.effect.event for change in changes if isinstance(change.effect, Record)]


@pytest.mark.parametrize("ending", ["returned", "aborted"])
@pytest.mark.parametrize("keeps", [True, False])
def test_an_answer_is_a_success_and_kept_for_who_asks(ending: Ending, keeps: bool) -> None:  # noqa: FBT001
    (event,) = events(settle(attempt(1), terms(keeps_reply=keeps), result(ending), NOW, 0.5))
    assert isinstance(event, ExecutionSucceeded)
    assert (event.reply, event.attempt, event.script_version) == (REPLY if keeps else None, 1, 2)


@pytest.mark.parametrize("ending", ["raised", "invalid", "timed_out", "budget", "crashed"])
def test_failures_wait_twice_as_long_each_time_then_are_dead(ending: Ending) -> None:
    waits = []
    for number in (1, 2):
        (failed,) = events(settle(attempt(number), terms(), result(ending), NOW, 0.5))
        assert isinstance(failed, ExecutionFailed)
        assert (failed.reason, failed.attempt, failed.next_attempt) == (ending, number, number + 1)
        assert failed.retry_at is not None
        waits.append(failed.retry_at - NOW)
    assert waits == [timedelta(seconds=1), timedelta(seconds=2)]
    (dead,) = events(settle(attempt(3), terms(), result(ending), NOW, 0.5))
    assert isinstance(dead, ExecutionDeadLettered)
    assert (dead.attempts, dead.reason) == (3, ending)


@pytest.mark.parametrize("number", [1, 3, 99])
def test_contention_spends_no_attempt(number: int) -> None:
    (failed,) = events(settle(attempt(number), terms(), result("contention"), NOW, 0.5))
    assert isinstance(failed, ExecutionFailed)
    assert (failed.next_attempt, failed.reason) == (number, "contention")
    assert failed.retry_at is not None


def test_the_scripts_own_failure_ends_a_durable_request_but_a_lost_worker_does_not() -> None:
    (ended,) = events(settle(attempt(1), terms("worker_lost"), result("raised"), NOW, 0.5))
    assert isinstance(ended, ExecutionFailed)
    assert ended.retry_at is None
    (again,) = events(settle_failure(attempt(1), terms("worker_lost"), "worker_lost", WORKER_LOST, NOW, 0.5))
    assert isinstance(again, ExecutionFailed)
    assert again.next_attempt == 2
    (last,) = events(settle_failure(attempt(3), terms("worker_lost"), "worker_lost", WORKER_LOST, NOW, 0.5))
    assert isinstance(last, ExecutionFailed)
    assert last.retry_at is None


@pytest.mark.parametrize(("ending", "resolution"), [("returned", "handled_by_script"), ("raised", "handler_failed")])
def test_a_handler_resolves_its_dead_letter_and_is_never_tried_again(ending: Ending, resolution: str) -> None:
    outcome, resolve = settle(attempt(1), terms("never", handles=LETTER), result(ending), NOW, 0.5)
    assert isinstance(outcome.effect, Record)
    assert not isinstance(outcome.effect.event, ExecutionDeadLettered)
    assert getattr(outcome.effect.event, "retry_at", None) is None
    assert isinstance(resolve.effect, ResolveDeadLetter)
    assert (resolve.effect.dead_letter_id, resolve.effect.resolution, resolve.effect.lenient) == (LETTER.execution_id, resolution, True)


def test_a_skip_is_one_event() -> None:
    assert events(skip(TASK, "depth")) == [ExecutionSkipped(task=TASK, reason="depth")]
