"""Documents: what each effect does to each state."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from domain.docs import DocCreated, DocDeleted, DocUpdated, check_collection, check_id, doc_stream
from domain.docs.events import CreateDoc, DeleteDoc, PatchDoc, PutDoc, UpdateDoc, check_data, exists, parse_data, trigger_subject
from domain.docs.merge_patch import merge_patch
from domain.errors import Invalid
from domain.ids import stream_parts
from tests.domain.given import NOW, given

BEFORE = NOW - timedelta(days=1)
PLACE: Any = {"collection": "c", "id": "d"}


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def created(data: Any) -> DocCreated:
    return DocCreated(**PLACE, data=raw(data), created_at=BEFORE)


def updated(data: Any) -> DocUpdated:
    return DocUpdated(**PLACE, data=raw(data), created_at=BEFORE)


DELETED = DocDeleted(**PLACE)


def test_create_makes_what_is_not_there() -> None:
    made = DocCreated(**PLACE, data=raw({"n": 1}), created_at=NOW)
    given().when(CreateDoc(**PLACE, data=raw({"n": 1}))).then(made)
    given(created({}), DELETED).when(CreateDoc(**PLACE, data=raw({"n": 1}))).then(made)


def test_create_refuses_what_is_there() -> None:
    for last in (created({}), updated({})):
        given(last).when(CreateDoc(**PLACE, data=raw({}))).refused("already_exists", "id")


def test_update_replaces_what_is_there_and_keeps_its_beginning() -> None:
    for last in (created({"n": 1}), updated({"n": 1})):
        given(last).when(UpdateDoc(**PLACE, data=raw({"m": 2}))).then(updated({"m": 2}))


def test_update_and_patch_refuse_what_is_not_there() -> None:
    for effect in (UpdateDoc(**PLACE, data=raw({})), PatchDoc(**PLACE, merge=raw({}))):
        given().when(effect).refused("no_such_document", "id")
        given(created({}), DELETED).when(effect).refused("no_such_document", "id")


def test_put_creates_or_replaces() -> None:
    given().when(PutDoc(**PLACE, data=raw({}))).then(DocCreated(**PLACE, data=raw({}), created_at=NOW))
    given(created({"n": 1})).when(PutDoc(**PLACE, data=raw({}))).then(updated({}))


def test_patch_merges_into_what_is_there_at_commit() -> None:
    given(created({"a": {"b": 1, "c": 2}, "d": 3})).when(PatchDoc(**PLACE, merge=raw({"a": {"b": None}, "e": []}))).then(
        updated({"a": {"c": 2}, "d": 3, "e": []})
    )


def test_a_patch_may_not_make_too_much() -> None:
    half = "x" * 600_000
    given(created({"a": half})).when(PatchDoc(**PLACE, merge=raw({"b": half}))).refused("invalid", "data")


def test_delete_happens_once() -> None:
    given(created({})).when(DeleteDoc(**PLACE)).then(DELETED)
    given().when(DeleteDoc(**PLACE)).then()
    given(created({}), DELETED).when(DeleteDoc(**PLACE)).then()


def test_a_document_exists_until_it_is_deleted() -> None:
    assert [exists(last, NOW) for last in (created({}), updated({}), DELETED)] == [True, True, False]


def test_triggers_match_by_collection_and_op() -> None:
    for event, op in ((created({}), "create"), (updated({}), "update"), (DELETED, "delete")):
        subject = trigger_subject(event)
        assert subject is not None
        assert (subject.source, subject.op, subject.patterns) == ("docs", op, ("e:c", "p:", "p:c"))


def test_streams_keep_collection_and_id_apart() -> None:
    assert stream_parts(doc_stream("a:b", "%3A")) == ("docs", "a:b", "%3A")


@pytest.mark.parametrize("name", ["", "x" * 129, "é" * 65, "a\x00", "\ud800", 1, None])
def test_bad_collections_are_refused(name: object) -> None:
    with pytest.raises(Invalid) as refusal:
        check_collection(name)
    assert refusal.value.field == "collection"


@pytest.mark.parametrize("doc_id", ["", "x" * 513, "é" * 257, "a\x00", "\udfff", 1, None])
def test_bad_ids_are_refused(doc_id: object) -> None:
    with pytest.raises(Invalid) as refusal:
        check_id(doc_id)
    assert refusal.value.field == "id"


@pytest.mark.parametrize("data", [None, 1, "x", [], {"a": float("nan")}, {"a": "\x00"}, {"\ud800": 1}, {"a": b"x"}, {1: 2}, {"a": "x" * 1024 * 1024}])
def test_bad_data_is_refused(data: object) -> None:
    with pytest.raises(Invalid) as refusal:
        check_data(data)
    assert refusal.value.field == "data"


@pytest.mark.parametrize("text", [None, {}, "", "[]", "1", "{", '{"a": NaN}', '{"a": "\\u0000"}', '{"a": 1e999}', "\ud800", '{"a":' * 65 + "1" + "}" * 65])
def test_bad_text_is_refused(text: object) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_data(text)
    assert refusal.value.field == "data"


def test_data_is_kept_exactly() -> None:
    text = '{"z":1,"a":12345678901234567890123,"f":1.0,"e":1e300,"u":"\U0001f600"}'
    assert bytes(parse_data(text)).decode() == text


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_is_that_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    kept = msgspec.json.encode(target)
    assert merge_patch(target, patch) == result
    assert msgspec.json.encode(target) == kept
