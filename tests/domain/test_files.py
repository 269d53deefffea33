"""Files: what each effect does to each state."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from domain.blobs import Blob
from domain.errors import Invalid
from domain.files import (
    CreateFile,
    DeleteFile,
    FileCreated,
    FileDeleted,
    FileUpdated,
    UpdateFile,
    check_collection,
    check_content_type,
    check_name,
    exists,
    file_stream,
    trigger_subject,
)
from domain.ids import stream_parts
from tests.domain.given import NOW, given

ID = UUID(int=7)
ONE, TWO = Blob("1" * 64, 1), Blob("2" * 64, 0)
PLACE: dict[str, Any] = {"collection": "c", "id": ID}
CREATED = FileCreated(**PLACE, name="a.txt", content_type="text/plain", size=1, checksum="1" * 64)
UPDATED = FileUpdated(**PLACE, name="b.txt", content_type="text/html", size=0, checksum="2" * 64)
DELETED = FileDeleted(**PLACE)
CREATE = CreateFile(**PLACE, name="a.txt", content_type="text/plain", blob=ONE)


def test_a_file_is_created() -> None:
    given().when(CREATE).then(CREATED)


@pytest.mark.parametrize("last", [CREATED, UPDATED, DELETED])
def test_an_id_is_used_once(last: Any) -> None:
    given(last).when(CREATE).refused("already_exists", "id")


def test_an_update_changes_what_it_names_and_keeps_the_rest() -> None:
    given(CREATED).when(UpdateFile(**PLACE, name="b.txt", content_type="text/html", blob=TWO)).then(UPDATED)
    given(CREATED).when(UpdateFile(**PLACE)).then(FileUpdated(**PLACE, name="a.txt", content_type="text/plain", size=1, checksum="1" * 64))
    given(UPDATED).when(UpdateFile(**PLACE, name="c")).then(FileUpdated(**PLACE, name="c", content_type="text/html", size=0, checksum="2" * 64))
    given(UPDATED).when(UpdateFile(**PLACE, blob=ONE)).then(FileUpdated(**PLACE, name="b.txt", content_type="text/html", size=1, checksum="1" * 64))


@pytest.mark.parametrize("history", [(), (CREATED, DELETED)])
def test_what_is_not_there_cannot_be_updated(history: tuple[Any, ...]) -> None:
    given(*history).when(UpdateFile(**PLACE, blob=TWO)).refused("file_not_found", "id")


def test_a_file_is_deleted_once() -> None:
    given(CREATED).when(DeleteFile(**PLACE)).then(DELETED)
    given(UPDATED).when(DeleteFile(**PLACE)).then(DELETED)
    given(CREATED, DELETED).when(DeleteFile(**PLACE)).then()
    given().when(DeleteFile(**PLACE)).then()


def test_existence_follows_from_the_last_event() -> None:
    assert [exists(last, NOW) for last in (CREATED, UPDATED, DELETED)] == [True, True, False]


def test_a_stream_is_named_by_collection_and_id() -> None:
    assert stream_parts(file_stream("a:b%", ID)) == ("files", "a:b%", str(ID))


def test_triggers_match_by_collection_and_op() -> None:
    subjects = [trigger_subject(event) for event in (CREATED, UPDATED, DELETED)]
    assert [(subject.source, subject.op, subject.patterns) for subject in subjects if subject] == [
        ("files", op, ("e:c", "p:", "p:c")) for op in ("create", "update", "delete")
    ]


@pytest.mark.parametrize("name", ["a", "ä" * 127, "../../etc/passwd", 'quo"te', "a b", "😀.png", "x" * 255])
def test_names_may_be_any_text(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 256, "ä" * 128, "a\x00", "a\nb", "a\rb", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ud800", 1, None, b"a"])
def test_other_names_are_refused(name: Any) -> None:
    with pytest.raises(Invalid) as refusal:
        check_name(name)
    assert refusal.value.field == "name"


@pytest.mark.parametrize("name", ["", "x" * 129, "a\x00", "\ud800", 1, None])
def test_other_collections_are_refused(name: Any) -> None:
    with pytest.raises(Invalid) as refusal:
        check_collection(name)
    assert refusal.value.field == "collection"


@pytest.mark.parametrize("text", ["text/plain", "text/html; charset=utf-8", 'multipart/x;a="b c";d=e', "application/vnd.x+json", "a/b"])
def test_content_types(text: str) -> None:
    assert check_content_type(text) == text


@pytest.mark.parametrize(
    "text", ["", "text", "text/", "/plain", "a/b\n", "a/b\r\nx: y", "a/b;", "a/b; c", 'a/b; c="\n"', "ä/b", "a/b " + "x" * 255, "a/b, c/d", 1, None]
)
def test_other_content_types_are_refused(text: Any) -> None:
    with pytest.raises(Invalid) as refusal:
        check_content_type(text)
    assert refusal.value.field == "content_type"
