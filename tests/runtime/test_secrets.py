"""secrets for scripts: values read, and found nowhere afterwards."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from adapters.keyring import Keyring
from adapters.postgres.secrets import SecretValues
from domain.authz import Principal
from domain.executions import ExecutionDeadLettered
from domain.sandbox import Call
from domain.secrets import SecretRotated, SetSecret
from runtime.environment import Secret
from runtime.host import RunHost
from runtime.invocation import Invocation
from runtime.outside import Kept
from runtime.platform import Platform
from runtime.records import record_of
from runtime.secrets import Secrets
from runtime.services import Access, Resources
from runtime.settings import Process, Settings
from runtime.settings import Secrets as SecretSettings
from runtime.upkeep import rotate_secrets
from tests.adapters.test_keyring import key
from tests.postgres import _database
from tests.runtime.world import NOW, App, eventually, new_app, reply, running

pytestmark = pytest.mark.anyio

VALUE = "correct horse battery"
SETTINGS = Settings(process=Process(beat_s=0.2, dead_s=1.0, tail_poll_ms=50), secrets=SecretSettings(key=Secret(key(1))))


@pytest.fixture(scope="module")
async def platform(server_dsn: str, template: str) -> AsyncIterator[Platform]:
    async with _database(server_dsn, f"TEMPLATE {template}") as dsn, running(dsn, SETTINGS) as opened:
        yield opened


async def put(app: App, name: str, value: str) -> None:
    value_id = await app.platform.secrets.store(app.id, name, value)
    await app.append(SetSecret(name=name, value_id=value_id))


def handler(*lines: str) -> str:
    return "\n".join(("def handler(ctx):", *(f"    {line}" for line in lines)))


async def run(app: App, *lines: str, principal: Principal | None = None) -> Any:
    return reply(await app.run(await app.script(handler(*lines)), principal))


async def test_a_script_reads_its_apps_secrets(app: App) -> None:
    await put(app, "KEY", VALUE)
    assert await run(app, "import secrets as s", "return [secrets.get('KEY'), s.get('KEY'), secrets.get('OTHER')]") == [VALUE, VALUE, None]
    await put(app, "KEY", "other")
    assert await run(app, "return [secrets.get('KEY')]") == ["other"]


async def test_no_app_reads_anothers(app: App, platform: Platform) -> None:
    await put(app, "KEY", VALUE)
    other = await new_app(platform)
    assert await run(other, "return [secrets.get('KEY')]") == [None]
    # Not even when its row is copied there.
    value_id = await platform.pool.fetchval("SELECT value_id FROM secrets WHERE app_id = $1", app.id)
    await platform.pool.execute(
        "INSERT INTO vault_secrets SELECT $1, value_id, name, key_id, nonce, cipher, created_at FROM vault_secrets WHERE value_id = $2",
        other.id,
        value_id,
    )
    await other.append(SetSecret(name="KEY", value_id=value_id))
    said = await run(other, "try:", "    secrets.get('KEY')", "except RuntimeError as e:", "    return str(e)")
    assert said == "secrets: this value was damaged, or belongs elsewhere"


async def test_the_database_has_no_value_in_the_clear(app: App, platform: Platform) -> None:
    await put(app, "KEY", VALUE)
    (stored,) = await platform.pool.fetch("SELECT * FROM vault_secrets WHERE app_id = $1", app.id)
    assert VALUE.encode() not in stored["cipher"]
    events = await app.events()
    assert VALUE not in str(events)


@pytest.mark.parametrize("argument", ["1", "None", "''", "'a b'", "'x' * 200", "'\\x00'", "[]"])
async def test_a_wrong_name_is_an_error(app: App, argument: str) -> None:
    said = await run(app, "try:", f"    secrets.get({argument})", "except ValueError as e:", "    return str(e)")
    assert said.startswith("secrets: name must be")


FORGED = (
    *("_sys_secrets_get()", "_sys_secrets_get('a', 'b')", "_sys_secrets_token()"),
    *("secrets.token('x')", "secrets.token(True)", "secrets.token(1.5)"),
)


@pytest.mark.parametrize("call", FORGED)
async def test_a_forged_call_is_an_error(app: App, call: str) -> None:
    assert "secrets" in await run(app, "secrets", "try:", f"    {call}", "except TypeError as e:", "    return str(e)")


async def test_tokens_come_from_the_operating_system(app: App) -> None:
    first, second = await run(app, "return [secrets.token(), secrets.token(16)]")
    assert (len(first), len(second)) == (43, 22)
    script = await app.script(handler("return secrets.token()"))
    assert reply(await app.run(script)) != reply(await app.run(script))
    for bad in (0, -1, 1025):
        assert "within 1 and 1024" in await run(app, "try:", f"    secrets.token({bad})", "except ValueError as e:", "    return str(e)")


async def test_an_attached_principal_must_see_the_app(app: App) -> None:
    await put(app, "KEY", VALUE)
    lines = ("try:", "    return [secrets.get('KEY')]", "except PermissionError as e:", "    return [str(e)]")
    viewer = Principal(kind="user", id=uuid4(), instance_role="member", app_roles={app.id: "viewer"})
    stranger = Principal(kind="user", id=uuid4(), instance_role="member")
    assert await run(app, *lines, principal=viewer) == [VALUE]
    assert await run(app, *lines, principal=stranger) == ["secrets: app_secrets_read is required"]


LEAKS = (
    "k = secrets.get('KEY')",
    "print('printed', k)",
    "log.info('logged ' + k, {'a': [k, {k: 1}]})",
    "import json, base64",
    "log.warn(json.dumps({'k': k}), base64.b64encode(('user:' + k).encode()).decode())",
    "kv.collection('c').get(k)",
    "raise ValueError('failed with ' + k)",
)


async def test_a_failed_run_leaves_no_trace_of_the_value(app: App) -> None:
    await put(app, "KEY", VALUE)
    script = await app.script(handler(*LEAKS))
    view = await app.platform.directory.view(app.id)
    ctx = {"request": {"headers": {"x-signature": VALUE}, "query": {"q": VALUE}, "body_bytes": VALUE.encode()}}
    call = Invocation(view=view, script=view.scripts[script], execution_id=uuid4(), kind="http", ctx=ctx, timeout_s=5, actor="public")
    outcome = await app.platform.executor.execute(call)
    assert outcome.ending == "raised"
    assert outcome.result.error is not None
    assert outcome.result.error.message == "failed with ***"
    assert [line.message for line in outcome.result.logs] == ["printed ***\n", "logged ***", '{"k": "***"}']
    record = msgspec.json.encode(record_of(call, outcome, "http", None)).decode()
    assert '"secrets_get"' in record
    assert_nowhere(record)


async def test_no_journal_has_a_value_that_is_too_short_to_be_looked_for(app: App) -> None:
    await put(app, "PIN", "7q9")
    script = await app.script(handler("secrets.get('PIN')", "raise ValueError('failed')"))
    view = await app.platform.directory.view(app.id)
    call = Invocation(view=view, script=view.scripts[script], execution_id=uuid4(), kind="http", ctx={}, timeout_s=5, actor="public")
    outcome = await app.platform.executor.execute(call)
    assert [(answer.call, answer.value) for answer in outcome.journal] == [("secrets_get", None)]


async def test_nor_has_the_journal_of_a_rerun(app: App) -> None:
    asked = Call("secrets_get", ("PIN",))
    access = Access(reader=app.platform.reader, app_id=app.id, principal=None, now=app.platform.clock(), execution_id=uuid4(), script_id=uuid4())
    access.outside.keep(Kept(asked, "7q9"), 3)
    access.outside.begin()
    host = RunHost(access)
    assert host.answer_now(asked) == "7q9"
    assert [answer.value for answer in host.journal] == [None]


def assert_nowhere(text: str) -> None:
    assert VALUE not in text
    assert base64.b64encode(VALUE.encode()).decode()[:20] not in text
    assert base64.b64encode(b"user:" + VALUE.encode()).decode()[8:28] not in text


async def test_what_the_log_refuses_names_no_value(app: App) -> None:
    await put(app, "KEY", VALUE)
    await app.run(await app.script(handler("kv.collection('c').set(secrets.get('KEY'), 'text')"), name="first"))
    outcome = await app.run(await app.script(handler("kv.collection('c').increment(secrets.get('KEY'))")))
    assert outcome.result.error is not None
    assert "'***'" in outcome.result.error.message


@pytest.mark.parametrize("room", [5, 12, 40])
async def test_a_message_that_is_too_long_is_not_cut_within_a_value(app: App, room: int) -> None:
    await put(app, "KEY", VALUE)
    script = await app.script(handler(f"raise ValueError('x' * (4096 - {room}) + secrets.get('KEY') + 'y' * 100)"))
    outcome = await app.run(script)
    assert outcome.result.error is not None
    assert "***" in outcome.result.error.message
    assert VALUE[:4] not in outcome.result.error.message


async def test_a_dead_letter_has_no_value(app: App) -> None:
    await put(app, "KEY", VALUE)
    script = await app.script(handler(*LEAKS))
    await app.trigger(script, retry=msgspec.structs.replace(NOW, max_attempts=1))
    await app.run(await app.script(handler("kv.collection('c').set('k', 1)"), name="writer"))
    (dead,) = await app.expect(ExecutionDeadLettered)
    assert isinstance(dead.event, ExecutionDeadLettered)
    assert dead.event.error.message == "failed with ***"
    find = "SELECT e::text AS text FROM execution_records e WHERE app_id = $1 AND outcome = 'raised'"
    (row,) = await eventually(lambda: app.platform.pool.fetch(find, app.id))
    assert_nowhere(row["text"])
    assert "secrets_get" in row["text"]


async def test_a_key_that_is_not_there_is_said_where_it_is_needed(app: App, platform: Platform, tmp_path: Path) -> None:
    await put(app, "KEY", VALUE)
    values = SecretValues(platform.reader)
    usual = platform.executor.resources
    wrong = Secrets(Keyring(tmp_path / "k", key(9)), values)
    missing = Secrets(Keyring(tmp_path / "k"), values)
    try:
        for secrets in (wrong, missing):
            platform.executor.resources = Resources(secrets=secrets)
            said = await run(app, "try:", "    secrets.get('KEY')", "except RuntimeError as e:", "    return str(e)")
            assert said.startswith("secrets: the key ")
            assert "PICLOUD_SECRETS_KEY" in said
            state = await secrets.state()
            assert (state.ok, "secrets whose keys are not here" in str(state.problem)) == (False, True)
    finally:
        platform.executor.resources = usual
    with pytest.raises(Exception, match="a missing key has encrypted"):
        await missing.store(app.id, "OTHER", "x")
    assert not (tmp_path / "k").exists()
    assert (await platform.secrets.state()).ok


async def test_rotation_encrypts_everything_with_the_new_key(dsn: str, connection: asyncpg.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(dsn, SETTINGS) as old:
        app = await new_app(old)
        for number in range(3):
            await put(app, f"K{number}", f"value {number}")
        rotating = msgspec.structs.replace(SETTINGS, secrets=SecretSettings(key=Secret(key(2)), old_keys=Secret(key(1))))
        assert await rotate_secrets(dsn, rotating) == 0
        assert await rotate_secrets(dsn, rotating) == 0
        assert capsys.readouterr().out == "encrypted anew: 3 secrets\nencrypted anew: 0 secrets\n"
        assert [recorded.event.name for recorded in await app.events(SecretRotated) if isinstance(recorded.event, SecretRotated)] == ["K0", "K1", "K2"]
        assert not (await old.secrets.state()).ok
    async with running(dsn, msgspec.structs.replace(SETTINGS, secrets=SecretSettings(key=Secret(key(2))))) as new:
        assert await run(App(new, app.id), "return [secrets.get('K0'), secrets.get('K1'), secrets.get('K2')]") == ["value 0", "value 1", "value 2"]
    assert len(await connection.fetch("SELECT DISTINCT key_id FROM vault_secrets")) == 1


async def test_what_no_secret_has_is_swept_and_the_rest_stays(app: App, platform: Platform) -> None:
    await put(app, "KEY", VALUE)
    await platform.secrets.store(app.id, "KEY", "never said by an event")
    await platform.secrets.sweep()
    count = "SELECT count(*) FROM vault_secrets WHERE app_id = $1"
    assert await platform.pool.fetchval(count, app.id) == 2
    await platform.pool.execute("UPDATE vault_secrets SET created_at = created_at - interval '2 hours' WHERE app_id = $1", app.id)
    await platform.secrets.sweep()
    assert await platform.pool.fetchval(count, app.id) == 1
    assert await run(app, "return [secrets.get('KEY')]") == [VALUE]


async def test_a_deleted_apps_values_go_and_are_nobodys_problem(app: App, platform: Platform) -> None:
    await put(app, "KEY", VALUE)
    await platform.pool.execute("UPDATE log_head SET closed = true WHERE app_id = $1", app.id)
    await platform.pool.execute("UPDATE vault_secrets SET created_at = created_at - interval '2 hours', key_id = 'gone' WHERE app_id = $1", app.id)
    assert (await platform.secrets.state()).ok
    await platform.secrets.sweep()
    assert await platform.pool.fetchval("SELECT count(*) FROM vault_secrets WHERE app_id = $1", app.id) == 0
