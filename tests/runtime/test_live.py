"""Every subscriber has exactly what the log has: however slow it is, however often it breaks off, wherever it goes on."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from random import Random
from typing import Any

import anyio
import anyio.abc
import msgspec
import pytest
from uuid_utils.compat import uuid7

from domain.docs.events import PutDoc
from domain.errors import Throttled
from domain.kv import KvSet, SetKey
from domain.pubsub import Publish, Published
from domain.units import Effect
from runtime.live import channel as window
from runtime.live.channel import Channel, Key
from runtime.live.subscription import Access, Subscription
from runtime.live.tails import EventTail, text_of
from runtime.platform import Platform
from runtime.settings import Realtime
from tests.postgres import _database, cloned
from tests.runtime.world import QUICK, App, eventually, new_app, running

pytestmark = pytest.mark.anyio

TOPICS = ("a", "b", "ab")
KEYS = [*(Key("topic", name) for name in TOPICS), Key("kv", "a")]
TAILS = [Key("events", ""), Key("events", "", text_of(EventTail(topic=KvSet.TOPIC)))]
_ID = re.compile(rb"^id: (\d+)\ndata", re.MULTILINE)
"""Of events; heartbeats have an id, too."""


async def judge() -> Access:
    return Access()


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def some_effect(random: Random) -> Effect:
    kind = random.randrange(6)
    if kind == 0:
        return SetKey(collection=random.choice("ab"), key=random.choice("kl"), value=raw("v" * random.randrange(2000)))
    if kind == 1:
        return PutDoc(collection="a", id="d", data=raw({}))
    return Publish(topic=random.choice(TOPICS), message=raw("m" * random.randrange(3000)))


async def write(app: App, random: Random, events: int) -> None:
    left = events
    while left:
        count = min(left, random.randrange(1, 60))
        await app.append(*(some_effect(random) for _ in range(count)))
        left -= count
        await asyncio.sleep(0)


async def expected(app: App) -> dict[Key, list[int]]:
    found: dict[Key, list[int]] = {key: [] for key in (*KEYS, *TAILS)}
    for recorded in await app.events():
        event = recorded.event
        found[TAILS[0]].append(recorded.position)
        if isinstance(event, KvSet):
            found[TAILS[1]].append(recorded.position)
        if not isinstance(event, Published | KvSet):
            continue
        key = Key("topic", event.topic) if isinstance(event, Published) else Key("kv", getattr(event, "collection", ""))
        if key in found:
            found[key].append(recorded.position)
    return found


class Subscriber:
    """One that is now and then slow, and breaks off."""

    def __init__(self, key: Key, seed: int) -> None:
        self.key = key
        self.random = Random(seed)
        self.seen: list[int] = []
        self.after = 0

    async def take(self, data: bytes) -> None:
        self.seen += map(int, _ID.findall(data))
        self.after = self.seen[-1] if self.seen else self.after
        if self.random.random() < 0.2:
            for _ in range(self.random.randrange(30)):
                await asyncio.sleep(0)

    async def follow(self, platform: Platform, app: App) -> None:
        """Follow for ever, from the start, breaking off at random."""
        while True:
            subscription = await platform.live.subscribe(app.id, self.key, judge, self.after)
            try:
                with anyio.move_on_after(self.random.choice([0.01, 0.2, 5])):
                    await subscription.deliver(self.take)
            finally:
                platform.live.leave(subscription)


@pytest.mark.parametrize(("subscribers", "keys"), [(2000, KEYS), (200, TAILS)])
async def test_thousands_of_slow_and_fickle_subscribers(
    server_dsn: str, template: str, subscribers: int, keys: list[Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "WINDOW_FRAMES", 20)
    monkeypatch.setattr(window, "WINDOW_BYTES", 20_000)
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, running(dsn) as platform:
        app = await new_app(platform)
        everybody = [Subscriber(keys[number % len(keys)], number) for number in range(subscribers)]
        async with anyio.create_task_group() as tasks:
            for each in everybody:
                tasks.start_soon(each.follow, platform, app)
            await write(app, Random(1), 1500)
            wanted = await expected(app)

            async def missing() -> int:
                return sum(len(each.seen) < len(wanted[each.key]) for each in everybody)

            await eventually(missing, lambda found: found == 0, within_s=90)
            tasks.cancel_scope.cancel()
        assert all(each.seen == wanted[each.key] for each in everybody)
        assert platform.metrics.registry.get_sample_value("picloud_live_fallbacks_total")
        platform.live.forget(app.id)


async def test_a_slow_subscriber_makes_nobody_wait_and_rejoins(server_dsn: str, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "WINDOW_FRAMES", 5)
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, running(dsn) as platform:
        app = await new_app(platform)
        go_on = anyio.Event()
        quick, slow = Subscriber(KEYS[0], 0), Subscriber(KEYS[0], 0)

        async def take_slowly(data: bytes) -> None:
            slow.seen += map(int, _ID.findall(data))
            await go_on.wait()

        opened = [await platform.live.subscribe(app.id, KEYS[0], judge, None) for _ in range(2)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(opened[0].deliver, partial(_note, quick))
            tasks.start_soon(opened[1].deliver, take_slowly)
            for number in range(200):
                await app.append(Publish(topic="a", message=raw(number)))
            positions = (await expected(app))[KEYS[0]]
            await _until(lambda: quick.seen == positions)
            assert len(slow.seen) < len(positions)
            go_on.set()
            await _until(lambda: slow.seen == positions)
            await app.append(Publish(topic="a", message=raw("live again")))
            await _until(lambda: len(slow.seen) == len(quick.seen) == 201)
            assert opened[1].after >= opened[1].channel.floor
            assert platform.metrics.registry.get_sample_value("picloud_live_fallbacks_total")
            tasks.cancel_scope.cancel()


async def _note(subscriber: Subscriber, data: bytes) -> None:
    subscriber.seen += map(int, _ID.findall(data))


async def _until(holds: Any, within_s: float = 20) -> None:
    async def look() -> bool:
        return bool(holds())

    await eventually(look, within_s=within_s)


async def test_one_that_takes_nothing_is_broken_off_at_the_second_heartbeat(server_dsn: str, template: str) -> None:
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, running(dsn) as platform:
        app = await new_app(platform)
        subscription = await platform.live.subscribe(app.id, KEYS[0], judge, None)
        with anyio.CancelScope() as scope:
            subscription.on_break(scope.cancel)
            await app.append(Publish(topic="a", message=raw(1)))

            async def never(data: bytes) -> None:
                del data
                subscription.beat()
                asyncio.get_running_loop().call_soon(subscription.beat)
                await anyio.sleep_forever()

            await subscription.deliver(never)
        assert subscription.is_stalled
        platform.live.leave(subscription)


def test_a_window_always_has_its_newest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "WINDOW_BYTES", 10)
    one = Channel(KEYS[0], 0)
    for position in range(1, 6):
        one.push(position, b"x" * 100)
    assert one.floor == 4
    chunk = one.take(4)
    assert chunk is not None
    assert (chunk.last, chunk.frames) == (5, 1)
    assert one.take(5) is None
    assert one.frames_after(0) == 1


async def test_subscribers_survive_restarts_and_change_processes(server_dsn: str, template: str) -> None:
    random = Random(3)
    subscribers = [Subscriber(KEYS[0], number) for number in range(300)]
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn:
        async with running(dsn) as first, anyio.create_task_group() as tasks:
            app = await new_app(first)
            for subscriber in subscribers:
                tasks.start_soon(subscriber.follow, first, app)
            await write(app, random, 400)
            tasks.cancel_scope.cancel()
        async with running(dsn) as second, running(dsn) as third, anyio.create_task_group() as tasks:
            app = App(second, app.id)
            for number, subscriber in enumerate(subscribers):
                tasks.start_soon(subscriber.follow, (second, third)[number % 2], app)
            await write(app, random, 400)
            wanted = (await expected(app))[KEYS[0]]
            await _until(lambda: all(len(subscriber.seen) >= len(wanted) for subscriber in subscribers), within_s=60)
            tasks.cancel_scope.cancel()
    assert all(subscriber.seen == wanted for subscriber in subscribers)


async def test_where_nothing_happens_heartbeats_and_departures_leave_nothing_behind(server_dsn: str, template: str) -> None:
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, running(dsn) as platform, anyio.create_task_group() as tasks:
        app = await new_app(platform)
        stays = await platform.live.subscribe(app.id, KEYS[0], judge, None)
        beats = Subscriber(KEYS[0], 0)
        tasks.start_soon(stays.deliver, partial(_note, beats))
        for _ in range(20):
            with anyio.move_on_after(0.01):
                comes_and_goes = await platform.live.subscribe(app.id, KEYS[0], judge, None)
                await comes_and_goes.deliver(partial(_note, beats))
            platform.live.leave(comes_and_goes)
            stays.beat()
            await _until(lambda: not stays._beats)
        await _until(lambda: len(stays.channel._waiting) == 1)
        tasks.cancel_scope.cancel()
    platform.live.leave(stays)


async def test_who_may_listen_no_longer_is_ended_however_far_it_is_behind(server_dsn: str, template: str) -> None:
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, running(dsn) as platform:
        app = await new_app(platform)
        await app.append(*(Publish(topic="a", message=raw("m" * 20_000)) for _ in range(100)))
        taken = Subscriber(KEYS[0], 0)

        async def may_listen() -> bool:
            return not taken.seen

        async def admin() -> Access:
            return Access(recheck=may_listen)

        subscription = await platform.live.subscribe(app.id, KEYS[0], admin, 0)

        async def take(data: bytes) -> None:
            taken.seen += map(int, _ID.findall(data))
            subscription.beat()

        assert await subscription.deliver(take) == "credential_ended"
        assert 0 < len(taken.seen) < 100
        platform.live.leave(subscription)


async def test_a_position_that_the_log_has_not_reached_is_none(server_dsn: str, template: str) -> None:
    """Of another app that had the host before, or of before a database was restored: who waited for it would miss everything up to there."""
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, running(dsn) as platform:
        app = await new_app(platform)
        await app.append(*(Publish(topic="a", message=raw(number)) for number in range(3)))
        head = await platform.log.head(app.id)
        for after, stands_at, is_fresh in ((None, head, True), (0, 0, False), (head, head, False), (head + 1, head, True), (2**63 - 1, head, True)):
            subscription = await platform.live.subscribe(app.id, KEYS[0], judge, after)
            assert (subscription.after, subscription.is_fresh) == (stands_at, is_fresh)
            platform.live.leave(subscription)


async def test_feeds_end_when_nobody_follows(server_dsn: str, template: str) -> None:
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, running(dsn) as platform:
        app = await new_app(platform)
        subscription: Subscription = await platform.live.subscribe(app.id, KEYS[0], judge, None)
        assert not subscription.feed.is_idle
        platform.live.leave(subscription)
        assert subscription.feed.is_idle
        platform.live.forget(app.id)
        again = await platform.live.subscribe(app.id, KEYS[0], judge, None)
        assert again.feed is not subscription.feed
        platform.live.leave(again)


async def test_a_heartbeat_says_where_a_quiet_subscriber_stands(server_dsn: str, template: str) -> None:
    """Whoever reconnects from there has nothing to search: not the stretch of the log in which nothing was for it."""
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, running(dsn) as platform, anyio.create_task_group() as tasks:
        app = await new_app(platform)
        (published,) = await app.append(Publish(topic="a", message=raw(1)))
        subscription = await platform.live.subscribe(app.id, KEYS[0], judge, 0)
        sent: list[bytes] = []

        async def take(data: bytes) -> None:
            sent.append(data)

        tasks.start_soon(subscription.deliver, take)
        await _until(lambda: len(sent) == 1)
        subscription.beat()
        await _until(lambda: len(sent) == 2)
        assert sent[1] == b": heartbeat\nid: %d\n\n" % published.position
        for number in range(20):
            (last,) = await app.append(Publish(topic="elsewhere", message=raw(number)))
        await _until(lambda: subscription.feed.seen == last.position)
        subscription.beat()
        await _until(lambda: len(sent) == 3)
        assert sent[2] == b": heartbeat\nid: %d\n\n" % last.position
        (again,) = await app.append(Publish(topic="a", message=raw(2)))
        await _until(lambda: len(sent) == 4)
        assert _ID.findall(sent[3]) == [b"%d" % again.position]
        tasks.cancel_scope.cancel()
    platform.live.leave(subscription)


async def test_a_heartbeat_to_one_that_is_behind_claims_nothing(server_dsn: str, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "WINDOW_FRAMES", 2)
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, running(dsn) as platform, anyio.create_task_group() as tasks:
        app = await new_app(platform)
        await app.append(*(Publish(topic="a", message=raw("m" * 100_000)) for _ in range(20)))
        positions = (await expected(app))[KEYS[0]]
        subscription = await platform.live.subscribe(app.id, KEYS[0], judge, 0)
        seen: list[int] = []

        async def take(data: bytes) -> None:
            stands = re.findall(rb"^: heartbeat\nid: (\d+)\n\n$", data)
            assert not stands or int(stands[0]) == (seen[-1] if seen else 0)
            seen.extend(map(int, _ID.findall(data)))
            if not stands:
                subscription.beat()

        tasks.start_soon(subscription.deliver, take)
        await _until(lambda: seen == positions)
        tasks.cancel_scope.cancel()
    platform.live.leave(subscription)


async def test_who_may_listen_no_longer_is_found_out_between_heartbeats(server_dsn: str, template: str) -> None:
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, running(dsn) as platform:
        app = await new_app(platform)
        asked = 0

        async def may_listen() -> bool:
            nonlocal asked
            asked += 1
            return asked < 3

        async def admin() -> Access:
            return Access(recheck=may_listen)

        subscription = await platform.live.subscribe(app.id, KEYS[0], admin, None)
        with anyio.fail_after(20):  # well before the first heartbeat, which comes after 30 s
            assert await subscription.deliver(partial(_note, Subscriber(KEYS[0], 0))) == "credential_ended"
        platform.live.leave(subscription)


async def test_an_ipv6_callers_whole_network_is_one_address(server_dsn: str, template: str) -> None:
    settings = msgspec.structs.replace(QUICK, realtime=Realtime(max_per_address=2))
    async with cloned(server_dsn, template) as dsn, running(dsn, settings) as platform:
        app_id = uuid7()
        with platform.live.place(app_id, "2001:db8::1"), platform.live.place(app_id, "2001:db8::2"):
            with pytest.raises(Throttled), platform.live.place(app_id, "2001:db8::3"):
                pass
            with platform.live.place(app_id, "2001:db8:0:1::1"):
                pass
        with platform.live.place(app_id, "2001:db8::3"):
            pass
