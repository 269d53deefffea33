"""An app that has something of everything, and what is left of it in any table."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

import asyncpg
import msgspec
from uuid_utils.compat import uuid7

from domain.api_keys import ApiKeyCreated, api_key_stream
from domain.app_settings import SETTINGS, AppSettings, AppSettingsChanged
from domain.apps import DomainAdded, domain_stream
from domain.docs.events import PutDoc
from domain.events import Metadata
from domain.files import CreateFile
from domain.globs import pattern_key
from domain.ids import NIL_APP
from domain.kv import SetKey
from domain.members import MemberAdded, member_stream
from domain.retry import RetryPolicy
from domain.schedule import ScheduleExecution
from domain.secrets import SetSecret
from domain.topics import Topic, TopicSaved, registry_stream
from domain.triggers import Trigger, TriggerSaved, trigger_stream
from domain.units import Change, Unit
from runtime.platform import Platform
from runtime.subscribers import subscriber_keys
from tests.runtime.world import App, eventually, new_app

ONE: Final = msgspec.Raw(b"1")
FAILS: Final = "def handler(ctx):\n    raise ValueError('no')\n"
KEPT: Final = ("events", "log_head")
_APP_TABLES: Final = f"""
SELECT table_name FROM information_schema.columns
WHERE column_name = 'app_id' AND table_schema = current_schema() AND table_name <> ALL ('{{{",".join(KEPT)}}}')
  AND table_name NOT IN (SELECT table_name FROM information_schema.views WHERE table_schema = current_schema())
"""


async def full_app(platform: Platform) -> App:
    """A new app with rows in every table that has an `app_id`."""
    app = await new_app(platform)
    far = platform.clock() + timedelta(days=300)
    failing = await app.script(FAILS)
    await app.route(failing, "/a")
    await app.trigger(failing, "c", retry=RetryPolicy(max_attempts=1))
    cron = Trigger(
        id=uuid7(),
        script_id=failing,
        source="cron",
        enabled=True,
        ops=(),
        pattern=pattern_key("*"),
        retry=RetryPolicy(),
        registrant="system",
        detail={"schedule": "0 0 0 1 1 *", "timezone": "UTC", "overlap": "skip"},
    )
    topic = Topic(kind="topic", name="news", external_subscribable=True, auth_mode="public")
    await app.put((trigger_stream(cron.id), TriggerSaved(trigger=cron, next_due_at=far)), (registry_stream("topic", "news"), TopicSaved(topic=topic)))
    await app.append(
        PutDoc(collection="c", id="d", data=msgspec.Raw(b"{}")),
        CreateFile(collection="c", id=uuid7(), name="f", content_type="a/b", blob=await platform.blobs.save_bytes(app.id.bytes)),
        SetSecret(name="s", value_id=await platform.secrets.store(app.id, "s", "hidden")),
        ScheduleExecution(execution_id=uuid7(), script_id=failing, run_at=far, payload=ONE),
        *(SetKey(collection=f"many{number}", key="k", value=ONE) for number in range(20)),
    )
    set_key = Change(SetKey(collection="c", key="k", value=ONE))
    await platform.log.append(Unit(app_id=app.id, metadata=Metadata(unit_id=uuid7()), now=platform.clock(), changes=(set_key,), idempotency_key="once"))
    await subscriber_keys(platform.reader).active(app.id)
    await app.put((SETTINGS, AppSettingsChanged(settings=AppSettings())))
    platform.usage.request(app.id)
    domain_id, user_id, key_id = uuid7(), uuid7(), uuid7()
    await App(platform, NIL_APP).put(
        (domain_stream(domain_id), DomainAdded(domain_id=domain_id, app_id=app.id, pattern=f"{app.id.hex}.example")),
        (member_stream(app.id, user_id), MemberAdded(app_id=app.id, user_id=user_id, role="viewer")),
        (api_key_stream(key_id), ApiKeyCreated(key_id=key_id, user_id=user_id, name="k", prefix="pic_", scopes=(), app_id=app.id, expires_at=None)),
    )
    await platform.pool.execute("INSERT INTO worker_tails (worker_id, app_id, position) VALUES ($1, $2, 1) ON CONFLICT DO NOTHING", platform.worker_id, app.id)
    await eventually(lambda: missing(platform.pool, app), lambda tables: not tables)
    return app


async def missing(pool: asyncpg.Pool, app: App) -> set[str]:
    """Tables with an `app_id` that have no row of an app."""
    return {_unpartitioned(table) for table in await tables(pool)} - await left(pool, app)


async def left(pool: asyncpg.Pool, app: App) -> set[str]:
    """Tables that have a row of an app, but for its log."""
    return {_unpartitioned(table) for table in await tables(pool) if await pool.fetchval(f"SELECT EXISTS (SELECT FROM {table} WHERE app_id = $1)", app.id)}


async def tables(pool: asyncpg.Pool) -> list[str]:
    """Tables with an `app_id`, whoever made them, but for the log."""
    return [row["table_name"] for row in await pool.fetch(_APP_TABLES)]


def _unpartitioned(table: str) -> str:
    return re.sub(r"_[0-9]{8}$", "", table)
