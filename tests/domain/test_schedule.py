"""When schedules are due: fields, weekdays, daylight saving, missed times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from runtime.cron.schedule import first_due, schedule_of

BERLIN = "Europe/Berlin"


def due(schedule: str, after: str, count: int = 1, timezone: str = "UTC") -> list[str]:
    """The next times, as the clock on the wall shows them with its offset."""
    zone = ZoneInfo(timezone)
    at: datetime | None = datetime.fromisoformat(after).replace(tzinfo=zone).astimezone(UTC)
    found = []
    for _ in range(count):
        assert at is not None
        at = schedule_of(schedule, timezone).next_due(at)
        assert at is not None
        found.append(at.astimezone(zone).strftime("%m-%d %H:%M:%S%z"))
    return found


@pytest.mark.parametrize(
    ("schedule", "first"),
    [
        ("* * * * * *", "01-01 12:00:01+0000"),
        ("*/20 * * * * *", "01-01 12:00:20+0000"),
        ("0 0 9 * * *", "01-02 09:00:00+0000"),
        ("0 0 9 1 FEB *", "02-01 09:00:00+0000"),
        ("0 0 9 1,15 * *", "01-15 09:00:00+0000"),
        ("0 0 0 last * *", "01-31 00:00:00+0000"),
        ("0 0 9 13 * FRI", "02-13 09:00:00+0000"),
    ],
)
def test_fields_stand_seconds_first_and_day_and_weekday_must_both_match(schedule: str, first: str) -> None:
    assert due(schedule, "2026-01-01T12:00:00") == [first]


@pytest.mark.parametrize(
    ("weekdays", "expected"),
    [
        ("0", ["Sun"]),
        ("7", ["Sun"]),
        ("1", ["Mon"]),
        ("SUN", ["Sun"]),
        ("1-5", ["Mon", "Tue", "Wed", "Thu", "Fri"]),
        ("5-7", ["Fri", "Sat", "Sun"]),
        ("0-2", ["Mon", "Tue", "Sun"]),
        ("sat-sun", ["Sat", "Sun"]),
        ("MON,3,fri", ["Mon", "Wed", "Fri"]),
        ("*/3", ["Wed", "Sat", "Sun"]),
        ("1/3", ["Mon", "Thu"]),
        ("1-5/2", ["Mon", "Wed", "Fri"]),
    ],
)
def test_weekdays_are_numbered_from_sunday(weekdays: str, expected: list[str]) -> None:
    at: datetime | None = datetime(2026, 1, 4, 23, tzinfo=UTC)  # a Sunday, after its tick
    found = []
    for _ in expected:
        assert at is not None
        at = schedule_of(f"0 0 12 * * {weekdays}", "UTC").next_due(at)
        assert at is not None
        found.append(at.strftime("%a"))
    assert found == expected


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "* * * * *",
        "* * * * * * *",
        "60 * * * * *",
        "* 60 * * * *",
        "* * 24 * * *",
        "* * * 0 * *",
        "* * * * 13 *",
        "* * * * * 8",
        "* * * * * mon-",
        "* * * * * fro",
        "* * * * * 5-2",
        "*/0 * * * * *",
        "*/61 * * * * *",
        "-1 * * * * *",
        "1-0 * * * * *",
        "a * * * * *",
        "0 0 0 31 2 *",
        "\u0661 * * * * *",
        "* " * 200,
        "? * * * * *",
    ],
)
def test_other_schedules_are_refused(schedule: str) -> None:
    with pytest.raises(Invalid) as refusal:
        first_due(schedule, "UTC", datetime(2026, 1, 1, tzinfo=UTC))
    assert refusal.value.field == "schedule"


@pytest.mark.parametrize("timezone", ["", "Europe", "europe/berlin", "Mars/Olympus", "localtime", "posix/UTC", "right/UTC", "../UTC", "/etc/passwd", "UTC\0"])
def test_other_zones_are_refused(timezone: str) -> None:
    with pytest.raises(Invalid) as refusal:
        schedule_of("* * * * * *", timezone)
    assert refusal.value.field == "timezone"


def test_what_a_gap_leaves_out_is_due_once_at_its_end() -> None:
    assert due("0 30 2 * * *", "2026-03-28T12:00:00", 2, BERLIN) == ["03-29 03:00:00+0200", "03-30 02:30:00+0200"]
    assert due("0 */10 2 * * *", "2026-03-28T12:00:00", 2, BERLIN) == ["03-29 03:00:00+0200", "03-30 02:00:00+0200"]
    assert due("0 0 0 * * *", "2018-11-03T12:00:00", 2, "America/Sao_Paulo") == ["11-04 01:00:00-0200", "11-05 00:00:00-0200"]
    assert due("0 0 12 * * *", "2011-12-29T12:00:00", 2, "Pacific/Apia") == ["12-31 00:00:00+1400", "12-31 12:00:00+1400"]


def test_what_an_overlap_repeats_is_due_the_first_time() -> None:
    assert due("0 30 2 * * *", "2026-10-25T00:00:00", 2, BERLIN) == ["10-25 02:30:00+0200", "10-26 02:30:00+0100"]
    assert due("30 59 1,2,3 * * *", "2026-10-25T02:00:00", 2, BERLIN) == ["10-25 02:59:30+0200", "10-25 03:59:30+0100"]


def test_every_hour_goes_by_elapsed_time() -> None:
    assert due("0 30 * * * *", "2026-03-29T01:00:00", 2, BERLIN) == ["03-29 01:30:00+0100", "03-29 03:30:00+0200"]
    assert due("0 30 * * * *", "2026-10-25T02:00:00", 3, BERLIN) == ["10-25 02:30:00+0200", "10-25 02:30:00+0100", "10-25 03:30:00+0100"]
    assert due("0 0 * * * *", "2026-10-03T23:30:00", 3, "Australia/Lord_Howe") == ["10-04 00:00:00+1030", "10-04 01:00:00+1030", "10-04 03:00:00+1100"]


@given(
    schedule=st.sampled_from(["0 */30 * * * *", "0 15 2 * * *", "30 */20 1-4 * * *", "0 0 0 1 * *", "0 0 12 * * SUN", "*/10 0 2 25 10 *", "0 0 0 29 2 *"]),
    timezone=st.sampled_from([BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu", "Pacific/Apia"]),
    after=st.integers(631_152_000, 2_114_380_800),
    step=st.integers(1, 10**6),
)
def test_times_only_go_forward_and_none_is_passed_over(schedule: str, timezone: str, after: int, step: int) -> None:
    at = datetime.fromtimestamp(after, UTC)
    asked = schedule_of(schedule, timezone)
    found = asked.next_due(at)
    assert found is not None
    assert found > at
    assert found.microsecond == 0
    between = at + timedelta(microseconds=step)
    assert asked.next_due(between) == found if between < found else asked.next_due(between) != found


@pytest.mark.parametrize("missed", [0, 1, 2, 59, 86_399, 1_000_000])
def test_of_many_missed_times_the_latest_counts(missed: int) -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    until = first + timedelta(seconds=missed, microseconds=5)
    assert schedule_of("* * * * * *", "UTC").latest_due(first, until) == (first + timedelta(seconds=missed), first + timedelta(seconds=missed + 1))


def test_the_latest_of_an_uneven_schedule() -> None:
    asked = schedule_of("0 0 9-11 * * MON-FRI", BERLIN)
    first = asked.next_due(datetime(2026, 3, 2, tzinfo=UTC))
    assert first is not None
    latest, following = asked.latest_due(first, datetime(2026, 3, 29, 20, tzinfo=UTC))  # a Sunday: the clocks changed that night
    assert (latest, following) == (datetime(2026, 3, 27, 10, tzinfo=UTC), datetime(2026, 3, 30, 7, tzinfo=UTC))


def test_a_date_that_is_rare_is_found() -> None:
    found = schedule_of("0 0 0 29 2 SAT", "UTC").next_due(datetime(2089, 1, 1, tzinfo=UTC))
    assert found == datetime(2116, 2, 29, tzinfo=UTC)
