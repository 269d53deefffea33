"""Cursors and the other query parameters of lists: what was written is read, anything else is refused by name."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.cursors import MAX_CURSOR_CHARS, MAX_POSITION, decode, encode, parse_at, parse_limit, parse_position, parse_time
from domain.errors import Invalid


def written(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


texts = st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=100)
bigints = st.integers(-(2**63), 2**63 - 1)
parts = st.tuples(texts, bigints, st.uuids(), st.datetimes(timezones=st.just(UTC)), st.booleans(), st.none() | texts)
TYPES = (str, int, UUID, datetime, bool, str | None)
json_values = st.recursive(st.none() | st.booleans() | bigints | st.floats(allow_nan=False, allow_infinity=False) | texts, st.lists, max_leaves=5)


class TestCursors:
    @given(texts, parts)
    def test_round_trip(self, kind: str, values: tuple[Any, ...]) -> None:
        assert decode(encode(kind, *values), kind, TYPES) == values

    @given(json_values)
    def test_round_trip_of_any_json(self, value: Any) -> None:
        (found,) = decode(encode("docs", value), "docs", (Any,))
        assert found == value
        assert type(found) is type(value)

    def test_is_url_safe(self) -> None:
        assert encode("kv", "a?>~ü") == written('["kv","a?>~ü"]'.encode())
        assert decode(encode("kv"), "kv", ()) == ()

    def test_another_kind_is_refused(self) -> None:
        with pytest.raises(Invalid, match="another list"):
            decode(encode("kv", "a"), "docs", (str,))

    @pytest.mark.parametrize(
        "raw",
        [
            *(
                b"",
                b"[]",
                b"{}",
                b"null",
                b'"kv"',
                b'["kv"]',
                b'["kv",1]',
                b'["kv",null]',
                b'["kv","a","b"]',
                b'["kv",["a"]]',
                b'[1,"a"]',
                b'["kv","a"',
                b'["kv","a"]x',
            ),
            *(b'["kv","a\\u0000"]', b'["kv","\\ud800"]', b'["kv","\xed\xa0\x80"]', b'["kv","\xff"]', b"[" * 4000, b"\x00"),
        ],
    )
    def test_hostile_content_is_refused(self, raw: bytes) -> None:
        with pytest.raises(Invalid) as refused:
            decode(written(raw), "kv", (str,))
        assert refused.value.field == "cursor"

    @pytest.mark.parametrize(
        ("raw", "kind"),
        [
            (b'["k",9223372036854775808]', int),
            (b'["k",-9223372036854775809]', int),
            (b'["k",1e999]', float),
            (b'["k",NaN]', float),
            (b'["k",true]', int),
            (b'["k","1"]', int),
            (b'["k","2026-01-01T00:00:00"]', datetime),
            (b'["k","1"]', UUID),
            (b'["k",{"a":"\\u0000"}]', Any),
            (b'["k",' + b"[" * 65 + b"]" * 65 + b"]", Any),
            (b'["k",' + b"[" * 2900 + b"]" * 2900 + b"]", Any),
        ],
    )
    def test_hostile_parts_are_refused(self, raw: bytes, kind: Any) -> None:
        with pytest.raises(Invalid) as refused:
            decode(written(raw), "k", (kind,))
        assert refused.value.field == "cursor"

    @pytest.mark.parametrize("text", ["", "=", "a", "ab cd", "abcd\n", "W10=", "W1+/", "\ud800", "ü", "\x00", "A" * (MAX_CURSOR_CHARS + 1), "A" * 10_000_000])
    def test_hostile_text_is_refused(self, text: str) -> None:
        with pytest.raises(Invalid) as refused:
            decode(text, "kv", (str,))
        assert refused.value.field == "cursor"

    @given(st.text() | st.binary(max_size=40).map(written))
    def test_nothing_but_invalid_comes_of_noise(self, text: str) -> None:
        with pytest.raises(Invalid):
            decode(text, "kv", (str, int))

    def test_a_key_too_long_to_go_on_from_is_refused_when_written(self) -> None:
        with pytest.raises(Invalid, match="too long"):
            encode("docs", "a" * MAX_CURSOR_CHARS)


class TestParameters:
    def test_limit(self) -> None:
        assert parse_limit(None) == 50
        assert parse_limit(None, default=100) == 100
        assert (parse_limit("1"), parse_limit("200"), parse_limit("1000", maximum=1000)) == (1, 200, 1000)

    @pytest.mark.parametrize("text", ["", "0", "-1", "201", "+5", " 5", "5\n", "5.0", "1e2", "\u0665", "five", "9" * 5000])
    def test_limit_refuses(self, text: str) -> None:
        with pytest.raises(Invalid) as refused:
            parse_limit(text)
        assert refused.value.field == "limit"

    def test_position(self) -> None:
        assert parse_position("0", "after") == 0
        assert parse_position(str(MAX_POSITION), "after") == MAX_POSITION

    @pytest.mark.parametrize("text", ["", "-1", str(MAX_POSITION + 1), "1_0", "1.0", "0x1", "\u0661", "1" * 5000, "null"])
    def test_position_refuses(self, text: str) -> None:
        with pytest.raises(Invalid) as refused:
            parse_position(text, "after")
        assert refused.value.field == "after"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
            ("2026-01-31t12:00:00z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
            ("2026-01-31T12:00:00.5+02:00", datetime(2026, 1, 31, 10, 0, 0, 500_000, tzinfo=UTC)),
            ("2026-01-31T12:00:00.123456789-00:30", datetime(2026, 1, 31, 12, 30, 0, 123_456, tzinfo=UTC)),
            ("20260131", 20_260_131),
        ],
    )
    def test_at(self, text: str, expected: datetime | int) -> None:
        found = parse_at(text)
        assert found == expected
        assert isinstance(found, int) or found.tzinfo is UTC

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                "now",
                "-1",
                "2026-01-31",
                "2026-01-31T12:00:00",
                "2026-01-31 12:00:00Z",
                "2026-01-31T12:00Z",
                "2026-02-30T12:00:00Z",
                "2026-01-31T24:00:00Z",
            ),
            *("2026-01-31T12:00:60Z", "2026-01-31T12:00:00 02:00", "2026-01-31T12:00:00+0200", "2026-01-31T12:00:00+99:00", "2026-01-31T12:00:00,5Z"),
            *(
                "0001-01-01T00:00:00+14:00",
                "9999-12-31T23:59:59-14:00",
                "0000-01-01T00:00:00Z",
                "2026-W05-6T12:00:00Z",
                "\u0661",
                "9" * 30,
                "2026-01-31T12:00:00Z\n",
            ),
        ],
    )
    def test_at_refuses(self, text: str) -> None:
        with pytest.raises(Invalid) as refused:
            parse_at(text)
        assert refused.value.field == "at"

    @given(st.text())
    def test_noise_is_a_point_in_time_or_refused(self, text: str) -> None:
        try:
            found = parse_at(text)
        except Invalid as refused:
            assert refused.field == "at"  # noqa: PT017
        else:
            assert isinstance(found, int | datetime)

    @given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
    def test_every_time_reads_back(self, naive: datetime, offset_min: int) -> None:
        moment = naive.replace(tzinfo=timezone(timedelta(minutes=offset_min)))
        assert parse_time(moment.isoformat(), "from") == moment
