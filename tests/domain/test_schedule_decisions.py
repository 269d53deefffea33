"""What becomes of a run that is asked for and taken back."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from domain.errors import Invalid
from domain.executions import ExecutionSkipped, Task
from domain.retry import RetryPolicy
from domain.schedule import MAX_PAYLOAD_BYTES, CancelExecution, ExecutionCanceled, ExecutionScheduled, ScheduleExecution, check_payload
from tests.domain.given import given

ID = UUID(int=1)
ASK = ScheduleExecution(execution_id=ID, script_id=UUID(int=2), run_at=datetime(2090, 1, 1, tzinfo=UTC), payload=msgspec.Raw(b"1"))
ASKED = ExecutionScheduled(execution_id=ID, script_id=ASK.script_id, run_at=ASK.run_at, payload=ASK.payload, retry=RetryPolicy())
SKIPPED = ExecutionSkipped(task=Task(execution_id=ID, source="schedule", script_id=ASK.script_id, trigger_id=None, cause_position=1), reason="depth")
CANCEL = CancelExecution(execution_id=ID)
LENIENT = CancelExecution(execution_id=ID, lenient=True)


def test_a_run_is_asked_for_once() -> None:
    given().when(ASK).then(ASKED)
    given(ASKED).when(ASK).refused("invalid", "id")
    given(ASKED, ExecutionCanceled(execution_id=ID)).when(ASK).refused("invalid", "id")


def test_only_what_has_no_outcome_is_cancelled() -> None:
    given(ASKED).when(CANCEL).then(ExecutionCanceled(execution_id=ID))
    given(ASKED).when(LENIENT).then(ExecutionCanceled(execution_id=ID))
    given().when(CANCEL).refused("not_found")
    given(ASKED, SKIPPED).when(CANCEL).refused("not_scheduled")
    given(ASKED, ExecutionCanceled(execution_id=ID)).when(CANCEL).refused("not_scheduled")
    given().when(LENIENT).then()
    given(ASKED, SKIPPED).when(LENIENT).then()


@pytest.mark.parametrize("payload", ["x" * MAX_PAYLOAD_BYTES, "\x00", "\ud800", float("nan"), b"x", {1: 2}])
def test_payloads_are_bounded_json(payload: object) -> None:
    with pytest.raises(Invalid) as refusal:
        check_payload(payload)
    assert refusal.value.field == "payload"
