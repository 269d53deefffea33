"""pubsub of scripts: messages, the triggers that they fire, and subscribers' tokens."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from uuid_utils.compat import uuid7

from domain.authz import Principal
from domain.globs import pattern_key
from domain.pubsub import Publish, Published
from domain.topics import Topic, TopicSaved, registry_stream
from runtime.platform import Platform
from runtime.subscribers import verify_token
from tests.runtime.world import App, reply, values

pytestmark = pytest.mark.anyio

SEEN = """
def handler(ctx):
    e = ctx.event
    kv.collection("seen").set(str(e.position), [e.source, e.op, e.pubsub.topic, e.pubsub.message, e.pubsub.published_at[:2]])
"""
EDITOR = Principal(kind="user", id=uuid7(), name="ed", instance_role="owner")
NOBODY = Principal(kind="user", id=uuid7(), name="no", instance_role="member")


async def externalise(app: App, *names: tuple[Any, str], external: bool = True) -> None:
    for kind, name in names:
        topic = Topic(kind=kind, name=name, external_subscribable=external, auth_mode="token")
        await app.put((registry_stream(kind, name), TopicSaved(topic=topic)))


def body(*lines: str) -> str:
    return "def handler(ctx):\n" + "\n".join(f"    {line}" for line in lines) + "\n"


async def test_each_call_is_an_event_in_call_order_with_bytes_as_base64(app: App) -> None:
    lines = ("pubsub.publish_durable('a', {'n': 1, 'b': [b'hi', (b'',)]})", "pubsub.publish_durable('b', None)", "pubsub.publish_durable('a', 'x\\u2028')")
    outcome = await app.run(await app.script(body(*lines)))
    assert outcome.ending == "returned", outcome.result
    published = await app.events(Published)
    assert values(published, "topic") == ["a", "b", "a"]
    assert [msgspec.json.decode(value) for value in values(published, "message")] == [{"n": 1, "b": ["aGk=", [""]]}, None, "x\u2028"]
    assert [recorded.version for recorded in published] == [1, 1, 2]
    assert values(published, "published_at") == [outcome.clock] * 3


async def test_a_failed_run_has_published_nothing(app: App) -> None:
    outcome = await app.run(await app.script(body("pubsub.publish_durable('a', 1)", "raise ValueError('no')")))
    assert outcome.ending == "raised"
    assert await app.events(Published) == []


async def test_triggers_match_topics(app: App) -> None:
    script = await app.script(SEEN)
    await app.trigger(script, source="pubsub", pattern=pattern_key("orders.*"))
    await app.trigger(script, source="pubsub", pattern=pattern_key("exact"))
    names = ("orders", "orders.new", "orders.new.eu", "ordersx", "exact", "exact.not")
    events = await app.append(*(Publish(topic=name, message=msgspec.Raw(b'{"a":null}')) for name in names))
    await app.drained()
    expected = {str(recorded.position): ["pubsub", "publish", recorded.event.topic, {"a": None}, "20"] for recorded in (events[1], events[2], events[4])}  # type: ignore[attr-defined]
    assert await app.kv("seen") == expected


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("pubsub.publish_durable(1, 1)", "TypeError"),
        ("pubsub.publish_durable('', 1)", "ValueError"),
        ("pubsub.publish_durable('a.*', 1)", "ValueError"),
        ("pubsub.publish_durable('x' * 257, 1)", "ValueError"),
        ("pubsub.publish_durable('a\\x00', 1)", "ValueError"),
        ("pubsub.publish_durable('a', 'x\\x00')", "ValueError"),
        ("pubsub.publish_durable('a', float('nan'))", "ValueError"),
        ("pubsub.publish_durable('a', [b'', float('nan')])", "ValueError"),
        ("pubsub.publish_durable('a', {1, 2})", "TypeError"),
        ("pubsub.publish_durable('a', 'x' * 1048577)", "ValueError"),
        ("x = 1\n    for i in range(66): x = [x]\n    pubsub.publish_durable('a', x)", "ValueError"),
        ("x = b''\n    for i in range(66): x = [x]\n    pubsub.publish_durable('a', x)", "ValueError"),
        ("_picloud['_effects'].append(('pubsub_publish', 'a.*', '1'))", "ValueError"),
        ("_picloud['_effects'].append(('pubsub_publish', 'a', 'not json'))", "ValueError"),
        ("_picloud['_effects'].append(('pubsub_publish', 'a', '\"\\\\ud800\"'))", "ValueError"),
        ("_picloud['_effects'].append(('pubsub_publish', 'a', 1))", "ValueError"),
        ("_picloud['_effects'].append(('pubsub_publish', ['a'], '1'))", "ValueError"),
        ("_picloud['_effects'].append(('pubsub_publish', 'a'))", "TypeError"),
    ],
)
async def test_what_cannot_be_published_is_refused(app: App, line: str, error: str) -> None:
    outcome = await app.run(await app.script(body("pubsub.publish_durable('good', 1)", line)))
    assert outcome.ending == "raised", outcome.result
    assert outcome.result.error is not None
    assert outcome.result.error.type == error, outcome.result.error
    assert await app.events(Published) == []


async def test_attached_principals_need_the_capability(app: App) -> None:
    script = await app.script(body("pubsub.publish_durable('a', 1)"))
    outcome = await app.run(script, NOBODY)
    assert outcome.result.error is not None
    assert outcome.result.error.type == "PermissionError"
    assert (await app.run(script, EDITOR)).ending == "returned"


async def test_a_token_is_for_the_names_asked_for(app: App, platform: Platform) -> None:
    await externalise(app, ("topic", "news"), ("kv", "prices"))
    script = await app.script(body("return {'t': pubsub.subscriber_token({'topics': ['news'], 'kv': ['prices']}, ttl=1)}"))
    outcome = await app.run(script, EDITOR)
    token = reply(outcome)["t"]
    grant = await verify_token(platform.reader, app.id, token, outcome.clock)
    assert grant.names == {"topic": ("news",), "kv": ("prices",), "docs": ()}
    assert 9 <= (grant.expires_at - outcome.clock).total_seconds() <= 10
    assert "news" not in repr(outcome.events)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("pubsub.subscriber_token(['internal'])", "ValueError"),
        ("pubsub.subscriber_token(['nowhere'])", "ValueError"),
        ("pubsub.subscriber_token('news')", "ValueError"),
        ("pubsub.subscriber_token(['news'], ttl='long')", "ValueError"),
        ("_sys_pubsub_token()", "TypeError"),
        ("_sys_pubsub_token({'topics': [{}]}, [])", "ValueError"),
        ("_sys_pubsub_token(5, {})", "ValueError"),
    ],
)
async def test_tokens_that_are_refused(app: App, call: str, error: str) -> None:
    await externalise(app, ("topic", "internal"), external=False)
    await externalise(app, ("topic", "news"))
    outcome = await app.run(await app.script(body(f"return {call}", "pubsub.subscriber_token")), EDITOR)
    assert outcome.result.error is not None
    assert outcome.result.error.type == error, outcome.result.error


async def test_a_token_takes_a_principal_who_may_publish(app: App) -> None:
    await externalise(app, ("topic", "news"))
    script = await app.script(body("return pubsub.subscriber_token(['news'])"))
    for principal in (None, NOBODY):
        outcome = await app.run(script, principal)
        assert outcome.result.error is not None
        assert outcome.result.error.type == "PermissionError"


async def test_a_token_is_kept_in_no_record(app: App) -> None:
    await externalise(app, ("topic", "news"))
    outcome = await app.run(await app.script(body("pubsub.subscriber_token(['news'])", "raise ValueError('after')")), EDITOR)
    assert outcome.ending == "raised"
    assert [answer.value for answer in outcome.journal if answer.call == "pubsub_token"] == [None]
