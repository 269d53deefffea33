"""What HTTP cannot show of the services of administration: several writers at once, roles that cannot be given yet, and first starts that were interrupted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import msgspec
import pytest
from litestar.handlers import HTTPRouteHandler
from uuid_utils.compat import uuid7

from adapters.postgres.vault import User
from domain.apps import AppCreated, app_stream
from domain.authz import AppRole, Principal, authorize
from domain.errors import Conflict, Forbidden, NotFound, PiCloudError, Unavailable, VersionConflict
from domain.events import Recorded
from domain.ids import NIL_APP
from domain.ports import Appender
from domain.routing import RouteSpec
from domain.units import Change, Read, Record, Unit
from projections.control.app_reads import page_apps
from projections.control.reads import page_scripts
from projections.control.route_reads import read_routes
from runtime.access.identity import Identity
from runtime.admin.apps import Apps
from runtime.admin.ceilings import ceiling_of
from runtime.admin.script_drafts import ScriptChange
from runtime.admin.scripts import Scripts
from runtime.admin.seeding import seed
from runtime.admin.writing import ATTEMPTS, Acting, AdminWriter, retried
from runtime.platform import Platform, open_platform
from runtime.settings import Settings
from tests.adapters.log_support import check_logs
from web.admin import apps as apps_handlers
from web.admin import events as events_handlers
from web.admin import kv as kv_handlers
from web.admin import routes as route_handlers
from web.admin import scripts as script_handlers
from web.admin import triggers as trigger_handlers
from web.admin.call import AdminCall
from web.admin.needs import needs_of, of_instance

pytestmark = pytest.mark.anyio

ACTING = Acting("user:test", "request")
ENDPOINT = "def handler(ctx):\n    return 1\n"


@pytest.fixture
async def platform(dsn: str) -> AsyncIterator[Platform]:
    async with open_platform(dsn, Settings()) as opened:
        yield opened


def writer(platform: Platform) -> AdminWriter:
    return AdminWriter(platform.appender, platform.clock, platform.directory.passed)


def scripts(platform: Platform) -> Scripts:
    return Scripts(platform.reader, writer(platform), platform.sandbox, ceiling_of(platform.settings.ceilings))


async def make_app(platform: Platform, slug: str = "one") -> UUID:
    return (await Apps(platform.reader, writer(platform)).create(slug, slug, ACTING)).id


async def outcomes(*attempts: Callable[[], Awaitable[Any]]) -> list[str]:
    """Run these at once; for each `ok` or the code of its refusal."""
    found = [""] * len(attempts)

    async def run(index: int) -> None:
        try:
            await attempts[index]()
        except PiCloudError as error:
            found[index] = error.code
        else:
            found[index] = "ok"

    async with anyio.create_task_group() as tasks:
        for index in range(len(attempts)):
            tasks.start_soon(run, index)
    return found


async def test_of_several_scripts_of_one_name_at_once_one_is_made(platform: Platform, dsn: str) -> None:
    app = await make_app(platform)
    service = scripts(platform)
    found = await outcomes(*(lambda: service.create(app, ScriptChange(name="Same", source=ENDPOINT), ACTING) for _ in range(5)))
    assert sorted(found) == ["duplicate_name"] * 4 + ["ok"]
    assert len(await page_scripts(platform.reader, [app], None, 10)) == 1
    await check_logs(dsn)


async def test_of_several_apps_of_one_slug_at_once_one_is_made(platform: Platform) -> None:
    service = Apps(platform.reader, writer(platform))
    found = await outcomes(*(lambda: service.create("a", "same", ACTING) for _ in range(5)))
    assert sorted(found) == ["ok"] + ["slug_taken"] * 4


async def test_a_module_is_never_deleted_under_a_new_importer(platform: Platform) -> None:
    app = await make_app(platform)
    service = scripts(platform)
    importer = ScriptChange(name="main", source="import util\n\ndef handler(ctx):\n    return util.X\n")
    for _ in range(3):
        module = await service.create(app, ScriptChange(name="util", kind="module", source="X = 1\n"), ACTING)
        found = await outcomes(partial(service.create, app, importer, ACTING), partial(service.delete, app, module.id, ACTING))
        left = {script.name: script for script in await page_scripts(platform.reader, [app], None, 10)}
        assert ("util" in left) is ("main" in left), found
        for name in sorted(left):
            await service.delete(app, left[name].id, ACTING)


async def test_a_change_of_a_module_and_of_its_use_never_pass_each_other(platform: Platform) -> None:
    app = await make_app(platform)
    service = scripts(platform)
    module = await service.create(app, ScriptChange(name="util", kind="module", source="def f() -> int:\n    return 1\n"), ACTING)
    renamed = ScriptChange(source="def g() -> int:\n    return 1\n")
    importer = ScriptChange(name="main", source="import util\n\ndef handler(ctx):\n    return util.f()\n")
    found = await outcomes(lambda: service.create(app, importer, ACTING), lambda: service.update(app, module.id, renamed, ACTING))
    assert sorted(found) in (["breaks_importers", "ok"], ["ok", "script_invalid"]), found
    for script in await page_scripts(platform.reader, [app], None, 10):
        assert [finding for finding in await service.check(app, script.kind, script.source, script.name) if finding.severity == "error"] == []


async def test_what_was_broken_before_does_not_stand_in_the_way(platform: Platform) -> None:
    app = await make_app(platform)
    service = scripts(platform)
    module = await service.create(app, ScriptChange(name="util", kind="module", source="X = 1\n"), ACTING)
    importer = await service.create(app, ScriptChange(name="main", source="import util\n\ndef handler(ctx):\n    return util.X\n"), ACTING)
    broken = "import util\n\ndef handler(ctx):\n    return util.nothing\n"
    await platform.pool.execute("UPDATE scripts SET source = $2 WHERE script_id = $1", importer.id, broken)
    changed = await service.update(app, module.id, ScriptChange(source="X = 2\n"), ACTING)
    assert changed.source_version == 2


async def test_whoever_always_loses_is_told() -> None:
    tries = 0

    async def attempt() -> None:
        nonlocal tries
        tries += 1
        raise VersionConflict

    with pytest.raises(Conflict) as caught:
        await retried(attempt)
    assert caught.value.code == "concurrent_changes"
    assert tries == ATTEMPTS


async def test_who_is_no_longer_who_he_was_changes_nothing_in_the_instance(platform: Platform) -> None:
    """Also through a key: whatever his right rests on must still stand when a change is committed."""
    app = await make_app(platform)
    rests_on = Read(app_stream(app), 1)
    stale = Acting("user:test", "request", (rests_on,))
    await Apps(platform.reader, writer(platform)).create("two", "two", stale)
    await writer(platform).append(NIL_APP, ACTING, [Change(Record(name=app_stream(app), event=AppCreated(app_id=app, name="one", slug="one")))])
    head = await platform.log.head(NIL_APP)
    with pytest.raises(Conflict) as refused:
        await retried(lambda: Apps(platform.reader, writer(platform)).create("three", "three", stale))
    assert refused.value.code == "authority_changed", "and it is not tried again"
    assert await platform.log.head(NIL_APP) == head
    await Apps(platform.reader, writer(platform)).create("three", "three", stale.but(app_stream(app)))
    await scripts(platform).create(app, ScriptChange(name="main", source=ENDPOINT), stale)


def call_of(platform: Platform, app: UUID, role: AppRole | None, **more: Any) -> AdminCall:
    """A request of a member of one app."""
    user_id = uuid7()
    roles = {} if role is None else {app: role}
    principal = Principal(kind="user", id=user_id, name="member", instance_role="member", app_roles=roles, **more)
    user = User(id=user_id, username="member", email=None, instance_role="member")
    identity = Identity(principal=principal, user=user, session_id=uuid7(), expires_at=datetime.now(UTC) + timedelta(hours=1), extended=False)
    return AdminCall(platform, identity, "request", ())


async def ask(handler: HTTPRouteHandler, caller: AdminCall, **parameters: Any) -> Any:
    """Call a handler as its route would, having asked for what the route declares."""
    wanted = needs_of(handler) or ()
    if of_instance(wanted):
        for capability in wanted:
            authorize(caller.principal, capability, None)
    call = AdminCall(caller.core, caller.identity, "request", wanted)
    call.principal = caller.principal
    return await handler.fn(call, **parameters)


async def test_editors_write_scripts_and_do_not_delete_them(platform: Platform) -> None:
    app = await make_app(platform)
    editor = call_of(platform, app, "editor")
    body = script_handlers.CreateScript(app_id="one", name="main", source=ENDPOINT)
    made = await ask(script_handlers.create_script, editor, data=body)
    await ask(script_handlers.update_script, editor, script=str(made.id), data=ScriptChange(timeout_seconds=5.0))
    route = await ask(route_handlers.create_route, editor, script=str(made.id), data=RouteSpec(path="/a"))
    await ask(route_handlers.delete_route, editor, route=str(route.id))
    refusals: list[Callable[[], Awaitable[Any]]] = [
        lambda: ask(script_handlers.delete_script, editor, script=str(made.id)),
        lambda: ask(trigger_handlers.list_triggers, editor, app="one"),
        lambda: ask(apps_handlers.create_app, editor, data=apps_handlers.CreateApp(name="b", slug="b")),
        lambda: ask(events_handlers.read_instance_event, editor, position="1"),
    ]
    for refusal in refusals:
        with pytest.raises(Forbidden):
            await refusal()
    await ask(script_handlers.delete_script, call_of(platform, app, "app_admin"), script=str(made.id))


async def test_viewers_read_and_strangers_see_nothing(platform: Platform) -> None:
    app = await make_app(platform)
    await make_app(platform, "two")
    made = await scripts(platform).create(app, ScriptChange(name="main", source=ENDPOINT), ACTING)
    viewer, stranger = call_of(platform, app, "viewer"), call_of(platform, app, None)
    assert (await ask(script_handlers.read_script, viewer, script=str(made.id))).id == made.id
    assert [item.id for item in (await ask(script_handlers.list_scripts, viewer)).items] == [made.id]
    assert [(item.slug, item.my_role) for item in (await ask(apps_handlers.list_apps, viewer)).items] == [("one", "viewer")]
    assert (await ask(script_handlers.list_scripts, stranger)).items == []
    assert (await ask(apps_handlers.list_apps, stranger)).items == []
    body = kv_handlers.PutEntry(value=1)
    with pytest.raises(Forbidden):
        await ask(kv_handlers.put_kv_entry, viewer, app="one", collection="c", key="k", data=body)
    refusals: list[Callable[[], Awaitable[Any]]] = [
        lambda: ask(kv_handlers.put_kv_entry, stranger, app="one", collection="c", key="k", data=body),
        lambda: ask(script_handlers.read_script, stranger, script=str(made.id)),
        lambda: ask(script_handlers.delete_script, stranger, script=str(made.id)),
        lambda: ask(apps_handlers.read_one, viewer, app="two"),
    ]
    for refusal in refusals:
        with pytest.raises(NotFound):
            await refusal()


async def test_a_key_sees_what_it_is_bound_to_and_scoped_for(platform: Platform) -> None:
    one, two = await make_app(platform), await make_app(platform, "two")
    for app in (one, two):
        await scripts(platform).create(app, ScriptChange(name="main", source=ENDPOINT), ACTING)
    reading: frozenset[Any] = frozenset({"script:read"})
    owner = Principal(kind="key", id=uuid7(), name="key", instance_role="owner", scopes=reading, bound_app=one)
    bound = call_of(platform, one, None)
    bound.principal = owner
    assert [item.app_id for item in (await ask(script_handlers.list_scripts, bound)).items] == [one]
    with pytest.raises(NotFound):
        await ask(script_handlers.list_scripts, bound, app="two")
    bound.principal = msgspec.structs.replace(owner, bound_app=None)
    assert [item.app_id for item in (await ask(script_handlers.list_scripts, bound)).items] == [one, two]
    bound.principal = msgspec.structs.replace(owner, bound_app=None, scopes=frozenset({"log:read"}))
    assert (await ask(script_handlers.list_scripts, bound)).items == []


async def test_an_empty_instance_is_seeded_once(platform: Platform, dsn: str) -> None:
    await seed(platform)
    (app,) = await page_apps(platform.reader, None, None, 10)
    assert (app.slug, await platform.log.head(app.id) > 0) == ("default", True)
    for host in ("localhost", "127.0.0.1", "default.localhost"):
        assert await platform.directory.app_of_host(host) == app.id
    (script,) = await page_scripts(platform.reader, None, None, 10)
    findings = await scripts(platform).check(app.id, "endpoint", script.source)
    assert findings == []
    before = await check_logs(dsn)
    await seed(platform)
    assert await check_logs(dsn) == before


async def test_processes_that_start_at_once_seed_once(platform: Platform, dsn: str) -> None:
    async with open_platform(dsn, Settings()) as other:
        found = await outcomes(lambda: seed(platform), lambda: seed(other), lambda: seed(platform))
    assert found == ["ok"] * 3
    (app,) = await page_apps(platform.reader, None, None, 10)
    assert len(await read_routes(platform.reader, app.id)) == 1
    await check_logs(dsn)


async def test_an_instance_with_apps_of_its_own_is_left_alone(platform: Platform, dsn: str) -> None:
    await make_app(platform, "default")
    before = await check_logs(dsn)
    await seed(platform)
    assert await check_logs(dsn) == before


class DiesBetweenLogs:
    """An appender whose process ends after the instance's log and before the app's."""

    def __init__(self, inner: Appender) -> None:
        self._inner = inner

    async def append(self, unit: Unit) -> tuple[Recorded, ...]:
        if unit.app_id != NIL_APP:
            raise Unavailable(retry_after_s=1.0)
        return await self._inner.append(unit)


async def test_seeding_that_was_interrupted_is_finished(platform: Platform) -> None:
    with pytest.raises(Unavailable):
        await seed(msgspec.structs.replace(platform, appender=DiesBetweenLogs(platform.appender)))
    (app,) = await page_apps(platform.reader, None, None, 10)
    assert await platform.log.head(app.id) == 0
    await seed(platform)
    assert [stored.route.path for stored in await read_routes(platform.reader, app.id)] == ["/hello"]
