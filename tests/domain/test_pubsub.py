"""Messages and topics: what is decided, which names are accepted, what a token is for."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.errors import Invalid, Unauthenticated
from domain.pubsub import Publish, Published, check_topic, topic_stream, trigger_subject
from domain.topics import check_name, clamp_ttl, registry_stream
from runtime.subscribers import MAX_NAMES, parse_wanted, verify_token
from tests.domain.given import NOW, given

PUBLISHING = Publish(topic="a.b", message=msgspec.Raw(b'{"n":1}'))
PUBLISHED = Published(topic="a.b", message=msgspec.Raw(b'{"n":1}'), published_at=NOW)


def test_a_message_is_an_event_whatever_came_before() -> None:
    given().when(PUBLISHING).then(PUBLISHED)
    given(PUBLISHED).when(PUBLISHING).then(PUBLISHED)
    assert PUBLISHING.stream == topic_stream("a.b") == "pubsub:a.b"


def test_triggers_match_by_topic() -> None:
    subject = trigger_subject(PUBLISHED)
    assert subject is not None
    assert (subject.source, subject.op) == ("pubsub", "publish")
    assert set(subject.patterns) == {"e:a.b", "p:", "p:a."}


@pytest.mark.parametrize("bad", ["", "x" * 257, "é" * 129, "a\x00", "\ud800", "a*", "*", "a.*", 1, None, b"t", True])
def test_topics_that_are_refused(bad: object) -> None:
    with pytest.raises(Invalid) as refusal:
        check_topic(bad)
    assert refusal.value.field == "topic"


def test_names_by_kind() -> None:
    assert check_topic("é" * 128) == "é" * 128
    assert check_name("kv", "a*") == "a*"
    with pytest.raises(Invalid):
        check_name("docs", "x" * 129)
    assert registry_stream("kv", "a:b") == "topic:kv:a%3Ab"


@pytest.mark.parametrize(("asked", "given"), [(0, 10), (-1, 10), (9.9, 10), (60, 60), (1e9, 86_400), (float("inf"), 86_400), (10**400, 86_400)])
def test_a_ttl_is_brought_within_its_bounds(asked: float, given: float) -> None:
    assert clamp_ttl(asked) == given


@pytest.mark.parametrize("bad", ["60", None, True, float("nan"), [60]])
def test_ttls_that_are_refused(bad: object) -> None:
    with pytest.raises(Invalid) as refusal:
        clamp_ttl(bad)
    assert refusal.value.field == "ttl"


def test_names_are_asked_for_as_a_list_or_by_kind() -> None:
    assert parse_wanted(["a", "b", "a"]) == {"topic": ("a", "b"), "kv": (), "docs": ()}
    assert parse_wanted({"kv": ("c",), "docs": ["d"]}) == {"topic": (), "kv": ("c",), "docs": ("d",)}


@pytest.mark.parametrize(
    "bad",
    [
        "news",
        1,
        None,
        [],
        {},
        {"topics": []},
        {"x": ["a"]},
        {"topics": "abc"},
        [1],
        [["a"]],
        ["*"],
        [""],
        ["a\x00"],
        {"kv": [None]},
        [f"t{n}" for n in range(MAX_NAMES + 1)],
    ],
)
def test_wishes_that_are_refused(bad: object) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_wanted(bad)
    assert refusal.value.field in {"topics", "kv", "docs"}


class NoKeys:
    """A vault without keys."""

    async def fetch(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        del sql, args
        return []


HOSTILE = ["", "x", "a.b", "a.b.c", "....", "é.é.é", "\x00", "e30.e30.e30", "W1tbW1tb." * 3, "eyJhbGciOiJub25lIn0.e30.", "A" * 5000, "W1tb" * 1000 + ".e30.e30"]


@pytest.mark.anyio
@pytest.mark.parametrize("token", HOSTILE)
async def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        await verify_token(NoKeys(), UUID(int=1), token, NOW)
    assert refusal.value.code == "bad_token"
