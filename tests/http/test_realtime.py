"""Live projections over a real port: who may follow, what is shown, and how it goes on after a gap."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import anyio
import msgspec
import pytest

from domain.apps import AppDeleted, app_stream
from domain.docs.events import DeleteDoc, PutDoc
from domain.ids import NIL_APP
from domain.kv import DeleteKey, SetKey
from domain.pubsub import Publish
from domain.topics import AuthMode, SubscriberKeyRevoked, Topic, TopicDeleted, TopicKind, TopicSaved, registry_stream
from runtime.settings import Realtime
from runtime.subscribers import Token, sign_token, subscriber_keys
from tests.postgres import _database
from tests.runtime.serving import SERVED, Served, Site, serving
from tests.runtime.world import App, eventually
from tests.sse import Shown, Stream, subscribe, subscribed

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def served(server_dsn: str, template: str) -> AsyncIterator[Served]:
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, serving(dsn) as opened:
        yield opened


@pytest.fixture
async def site(served: Served) -> AsyncIterator[Site]:
    async with served.site() as opened:
        yield opened


async def register(app: App, name: str, kind: TopicKind = "topic", auth_mode: AuthMode = "public", *, external: bool = True) -> None:
    topic = Topic(kind=kind, name=name, external_subscribable=external, auth_mode=auth_mode)
    await app.put((registry_stream(kind, name), TopicSaved(topic=topic)))


def message(value: Any, topic: str = "news") -> Publish:
    return Publish(topic=topic, message=msgspec.Raw(msgspec.json.encode(value)))


def entry(key: str, value: Any, ttl_s: float | None = None) -> SetKey:
    return SetKey(collection="prices", key=key, value=msgspec.Raw(msgspec.json.encode(value)), ttl_s=ttl_s)


async def token_of(site: Site, ttl_s: float = 60, ago_s: float = 0, **names: tuple[str, ...]) -> Token:
    platform = site.app.platform
    wanted: Any = {"topic": (), "kv": (), "docs": (), **names}
    return await sign_token(platform.reader, subscriber_keys(platform.reader), site.app.id, wanted, ttl_s, platform.clock() - timedelta(seconds=ago_s))


async def listening(served: Served, count: int) -> None:
    """Return once so many places are taken."""

    async def look() -> int:
        return served.platform.live._by_app.total()

    await eventually(look, lambda found: found == count)


async def refused(served: Served, site: Site, path: str, status: int, code: str | None = None, **headers: str) -> None:
    async with subscribed(served.url, site.app.host, path, **headers) as stream:
        assert stream.status == status
        assert stream.headers["content-type"] == "application/problem+json"
        problem = await stream.body()
        assert code is None or problem["code"] == code, problem


async def follow(served: Served, site: Site, path: str, **headers: str) -> Stream:
    stream = await subscribe(served.url, site.app.host, path, **headers)
    assert stream.status == 200
    return stream


def ended(event: Shown) -> str:
    assert event.name == "end", event
    reason: str = event.data["reason"]
    return reason


async def test_messages_come_with_their_positions(served: Served, site: Site) -> None:
    await register(site.app, "news/é")
    await site.app.append(message("before", "news/é"))
    stream = await follow(served, site, f"/realtime/topics/{quote('news/é', safe='')}")
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.headers["cache-control"] == "no-store"
    opening = await anext(stream.blocks())
    assert (opening.id, opening.data) == (2, None)
    (recorded,) = await site.app.append(message({"n": "a\nb\u2028"}, "news/é"))
    await site.app.append(message(0, "news/éx"), message(1, "news"), entry("k", 1))
    (last,) = await site.app.append(message(None, "news/é"))
    events = await stream.take(2)
    stream.close()
    assert [event.id for event in events] == [recorded.position, last.position]
    assert events[0].name == ""
    assert set(events[0].data) == {"topic", "message", "published_at"}
    assert [event.data["message"] for event in events] == [{"n": "a\nb\u2028"}, None]


async def test_a_reconnection_resumes_without_loss_or_repetition(served: Served, site: Site) -> None:
    await register(site.app, "news")
    positions = [(await site.app.append(message(number)))[0].position for number in range(5)]
    for headers, path in (({"last_event_id": str(positions[1])}, "?after=0"), ({}, f"?after={positions[1]}")):
        async with subscribed(served.url, site.app.host, f"/realtime/topics/news{path}", **headers) as stream:
            assert [event.id for event in await stream.take(3)] == positions[2:]
    async with subscribed(served.url, site.app.host, "/realtime/topics/news?after=0") as stream:
        assert [event.data["message"] for event in await stream.take(5)] == [0, 1, 2, 3, 4]
        await site.app.append(message(5))
        assert [event.data["message"] for event in await stream.take(1)] == [5]


async def test_a_long_gap_is_read_in_pages(served: Served, site: Site) -> None:
    await register(site.app, "news")
    expected = []
    for page in range(12):
        events = await site.app.append(*(message(number, "news" if number % 2 else "noise") for number in range(page * 600, page * 600 + 600)))
        expected += [event.position for event in events if event.event.topic == "news"]  # type: ignore[attr-defined]
    async with subscribed(served.url, site.app.host, "/realtime/topics/news?after=0") as stream:
        assert [event.id for event in await stream.take(len(expected))] == expected


async def test_a_collection_is_a_snapshot_and_then_its_changes(served: Served, site: Site) -> None:
    await register(site.app, "prices", "kv")
    await site.app.append(entry("b", 2), entry("a", 1), entry("gone", 1), DeleteKey(collection="prices", key="gone"), entry("short", 1, ttl_s=0.000001))
    await site.app.append(SetKey(collection="pricesx", key="x", value=msgspec.Raw(b"1")))
    stream = await follow(served, site, "/realtime/kv/prices")
    (snapshot,) = await stream.take(1)
    head = await served.platform.log.head(site.app.id)
    assert (snapshot.name, snapshot.data["position"], snapshot.data["complete"]) == ("snapshot", snapshot.id, True)
    assert snapshot.id is not None
    assert head - 1 <= snapshot.id <= head  # the sweeper may have been at work
    assert [(item["key"], item["value"], item["version"]) for item in snapshot.data["items"]] == [("a", 1, 1), ("b", 2, 1)]
    events = await site.app.append(entry("a", [1]), DeleteKey(collection="prices", key="b"))
    changes = [change for change in await stream.take(3 if head == snapshot.id else 2) if change.data["key"] != "short"]
    if len(changes) < 2:
        changes += await stream.take(1)
    stream.close()
    assert [(change.name, change.id) for change in changes] == [("upsert", events[0].position), ("delete", events[1].position)]
    assert changes[0].data == {
        "collection": "prices",
        "key": "a",
        "value": [1],
        "version": 2,
        "expires_at": None,
        "updated_at": changes[0].data["updated_at"],
    }
    assert changes[1].data == {"collection": "prices", "key": "b", "version": 2}
    async with subscribed(served.url, site.app.host, "/realtime/kv/prices", last_event_id=str(events[0].position)) as again:
        assert [change.id for change in await again.take(1)] == [events[1].position]


async def test_a_large_snapshot_comes_in_parts_of_one_position(served: Served, site: Site) -> None:
    await register(site.app, "prices", "kv")
    for page in range(4):
        await site.app.append(*(entry(f"k{page}{number:03}", "x" * 1500) for number in range(500)))
    position = await served.platform.log.head(site.app.id)
    async with subscribed(served.url, site.app.host, "/realtime/kv/prices") as one, subscribed(served.url, site.app.host, "/realtime/kv/prices") as two:
        for stream in (one, two):
            keys: list[str] = []
            async for event in stream.events():
                assert (event.name, event.data["position"]) == ("snapshot", position)
                assert event.id == (position if event.data["complete"] else None)
                keys += [item["key"] for item in event.data["items"]]
                if event.data["complete"]:
                    break
            assert len(keys) == 2000
            assert keys == sorted(set(keys))


async def test_what_is_not_there_to_be_followed(served: Served, site: Site) -> None:
    await register(site.app, "internal", external=False)
    await register(site.app, "secret", auth_mode="token")
    await register(site.app, "other", auth_mode="token")
    await register(site.app, "prices", "kv", "token")
    for path in ("topics/nowhere", "topics/internal", "kv/secret", "kv/nowhere", "topics/a*", f"topics/{'x' * 300}", "topics/"):
        await refused(served, site, f"/realtime/{path}", 404, "topic_not_found")
    for path in ("", "x", "x/y", "topics/a/b", "files/a"):
        await refused(served, site, f"/realtime/{path}", 404, "no_route")
    good, foreign = await token_of(site, topic=("secret",)), await token_of(site, topic=("other",))
    async with served.site() as elsewhere:
        await register(elsewhere.app, "secret")
        alien = await token_of(elsewhere, topic=("secret",))
    old = await token_of(site, ttl_s=10, ago_s=60, topic=("secret",))
    for bad in ("", "x", "a.b.c", good.token[:-2] + "xx", foreign.token, alien.token, old.token):
        await refused(served, site, f"/realtime/topics/secret?token={bad}", 401)
        await refused(served, site, "/realtime/topics/secret", 401, authorization=f"Bearer {bad}")
    await refused(served, site, f"/realtime/kv/prices?token={good.token}", 401)
    for position in ("x", "-1", "1.0", str(2**63), "9" * 30, "%C2%B2"):
        await refused(served, site, f"/realtime/topics/secret?token={good.token}&after={position}", 422)
    await refused(served, site, f"/realtime/topics/secret?token={good.token}", 422, last_event_id="x")
    async with subscribed(served.url, "nowhere.example", "/realtime/topics/secret") as stream:
        assert (stream.status, (await stream.body())["code"]) == (404, "unknown_host")
    answer = await site.client.post("/realtime/topics/secret")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_route")
    await listening(served, 0)


async def test_tokens_and_admins_may_follow(served: Served, site: Site) -> None:
    await register(site.app, "internal", external=False)
    await register(site.app, "secret", auth_mode="token")
    token, session = await token_of(site, topic=("secret",)), await served.token()
    for path, headers in (
        (f"topics/secret?token={token.token}", {}),
        ("topics/secret", {"authorization": f"Bearer {token.token}"}),
        ("topics/secret", {"authorization": f"Bearer {session}"}),
        ("topics/internal", {"authorization": f"Bearer {session}"}),
        ("topics/unregistered", {"authorization": f"Bearer {session}"}),
        ("kv/unregistered", {"authorization": f"Bearer {session}"}),
    ):
        (await follow(served, site, f"/realtime/{path}", **headers)).close()
    await listening(served, 0)


@pytest.mark.parametrize(
    "change", ["unregistered", "internal", "token_required", "key_revoked", "token_expired", "app_deleted", "credential_ended", "shutdown"]
)
async def test_a_stream_ends_with_the_right_to_it(server_dsn: str, template: str, change: str) -> None:
    settings = msgspec.structs.replace(SERVED, realtime=Realtime(heartbeat_s=0.2))
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, serving(dsn, settings) as served, served.site() as site:
        app = site.app
        await register(app, "news")
        await register(app, "stays")
        await register(app, "secret", auth_mode="token")
        session = await served.token()
        token = await token_of(site, ttl_s=10, ago_s=4 if change == "token_expired" else 0, topic=("secret",))
        public = await follow(served, site, "/realtime/topics/news")
        admin = await follow(served, site, "/realtime/topics/news", authorization=f"Bearer {session}")
        bearer = await follow(served, site, f"/realtime/topics/secret?token={token.token}")
        other = await follow(served, site, "/realtime/topics/stays")
        stream = {"key_revoked": bearer, "token_expired": bearer, "credential_ended": admin}.get(change, public)
        match change:
            case "unregistered":
                await app.put((registry_stream("topic", "news"), TopicDeleted(kind="topic", name="news")))
            case "internal":
                await register(app, "news", external=False)
            case "token_required":
                await register(app, "news", auth_mode="token")
            case "key_revoked":
                (key,) = await served.platform.pool.fetch("SELECT kid FROM vault_subscriber_keys")
                await app.put(("subscriber_keys", SubscriberKeyRevoked(kid=key["kid"])))
            case "app_deleted":
                await App(served.platform, NIL_APP).put((app_stream(app.id), AppDeleted(app_id=app.id, slug=app.host.removesuffix(".localhost"))))
            case "credential_ended":
                await served.platform.accounts.log_out(session)
            case "shutdown":
                served.platform.live.close()
            case _:
                pass
        assert ended((await stream.take(1))[0]) == change
        if change not in {"app_deleted", "shutdown"}:
            await app.append(message(1, "stays"))
            assert (await other.take(1))[0].data["message"] == 1
        if change in {"unregistered", "internal", "token_required"}:
            await app.append(message(2))
            assert (await admin.take(1))[0].data["message"] == 2
        if change == "shutdown":
            await refused(served, site, "/realtime/topics/news", 503)
        for opened in (public, admin, bearer, other):
            opened.close()


async def test_heartbeats_come_and_the_heads_time_limit_does_not_end_a_stream(server_dsn: str, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.protocol.ProblemProtocol.HEAD_TIMEOUT_S", 0.1)
    monkeypatch.setattr("web.protocol.ProblemProtocol.BODY_TIMEOUT_S", 0.1)
    settings = msgspec.structs.replace(SERVED, realtime=Realtime(heartbeat_s=0.3))
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, serving(dsn, settings) as served, served.site() as site:
        await register(site.app, "news")
        stream = await follow(served, site, "/realtime/topics/news")
        seen = []
        with anyio.fail_after(20):
            async for block in stream.blocks():
                seen.append(block.comment)
                if len(seen) == 4:
                    break
        assert seen == ["open", "heartbeat", "heartbeat", "heartbeat"]
        await site.app.append(message(1))
        assert (await stream.take(1))[0].data["message"] == 1
        stream.close()


async def test_too_many_subscribers_are_told_to_come_again(server_dsn: str, template: str) -> None:
    settings = msgspec.structs.replace(SERVED, realtime=Realtime(max_subscribers=3, max_per_app=2, max_per_address=3))
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, serving(dsn, settings) as served, served.site() as one, served.site() as two:
        for site in (one, two):
            await register(site.app, "news")
        streams = [await follow(served, one, "/realtime/topics/news") for _ in range(2)]
        await refused(served, one, "/realtime/topics/news", 503, "too_many_subscribers")
        streams.append(await follow(served, two, "/realtime/topics/news"))
        await refused(served, two, "/realtime/topics/news", 503, "too_many_subscribers")
        streams.pop().close()
        await listening(served, 2)
        streams.append(await follow(served, two, "/realtime/topics/news"))
        for stream in streams:
            stream.close()
        await listening(served, 0)


def doc(name: str, **data: Any) -> PutDoc:
    return PutDoc(collection="users", id=name, data=msgspec.Raw(msgspec.json.encode(data)))


async def test_documents_behind_a_filter_come_and_go(served: Served, site: Site) -> None:
    await register(site.app, "users", "docs")
    await site.app.append(doc("a", tier="gold"), doc("b", tier="tin"), doc("c", tier="gold"))
    position = await served.platform.log.head(site.app.id)
    only = quote('{"tier": "gold"}')
    everything, golden = [await follow(served, site, f"/realtime/docs/users{query}") for query in ("", f"?filter={only}")]
    for stream, ids in ((everything, ["a", "b", "c"]), (golden, ["a", "c"])):
        (snapshot,) = await stream.take(1)
        assert (snapshot.id, [item["id"] for item in snapshot.data["items"]]) == (position, ids)
        assert snapshot.data["items"][0] | {"created_at": 0, "updated_at": 0} == {
            "collection": "users",
            "id": "a",
            "data": {"tier": "gold"},
            "version": 1,
            "created_at": 0,
            "updated_at": 0,
        }
    events = await site.app.append(
        doc("b", tier="tin", n=1),  # never matched
        doc("b", tier="gold"),  # begins to match
        doc("b", tier="gold", n=1),
        doc("a", tier="tin"),  # stops matching
        DeleteDoc(collection="users", id="a"),  # did not match any more
        DeleteDoc(collection="users", id="c"),
        doc("c", tier="tin"),
    )
    at = [event.position for event in events]
    shown = [(change.name, change.data["id"], change.id) for change in await everything.take(7)]
    assert [(name, name_of) for name, name_of, _ in shown] == [*[("upsert", "b")] * 3, ("upsert", "a"), ("delete", "a"), ("delete", "c"), ("upsert", "c")]
    wanted = [("upsert", "b", at[1]), ("upsert", "b", at[2]), ("delete", "a", at[3]), ("delete", "c", at[5])]
    changes = await golden.take(4)
    assert [(change.name, change.data["id"], change.id) for change in changes] == wanted
    assert changes[2].data == {"collection": "users", "id": "a", "version": 2}
    async with subscribed(served.url, site.app.host, f"/realtime/docs/users?filter={only}&after={position}") as again:
        assert [(change.name, change.data["id"], change.id) for change in await again.take(4)] == wanted
    for stream in (everything, golden):
        stream.close()


async def test_filters_that_are_refused(served: Served, site: Site) -> None:
    await register(site.app, "users", "docs")
    for bad in ("{", "[]", '{"$x": 1}', '{"$sort": "a"}', '{"a": {"$gt": []}}', "[" * 2000, '"\\ud800"', '{"a": "%s"}' % ("x" * 5000), "NaN"):  # braces
        await refused(served, site, f"/realtime/docs/users?filter={quote(bad)}", 422)
    await refused(served, site, "/realtime/docs/nowhere", 404, "topic_not_found")
