"""What HTTP cannot show of apps: several writers at once, and people with other roles than the owner's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from domain.authz import Capability, InstanceRole, Principal, decide
from domain.errors import Conflict, Forbidden, Moved, NotFound
from domain.ids import NIL_APP
from domain.kv import SetKey
from projections.control.app_reads import page_domains
from runtime.admin.app_deletion import AppDeletion
from runtime.admin.apps import Apps
from runtime.admin.domains import Domains
from runtime.admin.slugs import ADMINS_RULES, HostRules
from runtime.platform import Platform, open_platform
from runtime.settings import Settings
from tests.adapters.test_admin_services import ACTING, ask, call_of, make_app, outcomes, writer
from tests.model.slugs_model import names_agree
from tests.runtime.full_app import ONE
from tests.runtime.world import App, purged
from web.admin import apps as apps_handlers
from web.admin import domains as domain_handlers
from web.admin import events as events_handlers
from web.admin.call import AdminCall

pytestmark = pytest.mark.anyio


@pytest.fixture
async def platform(dsn: str) -> AsyncIterator[Platform]:
    async with open_platform(dsn, Settings()) as opened:
        yield opened


def domains(platform: Platform, rules: HostRules = ADMINS_RULES) -> Domains:
    return Domains(platform.reader, writer(platform), rules)


def deletion(platform: Platform) -> AppDeletion:
    return AppDeletion(platform.reader, writer(platform), platform.log)


async def test_a_domain_and_the_end_of_its_app_never_pass_each_other(platform: Platform, dsn: str, connection: asyncpg.Connection) -> None:
    async with open_platform(dsn, Settings()) as other:
        for number in range(10):
            app = await make_app(platform, f"app-{number}")
            pattern = f"h{number}.example.com"
            found = await outcomes(partial(domains(other).add, app, pattern, ACTING), partial(deletion(platform).delete, app, ACTING, force=False))
            assert found in (["ok", "ok"], ["app_not_found", "ok"])
            assert await page_domains(platform.reader, app, None, 10) == []
            next_app = await make_app(platform, f"next-{number}")
            await domains(platform).add(next_app, pattern, ACTING)
            await deletion(platform).delete(next_app, ACTING, force=False)
        await names_agree(connection)


async def test_a_domain_that_is_removed_twice_at_once_is_removed_once(platform: Platform) -> None:
    app = await make_app(platform)
    domain = await domains(platform).add(app, "a.example.com", ACTING)
    found = await outcomes(*(partial(domains(platform).remove, app, domain.id, ACTING) for _ in range(3)))
    assert sorted(found) == ["not_found", "not_found", "ok"]


async def test_every_other_process_has_followed_a_change_before_its_author_is_answered(platform: Platform, dsn: str) -> None:
    """And not because its author gave up waiting: the last event of these units is none that hosts depend on."""
    async with open_platform(dsn, Settings()) as other:
        for number, (author, follower) in enumerate([(platform, other), (other, platform)] * 3):
            await make_app(author, f"app-{number}")
            head = await platform.log.head(NIL_APP)
            followed = await platform.pool.fetchval("SELECT position FROM worker_tails WHERE worker_id = $1 AND app_id = $2", follower.worker_id, NIL_APP)
            assert followed == head


async def test_an_app_is_renamed_or_deleted_and_either_leaves_nothing_behind(platform: Platform, connection: asyncpg.Connection) -> None:
    apps = Apps(platform.reader, writer(platform))
    for number in range(10):
        app = await make_app(platform, f"a-{number}")
        found = await outcomes(
            partial(apps.change, app, None, f"b-{number}", ACTING),
            partial(deletion(platform).delete, app, ACTING, force=False),
            partial(deletion(platform).delete, app, ACTING, force=True),
        )
        assert sorted(found[1:]) == ["app_not_found", "ok"]
        assert found[0] in {"ok", "app_not_found"}
        await names_agree(connection)


async def test_an_old_slug_is_taken_back_or_over(platform: Platform, connection: asyncpg.Connection) -> None:
    apps = Apps(platform.reader, writer(platform))
    for number in range(10):
        app, other = await make_app(platform, f"old-{number}"), await make_app(platform, f"other-{number}")
        await apps.change(app, None, f"new-{number}", ACTING)
        found = await outcomes(
            partial(apps.change, app, None, f"old-{number}", ACTING),
            partial(apps.change, other, None, f"old-{number}", ACTING, takeover=True),
            partial(apps.create, "n", f"old-{number}", ACTING, takeover=True),
        )
        assert sorted(found) == ["ok", "slug_taken", "slug_taken"]
        await names_agree(connection)


HIJACKS = ("localhost", "127.0.0.1", "::1", "intranet", "*.lan", "picloud.example.com", "*.example.com")


async def test_the_instances_own_host_is_not_for_its_apps_admins_to_take(platform: Platform) -> None:
    app = await make_app(platform)
    rules = HostRules(own_host="picloud.example.com", may_take_own=False, sees=lambda _: True)
    for pattern in HIJACKS:
        with pytest.raises(Forbidden) as refused:
            await domains(platform, rules).add(app, pattern, ACTING)
        assert (refused.value.code, refused.value.field) == ("host_reserved", "pattern")
    for pattern in ("shop.picloud.example.com", "*.picloud.example.com", "example.com"):
        await domains(platform, rules).add(app, pattern, ACTING)
    for pattern in HIJACKS:
        await domains(platform, ADMINS_RULES).add(app, pattern, ACTING)


async def test_the_slug_of_the_instances_own_host_is_not_either(platform: Platform) -> None:
    app = await make_app(platform)
    rules = HostRules(own_host="console.localhost", may_take_own=False, sees=lambda _: True)
    apps = Apps(platform.reader, writer(platform), rules)
    for slug in ("console", "admin"):
        with pytest.raises(Forbidden):
            await apps.change(app, None, slug, ACTING)
        assert (await apps.check_slug(app, slug)).reason == "host_reserved"
    assert (await Apps(platform.reader, writer(platform)).change(app, None, "console", ACTING)).slug == "console"


async def test_whose_an_old_slug_is_is_told_to_those_who_see_that_app(platform: Platform) -> None:
    app = await make_app(platform)
    await Apps(platform.reader, writer(platform)).change(app, None, "two", ACTING)
    for sees in (True, False):
        rules = HostRules(own_host=None, may_take_own=False, sees=lambda _, sees=sees: sees)  # type: ignore[misc]
        with pytest.raises(Conflict) as refused:
            await Apps(platform.reader, writer(platform), rules).create("n", "one", ACTING)
        assert refused.value.code == "slug_in_history"
        assert (str(app) in str(refused.value.extra)) is sees
        assert (str(app) in refused.value.detail) is sees


async def test_an_old_slug_leads_those_who_see_the_app(platform: Platform) -> None:
    app = await make_app(platform)
    await Apps(platform.reader, writer(platform)).change(app, None, "two", ACTING)
    for role, expected in (("viewer", Moved), (None, NotFound)):
        caller = call_of(platform, app, role)  # type: ignore[arg-type]
        call = AdminCall(platform, caller.identity, "request", (Capability.APPS_READ,), "/api/v1/admin/apps/one/kv?x=/apps/one")
        with pytest.raises(expected) as raised:
            await call.app("one")
        if isinstance(raised.value, Moved):
            assert raised.value.location == "/api/v1/admin/apps/two/kv?x=/apps/one"
        else:
            assert raised.value.code == "app_not_found"


async def test_roles(platform: Platform) -> None:
    app = await make_app(platform)
    viewer, admin, stranger = (call_of(platform, app, role) for role in ("viewer", "app_admin", None))
    asked: list[tuple[Any, dict[str, Any]]] = [
        (apps_handlers.change_app, {"data": apps_handlers.ChangeApp(name="n")}),
        (apps_handlers.check_slug, {"data": apps_handlers.CheckSlug(slug="free")}),
        (domain_handlers.add_domain, {"data": domain_handlers.AddDomain(pattern="a.example.com")}),
        (domain_handlers.remove_domain, {"domain": str(uuid7())}),
        (apps_handlers.delete_app, {}),
    ]
    for handler, parameters in asked:
        for caller, refusal in ((viewer, Forbidden), (stranger, NotFound)):
            with pytest.raises(refusal):
                await ask(handler, caller, app="one", **parameters)
    assert (await ask(domain_handlers.list_domains, viewer, app="one")).items == []
    with pytest.raises(NotFound):
        await ask(domain_handlers.list_domains, stranger, app="one")
    assert not (await ask(apps_handlers.read_one, viewer, app="one")).old_slugs
    assert (await ask(apps_handlers.read_one, admin, app="one")).old_slugs == ()
    with pytest.raises(Forbidden):
        await ask(domain_handlers.add_domain, admin, app="one", data=domain_handlers.AddDomain(pattern="127.0.0.1"))
    await ask(domain_handlers.add_domain, admin, app="one", data=domain_handlers.AddDomain(pattern="a.example.com"))
    await ask(apps_handlers.delete_app, admin, app="one")
    for caller in (viewer, admin, stranger):
        with pytest.raises(NotFound):
            await ask(apps_handlers.read_one, caller, app=str(app))


def principal(role: InstanceRole, **more: Any) -> Principal:
    return Principal(kind="key" if more else "user", id=uuid7(), name="p", instance_role=role, **more)


async def test_the_log_of_a_deleted_app_is_for_the_instances_owners(platform: Platform) -> None:
    app_id: UUID = await make_app(platform)
    app = App(platform, app_id)
    await app.append(SetKey(collection="c", key="k", value=ONE))
    await deletion(platform).delete(app_id, ACTING, force=False)
    await purged(app)
    reading: frozenset[Any] = frozenset({"log:read"})
    sees = {
        "owner": principal("owner"),
        "key to the log": principal("owner", scopes=reading),
    }
    sees_not = {
        "admin": principal("admin"),
        "member": call_of(platform, app_id, "app_admin").principal,
        "key to scripts": principal("owner", scopes=frozenset({"script:read"})),
        "key bound to the app": principal("owner", scopes=reading, bound_app=app_id),
    }
    call = call_of(platform, app_id, None)
    for who in sees.values():
        call.principal = who
        assert (await ask(events_handlers.read_event, call, app=str(app_id), position="1")).topic == "kv.KvSet"
    assert decide(sees["key to the log"], Capability.KV_READ, app_id).allowed is False
    with pytest.raises(Forbidden):
        await ask(events_handlers.read_kv_history, call, app=str(app_id), collection="c", key="k")
    for name, who in sees_not.items():
        call.principal = who
        with pytest.raises(NotFound):
            await ask(events_handlers.read_event, call, app=str(app_id), position="1")
        assert name
