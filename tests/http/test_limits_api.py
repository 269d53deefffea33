"""Rates, quotas and what answers say of them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from domain.app_settings import SETTINGS, AppSettings, AppSettingsChanged
from domain.bounds import Quotas, RateLimits
from domain.clock import utc_now
from domain.errors import RateLimited
from tests.http.admin_support import API, refused
from tests.postgres import cloned
from tests.runtime.serving import SERVED, Served, Site, serving
from tests.runtime.world import App, eventually
from web.limits import limit_rate

pytestmark = pytest.mark.anyio

HELLO = "def handler(ctx):\n    return 'hello'\n"
SETS = "def handler(ctx):\n    kv.collection('c').set(ctx.request.query['key'], 'x' * int(ctx.request.query['size']))\n"
DELETES = "def handler(ctx):\n    kv.collection('c').delete(ctx.request.query['key'])\n"
READS = "def handler(ctx):\n    return len(kv.collection('c').get(ctx.request.query['key']))\n"
NOTES = "def handler(ctx):\n    kv.collection('seen').set(ctx.event.kv.key, 1)\n"


class Time:
    """A clock that is moved by hand. It begins today, because events bear the time of the database."""

    def __init__(self) -> None:
        self.now = utc_now()
        self.midnight = datetime.combine(self.now.date() + timedelta(days=1), datetime.min.time(), UTC)
        self.seconds = 1000.0

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds

    @property
    def left_s(self) -> int:
        """Whole seconds until midnight, rounded up."""
        return math.ceil((self.midnight - self.now).total_seconds())

    def pass_midnight(self) -> None:
        self.now = self.midnight + timedelta(seconds=1)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def served(server_dsn: str, template: str, time: Time) -> AsyncIterator[Served]:
    async with cloned(server_dsn, template) as dsn, serving(dsn, SERVED, time) as opened:
        opened.platform.rates._now_s = lambda: time.seconds
        yield opened


@pytest.fixture
async def site(served: Served) -> AsyncIterator[Site]:
    async with served.site() as opened:
        yield opened


@pytest.fixture
async def owner(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, headers={"authorization": f"Bearer {await served.token()}"}) as client:
        yield client


async def bound(app: App, limits: RateLimits | None = None, **quotas: Any) -> None:
    settings = AppSettings(limits=limits or RateLimits(), quotas=Quotas(**quotas))
    await app.put((SETTINGS, AppSettingsChanged(settings=settings)))


async def test_without_a_limit_nothing_is_said_of_one(site: Site) -> None:
    answer = await site.client.get(await site.at("/a", HELLO))
    assert not [name for name in answer.headers if "ratelimit" in name or name == "server-timing"]


async def test_a_rate_lets_its_quota_pass_and_then_one_at_a_time(site: Site, served: Served, time: Time) -> None:
    path = await site.at("/a", HELLO)
    await bound(site.app, RateLimits(requests_per_minute=3))
    for left, full_in_s in ((2, 20), (1, 40), (0, 60)):
        answer = await site.client.get(path)
        assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == '"app";q=3;w=60'
        assert answer.headers["ratelimit"] == f'"app";r={left};t={full_in_s}'
    answer = await site.client.get(path)
    document = refused(answer, 429, "rate_limited")
    assert (document["limit"], document["window_s"], document["violated-policies"]) == (3, 60, ["app"])
    assert (answer.headers["retry-after"], answer.headers["ratelimit"]) == ("20", '"app";r=0;t=60')
    time.pass_s(20)
    assert (await site.client.get(path)).status_code == 200
    refused(await site.client.get(path), 429, "rate_limited")
    async with served.site() as other:  # whose rate is its own
        assert (await other.client.get(await other.at("/a", HELLO))).status_code == 200
    await bound(site.app, RateLimits(requests_per_minute=1000))
    assert (await site.client.get(path)).status_code == 200


async def test_what_no_route_matches_is_not_counted(site: Site) -> None:
    path = await site.at("/a", HELLO)
    await bound(site.app, RateLimits(requests_per_minute=1))
    for _ in range(3):
        refused(await site.client.get("/nowhere"), 404, "no_route")
    assert (await site.client.get(path)).status_code == 200
    refused(await site.client.get("/realtime/topics/news"), 429, "rate_limited")


async def test_direct_runs_are_counted_too(site: Site, owner: httpx.AsyncClient) -> None:
    script = await site.app.script(HELLO)
    await bound(site.app, RateLimits(requests_per_minute=1))
    assert (await owner.post(f"/api/v1/execute/{script}")).headers["ratelimit"] == '"app";r=0;t=60'
    refused(await owner.post(f"/api/v1/execute/{script}"), 429, "rate_limited")


async def new_key(owner: httpx.AsyncClient, name: str) -> dict[str, str]:
    """The header of a new API key."""
    answer = await owner.post(f"{API}/api-keys", json={"name": name, "scopes": ["script:read", "instance:admin"]})
    assert answer.status_code == 201, answer.text
    return {"authorization": f"Bearer {answer.json()['token']}"}


async def test_each_key_has_a_rate_of_its_own(site: Site, owner: httpx.AsyncClient) -> None:
    path, script = await site.at("/a", HELLO), await site.app.script(HELLO, name="direct")
    await bound(site.app, RateLimits(requests_per_minute=100, requests_per_minute_per_key=1))
    first, second = await new_key(owner, "first"), await new_key(owner, "second")
    for headers in (first, second):
        answer = await site.client.get(path, headers=headers)
        assert answer.headers.get_list("ratelimit-policy") == ['"app";q=100;w=60', '"key";q=1;w=60']
        assert answer.headers.get_list("ratelimit")[1] == '"key";r=0;t=60'
        for again in (await site.client.get(path, headers=headers), await site.client.post(f"/api/v1/execute/{script}", headers=headers)):
            assert refused(again, 429, "rate_limited")["violated-policies"] == ["key"]
    for headers in ({}, dict(owner.headers) | {"host": site.app.host}):
        answer = await site.client.get(path, headers=headers)
        assert answer.headers.get_list("ratelimit-policy") == ['"app";q=100;w=60']


async def test_the_admin_api_has_a_rate_for_each_key_and_none_for_people(owner: httpx.AsyncClient, time: Time) -> None:
    first, second = await new_key(owner, "first"), await new_key(owner, "second")
    assert (await owner.patch(f"{API}/settings", json={"control_plane": {"requests_per_minute_per_key": 2}})).status_code == 200
    for left in (1, 0):
        answer = await owner.get(f"{API}/apps", headers=first)
        assert (answer.status_code, answer.headers["ratelimit"]) == (200, f'"key";r={left};t={60 - 30 * left}')
    answer = await owner.get(f"{API}/apps", headers=first)
    refused(answer, 429, "rate_limited")
    assert (answer.headers["retry-after"], answer.headers["ratelimit-policy"]) == ("30", '"key";q=2;w=60')
    assert (await owner.get(f"{API}/apps", headers=second)).status_code == 200
    assert "ratelimit" not in (await owner.get(f"{API}/apps")).headers
    time.pass_s(30)
    assert (await owner.get(f"{API}/apps", headers=first)).status_code == 200


async def test_processes_share_a_rate(served: Served) -> None:
    served.platform.rates.processes = 2
    for passes in (True, True, False):
        scope: dict[str, Any] = {"state": {}}
        if passes:
            limit_rate(served.platform.rates, scope, "app", "x", 4)
        else:
            with pytest.raises(RateLimited):
                limit_rate(served.platform.rates, scope, "app", "x", 4)
        assert scope["state"]["also"][0] == (b"ratelimit-policy", b'"app";q=4;w=60')


async def test_requests_of_a_day_are_used_up_until_midnight(site: Site, owner: httpx.AsyncClient, served: Served, time: Time) -> None:
    path = await site.at("/a", HELLO)
    midnight = f"{time.midnight:%Y-%m-%d}T00:00:00Z"
    await bound(site.app, requests_per_day=2)
    for left in (1, 0):
        answer = await site.client.get(path)
        assert (answer.headers["ratelimit-policy"], answer.headers["ratelimit"]) == ('"day";q=2;w=86400', f'"day";r={left};t={time.left_s}')
    answer = await site.client.get(path)
    document = refused(answer, 429, "quota_exceeded")
    assert (document["quota"], document["limit"], document["resets_at"]) == ("requests_per_day", 2, midnight)
    assert answer.headers["retry-after"] == str(time.left_s)
    assert (answer.headers["ratelimit-policy"], answer.headers["ratelimit"]) == ('"day";q=2;w=86400', f'"day";r=0;t={time.left_s}')
    await served.platform.usage.flush()
    used = (await owner.get(f"{API}/apps/{site.app.id}/usage")).json()
    assert (used["day"], used["resets_at"], used["requests"]) == (str(time.now.date()), midnight, {"used": 2, "limit": 2})
    assert used["executions"] == {"used": 2, "limit": None}
    time.pass_midnight()
    assert (await site.client.get(path)).status_code == 200
    assert (await owner.get(f"{API}/apps/{site.app.id}/usage")).json()["requests"]["used"] == 1


async def test_executions_of_a_day_refuse_requests_before_they_run(site: Site, owner: httpx.AsyncClient) -> None:
    path, queued = await site.at("/a", HELLO), await site.at("/queued", HELLO, "async")
    script = await site.app.script(HELLO, name="direct")
    await bound(site.app, executions_per_day=1)
    assert (await site.client.get(path)).status_code == 200
    for answer in (await site.client.get(path), await site.client.get(queued), await owner.post(f"/api/v1/execute/{script}")):
        assert refused(answer, 429, "quota_exceeded")["quota"] == "executions_per_day"
    assert await site.app.outbox() == []


@pytest.mark.parametrize("ends", ["raised", "midnight"])
async def test_triggered_executions_wait_where_they_are(site: Site, owner: httpx.AsyncClient, served: Served, time: Time, ends: str) -> None:
    await site.app.trigger(await site.app.script(NOTES, name="notes"), "c")
    await bound(site.app, executions_per_day=2)
    backlog = served.platform.reactor._backlog
    for number in range(5):
        await owner.put(f"{API}/apps/{site.app.id}/kv/c/k{number}", json={"value": number})

    async def resting() -> bool:
        return site.app.id in backlog.resting and not len(backlog)

    await eventually(resting)
    rows = await site.app.outbox()
    assert [(row["attempt"], row["worker_id"]) for row in rows] == [(1, None)] * 3
    assert len(await site.app.kv("seen")) == 2
    head = await served.platform.log.head(site.app.id)
    served.platform.reactor.wake()
    async with served.site() as other:  # goes on meanwhile
        await other.app.trigger(await other.app.script(NOTES, name="notes"), "c")
        await owner.put(f"{API}/apps/{other.app.id}/kv/c/k", json={"value": 1})
        await other.app.drained()
        assert len(await other.app.kv("seen")) == 1
    assert await served.platform.log.head(site.app.id) == head
    if ends == "raised":
        await bound(site.app, executions_per_day=5)
    else:
        await bound(site.app, executions_per_day=3)
        await served.platform.usage.flush()
        time.pass_midnight()
    served.platform.reactor.wake()
    await site.app.drained()
    assert len(await site.app.kv("seen")) == 5


async def test_events_of_a_day_bound_whoever_writes_and_nobody_who_cleans_up(site: Site, owner: httpx.AsyncClient, served: Served, time: Time) -> None:
    path = await site.at("/set", SETS)
    app = f"{API}/apps/{site.app.id}"
    assert (await owner.put(f"{app}/kv/c/k", json={"value": 1})).status_code == 200
    used = (await owner.get(f"{app}/usage")).json()["events"]["used"]
    assert used == await served.platform.log.head(site.app.id)
    await bound(site.app, events_per_day=used + 2)
    assert (await site.client.get(f"{path}?key=a&size=1")).status_code == 204
    refused(await site.client.get(f"{path}?key=a&size=1"), 429, "quota_exceeded")
    writes = (
        await owner.put(f"{app}/kv/c/k", json={"value": 1}),
        await owner.post(f"{app}/docs/c", json={"data": {}}),
        await owner.post(f"{app}/topics/t:publish", json={"message": 1}),
        await owner.post(f"{app}/files/c", files={"file": ("a", b"x")}),
    )
    for answer in writes:
        assert refused(answer, 429, "quota_exceeded")["quota"] == "events_per_day"
    assert (await owner.get(f"{app}/kv/c/k")).status_code == 200
    assert (await owner.delete(f"{app}/kv/c/k")).status_code == 204
    assert (await owner.patch(f"{app}/settings", json={"server_timing": True})).status_code == 200
    time.pass_midnight()
    assert (await owner.put(f"{app}/kv/c/k", json={"value": 1})).status_code == 200


async def test_storage_is_full_for_what_grows_alone(site: Site, owner: httpx.AsyncClient, time: Time) -> None:
    sets, reads, deletes = await site.at("/set", SETS), await site.at("/read", READS), await site.at("/delete", DELETES)
    app = f"{API}/apps/{site.app.id}"
    await bound(site.app, storage_bytes=1000)
    assert (await site.client.get(f"{sets}?key=a&size=600")).status_code == 204
    time.pass_s(300)
    answer = await site.client.get(f"{sets}?key=b&size=600")
    assert "1000 bytes" in refused(answer, 507, "budget_exceeded")["detail"]
    more = (
        await owner.put(f"{app}/kv/c/b", json={"value": "x" * 600}),
        await owner.post(f"{app}/docs/c", json={"data": {"x": "x" * 600}}),
        await owner.put(f"{app}/docs/c/d", json={"data": {"x": "x" * 600}}),
        await owner.post(f"{app}/files/c", files={"file": ("a", b"x" * 600)}),
    )
    for refusal in more:
        document = refused(refusal, 507, "storage_full")
        assert (document["quota"], document["limit"]) == ("storage_bytes", 1000)
    assert (await site.client.get(f"{sets}?key=b&size=100")).status_code == 204
    assert (await site.client.get(f"{reads}?key=a")).json() == 600
    assert (await site.client.get(f"{deletes}?key=a")).status_code == 204
    time.pass_s(300)
    assert (await site.client.get(f"{sets}?key=b&size=600")).status_code == 204
    time.pass_s(300)
    used = (await owner.get(f"{app}/usage")).json()["storage_bytes"]
    assert (used["used"], used["kv"], used["docs"], used["files"], used["limit"]) == (603, 603, 0, 0, 1000)


async def test_how_long_it_took_is_shown_to_those_who_may_know(site: Site, served: Served) -> None:
    path = await site.at("/set", SETS) + "?key=a&size=1"
    assert "server-timing" not in (await site.client.get(path)).headers
    token = {"authorization": f"Bearer {await served.token()}"}
    said = (await site.client.get(path, headers=token)).headers["server-timing"]
    parts = {name: float(duration) for name, _, duration in (part.partition(";dur=") for part in said.split(", "))}
    assert list(parts) == ["queue", "run", "commit"]
    assert all(duration >= 0 for duration in parts.values())
    assert parts["run"] > 0
    assert parts["commit"] > 0
    await site.app.put((SETTINGS, AppSettingsChanged(settings=AppSettings(server_timing=True))))
    assert "server-timing" in (await site.client.get(path)).headers
