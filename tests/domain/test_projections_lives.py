from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from domain.apps import AppCreated, AppDeleted, app_stream
from domain.events import Event, Metadata, Recorded
from domain.ids import NIL_APP
from domain.users import UserCreated, UserDeleted, user_stream
from projections.control import Apps, Users
from projections.rows import lives

START = datetime(2026, 1, 1, tzinfo=UTC)
ONE, TWO = UUID(int=1), UUID(int=2)


def log(*events: tuple[str, Event]) -> list[Recorded]:
    metadata = Metadata(unit_id=UUID(int=9))
    return [
        Recorded(app_id=NIL_APP, position=n, stream=stream, version=n, event=event, metadata=metadata, recorded_at=START + timedelta(seconds=n))
        for n, (stream, event) in enumerate(events, start=1)
    ]


def user(user_id: UUID, *, active: bool = True) -> tuple[str, Event]:
    return user_stream(user_id), UserCreated(user_id=user_id, username="Ann", active=active)


def gone(user_id: UUID) -> tuple[str, Event]:
    return user_stream(user_id), UserDeleted(user_id=user_id, username="Ann")


def test_a_life_begins_with_its_first_event() -> None:
    (life,) = lives(log(user(ONE), user(ONE, active=False)), UserDeleted)
    assert life.created_at == START + timedelta(seconds=1)
    assert life.last.position == 2
    assert not life.reborn


def test_a_life_after_an_end_is_another() -> None:
    (life,) = lives(log(user(ONE), gone(ONE), user(ONE), user(ONE)), UserDeleted)
    assert life.created_at == START + timedelta(seconds=3)
    assert life.reborn


def test_subjects_of_different_logs_are_different() -> None:
    first = log(user(ONE))
    second = [msgspec.structs.replace(recorded, app_id=TWO) for recorded in log(user(ONE))]
    assert [life.last.app_id for life in lives([*first, *second], UserDeleted)] == [NIL_APP, TWO]


def test_a_name_that_changes_hands_takes_one_stage() -> None:
    (stage,) = Users().apply(log(user(ONE), gone(ONE), user(TWO)))
    assert len(stage) == 2


def test_a_subject_made_again_loses_its_old_row_first() -> None:
    first, second = Users().apply(log(user(ONE), gone(ONE), user(ONE)))
    assert first[0].sql.startswith("DELETE")
    assert second[0].sql.startswith("INSERT")


def test_parts_of_a_projection_share_stages() -> None:
    created = (app_stream(ONE), AppCreated(app_id=ONE, name="One", slug="one"))
    deleted = (app_stream(TWO), AppDeleted(app_id=TWO, slug="two"))
    (stage,) = Apps().apply(log(created, deleted))
    assert sorted(statement.sql.split()[0] for statement in stage) == ["DELETE", "INSERT", "INSERT"]
