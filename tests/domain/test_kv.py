"""Key-value entries: what each effect does to each state."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.ids import stream_parts
from domain.kv import (
    MAX_TTL_S,
    DeleteKey,
    ExpireKey,
    IncrementKey,
    KvDeleted,
    KvExpired,
    KvSet,
    SetKey,
    check_collection,
    check_key,
    check_ttl,
    entry_stream,
    exists,
    trigger_subject,
)
from tests.domain.given import NOW, given

LATER = NOW + timedelta(seconds=60)


def value_set(value: Any, op: Literal["insert", "update"] = "insert", expires_at: datetime | None = None) -> KvSet:
    return KvSet(op=op, collection="c", key="k", value=raw(value), expires_at=expires_at)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def setting(value: Any, ttl_s: float | None = None) -> SetKey:
    return SetKey(collection="c", key="k", value=raw(value), ttl_s=ttl_s)


def incrementing(by: float) -> IncrementKey:
    return IncrementKey(collection="c", key="k", by=by)


DELETING = DeleteKey(collection="c", key="k")
EXPIRING = ExpireKey(collection="c", key="k")
DELETED = KvDeleted(collection="c", key="k")
EXPIRED = KvExpired(collection="c", key="k", expired_at=NOW)
LIVES = value_set(1, expires_at=LATER)
HAS_EXPIRED = value_set(1, expires_at=NOW)


class TestSet:
    def test_an_absent_key_is_inserted(self) -> None:
        given().when(setting({"a": 1})).then(value_set({"a": 1}))
        given(value_set(1), DELETED).when(setting(2)).then(value_set(2))
        given(HAS_EXPIRED, EXPIRED).when(setting(2)).then(value_set(2))

    def test_a_present_key_is_updated(self) -> None:
        given(value_set(1)).when(setting(2)).then(value_set(2, "update"))
        given(LIVES).when(setting(2)).then(value_set(2, "update"))

    def test_a_key_whose_expiry_nobody_recorded_expires_first(self) -> None:
        given(HAS_EXPIRED).when(setting(2)).then(EXPIRED, value_set(2, "insert"))

    def test_ttl_counts_from_the_units_clock_and_its_absence_clears_it(self) -> None:
        given().when(setting(1, ttl_s=60)).then(value_set(1, expires_at=LATER))
        given(LIVES).when(setting(2)).then(value_set(2, "update"))


class TestDelete:
    def test_a_present_key(self) -> None:
        given(value_set(1)).when(DELETING).then(DELETED)
        given(LIVES).when(DELETING).then(DELETED)

    def test_an_absent_key(self) -> None:
        given().when(DELETING).then()
        given(value_set(1), DELETED).when(DELETING).then()
        given(HAS_EXPIRED, EXPIRED).when(DELETING).then()

    def test_an_expired_key_expires(self) -> None:
        given(HAS_EXPIRED).when(DELETING).then(EXPIRED)


class TestIncrement:
    def test_an_absent_key_counts_from_zero(self) -> None:
        given().when(incrementing(3)).then(value_set(3))
        given(value_set(5), DELETED).when(incrementing(3)).then(value_set(3))

    def test_a_number_is_added_to_and_keeps_its_expiry(self) -> None:
        given(value_set(5)).when(incrementing(-7)).then(value_set(-2, "update"))
        given(value_set(1.5)).when(incrementing(1)).then(value_set(2.5, "update"))
        given(LIVES).when(incrementing(1)).then(value_set(2, "update", LATER))

    def test_an_expired_number_counts_from_zero_again(self) -> None:
        given(HAS_EXPIRED).when(incrementing(3)).then(EXPIRED, value_set(3))

    @pytest.mark.parametrize("value", ["1", None, True, [1], {"n": 1}])
    def test_what_is_no_number_is_refused(self, value: Any) -> None:
        given(value_set(value)).when(incrementing(1)).refused("not_a_number", "key")

    def test_numbers_stay_exact_and_finite(self) -> None:
        given(value_set(2**63 - 1)).when(incrementing(1)).then(value_set(2**63, "update"))
        given(value_set(1e308)).when(incrementing(1e308)).refused("invalid", "by")
        given(value_set(1.5)).when(incrementing(10**400)).refused("invalid", "by")
        given(value_set(10**4300 - 1)).when(incrementing(1)).refused("invalid", "by")


class TestExpire:
    def test_an_expiry_that_has_come_is_recorded_once(self) -> None:
        given(HAS_EXPIRED).when(EXPIRING).then(EXPIRED)
        given(HAS_EXPIRED, EXPIRED).when(EXPIRING).then()

    def test_nothing_else_expires(self) -> None:
        given().when(EXPIRING).then()
        given(value_set(1)).when(EXPIRING).then()
        given(LIVES).when(EXPIRING).then()
        given(HAS_EXPIRED, value_set(2)).when(EXPIRING).then()
        given(value_set(1), DELETED).when(EXPIRING).then()


def test_an_entry_exists_until_the_instant_of_its_expiry() -> None:
    assert exists(LIVES, LATER - timedelta(microseconds=1))
    assert not exists(LIVES, LATER)
    assert exists(value_set(1), LATER)
    assert not exists(DELETED, NOW)
    assert not exists(EXPIRED, NOW)


def test_expiry_is_a_delete_to_triggers() -> None:
    found = [(subject.source, subject.op) for event in (value_set(1), value_set(1, "update"), DELETED, EXPIRED) if (subject := trigger_subject(event))]
    assert found == [("kv", "insert"), ("kv", "update"), ("kv", "delete"), ("kv", "delete")]


@for_all(st.text(), st.text())
def test_a_stream_names_one_entry(collection: str, key: str) -> None:
    assert stream_parts(entry_stream(collection, key)) == ("kv", collection, key)
    assert SetKey(collection=collection, key=key, value=raw(1)).stream == entry_stream(collection, key)


@pytest.mark.parametrize("bad", ["", "x" * 513, "é" * 257, "a\x00", "\ud800", 1, None, b"k"])
def test_keys_that_are_refused(bad: object) -> None:
    with pytest.raises(Invalid) as refusal:
        check_key(bad)
    assert refusal.value.field == "key"
    with pytest.raises(Invalid):
        check_collection(bad, "$.collection")


def test_names_up_to_their_limits() -> None:
    assert check_key("é" * 256) == "é" * 256
    assert check_collection("x" * 128) == "x" * 128
    with pytest.raises(Invalid):
        check_collection("x" * 129)


@pytest.mark.parametrize("bad", [0, -1, True, "60", float("nan"), float("inf"), MAX_TTL_S + 1])
def test_ttls_that_are_refused(bad: object) -> None:
    with pytest.raises(Invalid) as refusal:
        check_ttl(bad)
    assert refusal.value.field == "ttl"


def test_ttls() -> None:
    assert check_ttl(None) is None
    assert [check_ttl(1), check_ttl(0.5), check_ttl(MAX_TTL_S)] == [1.0, 0.5, float(MAX_TTL_S)]
