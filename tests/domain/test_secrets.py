"""Secrets: what each effect does to each state, and what a name and a value may be."""

from __future__ import annotations

from uuid import UUID

import pytest

from domain.errors import Invalid
from domain.secrets import (
    MAX_VALUE_BYTES,
    DeleteSecret,
    RotateSecret,
    SecretDeleted,
    SecretRotated,
    SecretSet,
    SetSecret,
    check_name,
    check_value,
)
from tests.domain.given import given

ONE, TWO = UUID(int=1), UUID(int=2)
SET = SecretSet(name="s", value_id=ONE)
ROTATED = SecretRotated(name="s", value_id=ONE, key_id="k")
DELETED = SecretDeleted(name="s", value_id=ONE)
SETTING = SetSecret(name="s", value_id=TWO)
ROTATING = RotateSecret(name="s", value_id=ONE, key_id="k")
DELETING = DeleteSecret(name="s")


def test_a_value_replaces_the_one_before() -> None:
    given().when(SETTING).then(SecretSet(name="s", value_id=TWO))
    given(SET, DELETED).when(SETTING).then(SecretSet(name="s", value_id=TWO))
    given(SET).when(SETTING).then(SecretSet(name="s", value_id=TWO, replaces=ONE))
    given(SET, ROTATED).when(SETTING).then(SecretSet(name="s", value_id=TWO, replaces=ONE))


def test_the_value_that_is_there_is_rotated_and_no_other() -> None:
    given(SET).when(ROTATING).then(ROTATED)
    given(SET, ROTATED).when(ROTATING).then(ROTATED)
    given().when(ROTATING).then()
    given(SET, DELETED).when(ROTATING).then()
    given(SecretSet(name="s", value_id=TWO)).when(ROTATING).then()


def test_what_is_there_is_deleted() -> None:
    given(SET).when(DELETING).then(DELETED)
    given(SET, ROTATED).when(DELETING).then(DELETED)
    given().when(DELETING).then()
    given(SET, DELETED).when(DELETING).then()


@pytest.mark.parametrize("name", ["a", "_", "STRIPE_KEY", "a.b-c_9", "a" * 128])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "9a", "-a", ".a", "a b", "ä", "a/b", "a\n", "a\x00", "a" * 129, "../x", None, 1, b"a", ["a"]])
def test_bad_names(name: object) -> None:
    with pytest.raises(Invalid) as refusal:
        check_name(name)
    assert refusal.value.field == "name"


@pytest.mark.parametrize("value", ["", "a\x00", "\ud800", "x" * (MAX_VALUE_BYTES + 1), "ä" * (MAX_VALUE_BYTES // 2 + 1)])
def test_bad_values_are_not_quoted(value: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_value(value)
    assert refusal.value.field == "value"
    assert not value or value[:20] not in refusal.value.detail


def test_good_values() -> None:
    for value in ("x", "ä\n😀", "x" * MAX_VALUE_BYTES):
        assert check_value(value) == value
