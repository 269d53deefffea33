"""files in scripts: bytes are staged, metadata is committed, and nothing that a script forges opens what is not its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import msgspec
import pytest

from domain.authz import Principal
from domain.executions import ExecutionSucceeded
from domain.files import FileCreated, FileDeleted, FileUpdated
from domain.globs import pattern_key
from domain.sandbox import Limits
from runtime.invocation import Outcome
from runtime.platform import Platform
from runtime.settings import Files, load_settings
from tests.postgres import cloned
from tests.runtime.world import QUICK, App, new_app, reply, running
from tests.s3 import CREDENTIALS, client

pytestmark = pytest.mark.anyio

MAX_FILE, MAX_RUN = 1024 * 1024, 1536 * 1024


@pytest.fixture(scope="module")
async def platform(server_dsn: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    files = Files(max_file_bytes=MAX_FILE, max_run_bytes=MAX_RUN)
    settings = msgspec.structs.replace(QUICK, data_dir=tmp_path_factory.mktemp("data"), files=files)
    async with cloned(server_dsn, template) as dsn, running(dsn, settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(platform: Platform) -> Path:
    """Where the blobs are."""
    return platform.settings.data_dir / "blobs"


async def outcome(app: App, *lines: str, principal: Principal | None = None, limits: Limits | None = None) -> Outcome:
    """How a handler of these lines, with `c` a collection, ends."""
    source = "\n".join(("def handler(ctx):", "    c = files.collection('c')", *(f"    {line}" for line in lines)))
    script = await app.script(source, name=f"s{sha256(source.encode()).hexdigest()[:20]}", limits=limits)
    return await app.run(script, principal=principal)


async def answer(app: App, *lines: str) -> Any:
    return reply(await outcome(app, *lines))


async def failure(app: App, *lines: str, **more: Any) -> str:
    ended = await outcome(app, *lines, **more)
    assert ended.result.ending != "returned", ended.result
    assert ended.result.error is not None
    return f"{ended.result.error.type}: {ended.result.error.message}"


async def caught(app: App, *lines: str, **more: Any) -> str:
    """What the last line raises within the script."""
    tried = (*lines[:-1], "try:", f"    {lines[-1]}", "except Exception as error:", "    return [type(error).__name__, str(error)]", "return None")
    found = reply(await outcome(app, *tried, **more))
    assert found is not None, lines
    return ": ".join(found)


def is_stored(folder: Path, data: bytes) -> bool:
    return place_of(folder, data).exists()


def place_of(folder: Path, data: bytes) -> Path:
    checksum = sha256(data).hexdigest()
    return folder / checksum[:2] / checksum


async def test_a_file_from_its_creation_to_its_deletion(app: App, folder: Path) -> None:
    file_id = await answer(app, "return c.create({'name': 'a.txt', 'data': b'abc', 'content_type': 'text/plain'})")
    meta = await answer(app, f"return c.head('{file_id}')")
    checksum = sha256(b"abc").hexdigest()
    assert meta == {
        "id": file_id,
        "name": "a.txt",
        "content_type": "text/plain",
        "size": 3,
        "checksum": checksum,
        "created_at": meta["created_at"],
        "updated_at": meta["created_at"],
        "version": 1,
    }
    assert await answer(app, f"return str(c.get('{file_id}'))") == "b'abc'"
    assert await answer(app, f"c.update('{file_id}', {{'data': b'', 'name': 'b.txt'}})", "return 1") == 1
    changed = await answer(app, f"return c.head('{file_id}')")
    assert (changed["name"], changed["content_type"], changed["size"], changed["version"]) == ("b.txt", "text/plain", 0, 2)
    assert changed["created_at"] == meta["created_at"] < changed["updated_at"]
    assert await answer(app, f"return [c.get('{file_id}') == b'', c.delete('{file_id}'), c.delete('{file_id}'), c.head('{file_id}')]") == [
        True,
        True,
        False,
        None,
    ]
    assert await answer(app, f"return [c.get('{file_id}'), c.list()]") == [None, {"items": [], "next_cursor": None}]
    (created, updated, deleted) = await app.events(FileCreated, FileUpdated, FileDeleted)
    assert created.event == FileCreated(collection="c", id=UUID(file_id), name="a.txt", content_type="text/plain", size=3, checksum=checksum)
    assert (updated.stream, updated.version, deleted.version) == (created.stream, 2, 3)
    assert is_stored(folder, b"abc")
    assert is_stored(folder, b"")


async def test_a_run_reads_what_it_has_written(app: App) -> None:
    found = await answer(
        app,
        "id = c.create({'name': 'a', 'data': b'1'})",
        "seen = [str(c.get(id)), c.head(id)['version'], c.head(id)['content_type']]",
        "c.update(id, {'data': b'22', 'content_type': 'a/b'})",
        "c.head(id)['name'] = 'a copy'",
        "seen = seen + [str(c.get(id)), c.head(id)['version'], c.head(id)['size'], c.head(id)['name'], [i['id'] == id for i in c.list()['items']]]",
        "return seen + [c.delete(id), c.get(id), c.head(id), c.list()['items'], c.delete(id)]",
    )
    assert found == ["b'1'", 1, "application/octet-stream", "b'22'", 2, 2, "a", [True], True, None, None, [], False]
    assert len(await app.events(FileCreated, FileUpdated, FileDeleted)) == 3


async def test_lists_go_on_where_they_ended_and_show_the_runs_own_changes(app: App) -> None:
    ids = await answer(app, "return [c.create({'name': str(n), 'data': b''}) for n in range(7)]")
    assert ids == sorted(ids)
    pages = ["page = c.list(limit=2)", "names = []", "while True:", "    names.append([i['name'] for i in page['items']])"]
    pages += ["    if page['next_cursor'] is None:", "        return names", "    page = c.list(limit=2, cursor=page['next_cursor'])"]
    assert await answer(app, *pages) == [["0", "1"], ["2", "3"], ["4", "5"], ["6"]]
    changes = [f"c.delete('{ids[0]}')", f"c.delete('{ids[3]}')", f"c.update('{ids[4]}', {{'name': 'x'}})", "c.create({'name': 'new', 'data': b''})"]
    assert list(chain.from_iterable(await answer(app, *changes, *pages))) == ["1", "2", "x", "5", "6", "new"]


async def test_a_run_that_fails_leaves_at_most_an_orphan(app: App, folder: Path) -> None:
    assert "no" in await failure(app, "c.create({'name': 'a', 'data': b'an orphan'})", "raise ValueError('no')")
    assert await app.events(FileCreated) == []
    assert is_stored(folder, b"an orphan")


async def test_what_was_read_must_still_hold_at_commit(app: App) -> None:
    file_id = await answer(app, "return c.create({'name': 'n', 'data': b'0'})")
    script = await app.script(
        f"def handler(ctx):\n    c = files.collection('c')\n    c.update('{file_id}', {{'data': c.get('{file_id}') + b'x'}})\n", name="append"
    )
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(app.run, script)
    assert await answer(app, f"return str(c.get('{file_id}'))") == "b'0xxxxxxxx'"


async def test_triggers_get_metadata_alone(app: App) -> None:
    fields = ["collection", "id", "name", "content_type", "size", "checksum", "prev"]
    detail = ", ".join(f"'{field}': ctx.event.files.{field}" for field in fields)
    handler = await app.script(f"def handler(ctx):\n    kv.collection('seen').set(str(ctx.event.version), [ctx.event.op, {{{detail}}}])\n", name="on")
    await app.trigger(handler, source="files", pattern=pattern_key("c*"))
    await app.trigger(handler, source="files", pattern=pattern_key("other"))
    file_id = await answer(app, "return c.create({'name': 'a', 'data': b'abc'})")
    await answer(app, f"c.update('{file_id}', {{'name': 'b'}})", "return 1")
    await answer(app, f"return c.delete('{file_id}')")
    await app.expect(ExecutionSucceeded, 3)
    seen = await app.kv("seen")
    first = {"name": "a", "content_type": "application/octet-stream", "size": 3, "checksum": sha256(b"abc").hexdigest()}
    second, gone = {**first, "name": "b"}, dict.fromkeys(first)
    place = {"collection": "c", "id": file_id}
    assert seen == {
        "1": ["create", {**place, **first, "prev": None}],
        "2": ["update", {**place, **second, "prev": first}],
        "3": ["delete", {**place, **gone, "prev": second}],
    }


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("files.collection('')", "ValueError: files: collection name is empty"),
        ("files.collection('x' * 129)", "ValueError: files: collection name is longer than 128 bytes"),
        ("files.collection(1)", "TypeError: files: collection name must be str, not int"),
        ("files.collection('a\\x00')", "ValueError: files: collection name contains NUL"),
        ("c.create('x')", "TypeError: files: file must be dict, not str"),
        ("c.create({'name': 'a'})", "ValueError: files: data is missing"),
        ("c.create({'data': b''})", "ValueError: files: name is missing"),
        ("c.create({'name': 'a', 'data': 'text'})", "TypeError: files: data must be bytes, not str"),
        ("c.create({'name': 1, 'data': b''})", "TypeError: files: name must be str, not int"),
        ("c.create({'name': 'a', 'data': b'', 'type': 'x'})", "ValueError: files: unknown key 'type' beside name, data and content_type"),
        ("c.create({'name': 'a\\n', 'data': b''})", "ValueError: files: name must not contain control characters"),
        ("c.create({'name': '', 'data': b''})", "ValueError: files: name must have 1 to 255 bytes, not 0"),
        ("c.create({'name': 'a', 'data': b'', 'content_type': 'html'})", "ValueError: files: content_type must be a media type"),
        ("c.create({'name': 'a', 'data': bytes(1048577)})", "ValueError: files: a file may have at most 1048576 bytes"),
        ("c.update('018f0000-0000-7000-8000-000000000000', {})", "KeyError: 'files: there is no file 018f0000-0000-7000-8000-000000000000'"),
        ("c.update('x', {})", "KeyError: 'files: there is no file x'"),
        ("c.get(1)", "TypeError: files: id must be str, not int"),
        ("c.head([])", "TypeError: files: id must be str, not list"),
        ("c.delete(None)", "TypeError: files: id must be str, not NoneType"),
        ("c.list(limit=0)", "ValueError: files: limit must be within 1 and 1000"),
        ("c.list(limit='1')", "TypeError: files: limit must be int, not str"),
        ("c.list(cursor='x')", "ValueError: files: cursor: not a cursor"),
        ("c.list(cursor=1)", "TypeError: files: cursor must be str or None, not int"),
    ],
)
async def test_wrong_arguments_are_named(app: App, call: str, error: str) -> None:
    assert (await caught(app, call)).startswith(error)


ID = "018f0000-0000-7000-8000-000000000000"
SUM = "a" * 64


@pytest.mark.parametrize(
    "call",
    [
        f"_sys_files_read('{SUM}')",
        "_sys_files_read(None)",
        "_sys_files_read(['x'])",
        "_sys_files_read('../../../etc/passwd')",
        "_sys_files_read()",
        "_sys_files_head('c', 1)",
        "_sys_files_head('', 'x')",
        f"_sys_files_head('\\x00', '{ID}')",
        "_sys_files_head(None, None)",
        "_sys_files_stage(1, None, b'')",
        "_sys_files_stage('a', 'b', b'')",
        "_sys_files_stage(None, None, 'text')",
        "_sys_files_stage('a\\x00', None, None)",
        "_sys_files_list('c', 1, None, None)",
        "_sys_files_list('c', True, None, {})",
        "_sys_files_list('c', 10 ** 30, None, {})",
        "_sys_files_list('c', 1, None, {'x': True})",
        f"_sys_files_list('c', 1, None, {{'{ID}': 1}})",
        "_sys_files_list('c', 1, None, {1: True})",
        "_sys_files_list('c', 1, 'WyJmaWxlcyIsMV0', {})",
        "_sys_files_list(1, 1, None, {})",
    ],
)
async def test_forged_calls_are_refused(app: App, call: str) -> None:
    assert await caught(app, call)


@pytest.mark.parametrize(
    "effect",
    [
        f"('files_create', 'c', '{ID}', 'a', 'a/b', '{SUM}')",
        f"('files_create', 'c', '{ID}', 'a', 'a/b', staged['checksum'])",
        f"('files_create', 'c', staged['id'], 'a', 'a/b', '{SUM}')",
        "('files_create', 'c', staged['id'], 'a', 'a/b', None)",
        "('files_create', '', staged['id'], 'a', 'a/b', staged['checksum'])",
        "('files_create', 'c', staged['id'], '', 'a/b', staged['checksum'])",
        "('files_create', 'c', staged['id'], 'a', 'x', staged['checksum'])",
        "('files_create', 'c', staged['id'].upper(), 'a', 'a/b', staged['checksum'])",
        "('files_create', 'c', 1, 'a', 'a/b', [])",
        "('files_create', 'c')",
        f"('files_update', 'c', '{ID}', None, None, '{SUM}')",
        f"('files_update', 'c', '{ID}', 'x', None, None)",
        "('files_update', 'c', 'x', 'x', None, None)",
        f"('files_update', 'c', '{ID}', 1, None, None)",
        "('files_delete', 'c', 'x')",
        f"('files_delete', None, '{ID}')",
    ],
)
async def test_forged_effects_fail_the_run_and_change_nothing(app: App, effect: str) -> None:
    stage = ["staged = _sys_files_stage('a', 'a/b', b'abc')", "c.create({'name': 'a', 'data': b'x'})"]
    source = "\n".join(("def handler(ctx):", "    c = files.collection('c')", *(f"    {line}" for line in stage), f"    _picloud['_effects'].append({effect})"))
    ended = await app.run(await app.script(source, name="forger"))
    assert ended.result.ending != "returned", ended.result
    assert await app.events(FileCreated, FileUpdated, FileDeleted) == []


async def test_another_apps_bytes_are_not_read_by_their_checksum(platform: Platform, app: App) -> None:
    other = await new_app(platform)
    file_id = await answer(other, "return c.create({'name': 'secret', 'data': b'secret'})")
    checksum = sha256(b"secret").hexdigest()
    assert await caught(app, f"_sys_files_read('{checksum}')") == "PermissionError: files: this run has not been shown a file with these bytes"
    assert await answer(app, f"return [c.head('{file_id}'), c.get('{file_id}'), c.list()['items']]") == [None, None, []]


async def test_a_run_stores_no_more_than_it_may(app: App, folder: Path) -> None:
    lines = ["c.create({'name': 'a', 'data': b'1' * 1048576})", "c.create({'name': 'b', 'data': b'2' * 1048576})"]
    assert await caught(app, *lines) == f"RuntimeError: files: a run may store at most {MAX_RUN} bytes"
    assert [is_stored(folder, data * 1048576) for data in (b"1", b"2")] == [True, False]


async def test_what_does_not_fit_into_a_runs_memory_is_said(platform: Platform, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    big = bytes(9 * 1024 * 1024)
    monkeypatch.setattr(platform.blobs, "max_file_bytes", len(big))
    monkeypatch.setattr(platform.blobs, "max_run_bytes", len(big))
    file_id = await answer(app, f"return c.create({{'name': 'a', 'data': bytes({len(big)})}})")
    assert await answer(app, f"return len(c.get('{file_id}'))") == len(big)
    said = await failure(app, f"return len(c.get('{file_id}'))", limits=Limits(memory_mib=16))
    assert said == f"RuntimeError: files: this file has {len(big)} bytes, too many for a run with 16 MiB of memory"


async def test_capabilities_are_checked_when_somebody_is_attached(app: App) -> None:
    viewer = Principal(kind="user", id=UUID(int=1), instance_role="member", app_roles={app.id: "viewer"})
    file_id = await answer(app, "return c.create({'name': 'a', 'data': b'1'})")
    assert reply(await outcome(app, f"return c.head('{file_id}')['size']", principal=viewer)) == 1
    for call in ("c.create({'name': 'a', 'data': b'1'})", f"c.update('{file_id}', {{'name': 'b'}})"):
        assert await caught(app, call, principal=viewer) == "PermissionError: files: app_files_write is required"
    assert "app_files_write is required" in await failure(app, f"return c.delete('{file_id}')", principal=viewer)
    stranger = Principal(kind="user", id=UUID(int=1), instance_role="member")
    for call in (f"c.get('{file_id}')", "c.list()"):
        assert await caught(app, call, principal=stranger) == "PermissionError: files: app_files_read is required"


@pytest.mark.parametrize("damage", [b"abd", b"ab", None])
async def test_damaged_bytes_are_reported_and_never_given_or_removed(platform: Platform, app: App, folder: Path, damage: bytes | None) -> None:
    file_id = await answer(app, "return c.create({'name': 'a', 'data': b'abc'})")
    path = place_of(folder, b"abc")
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    assert (await caught(app, f"c.get('{file_id}')")).startswith("RuntimeError: files: the ")
    assert path.exists() == (damage is not None)
    assert b"picloud_blob_faults_total{" in await platform.metrics.render(platform.reader)
    assert await answer(app, "return len(c.create({'name': 'b', 'data': b'abc'}))") == 36
    assert await answer(app, f"return str(c.get('{file_id}'))") == "b'abc'"


async def test_bytes_may_be_in_an_object_store_whose_secrets_show_nowhere(
    server_dsn: str, template: str, tmp_path: Path, s3: str, capfd: pytest.CaptureFixture[str]
) -> None:
    environment = {"BLOB_URL": "s3://blobs/of/an/instance/", "BLOB_ENDPOINT": s3, "DATA_DIR": str(tmp_path)}
    environment |= {f"BLOB_{name.upper()}": value for name, value in CREDENTIALS.items()}
    settings = load_settings({f"PICLOUD_{name}": value for name, value in environment.items()})
    async with cloned(server_dsn, template) as dsn, running(dsn, settings) as platform:
        app = await new_app(platform)
        file_id = await answer(app, "return c.create({'name': 'a', 'data': b'abc'})")
        assert await answer(app, f"return str(c.get('{file_id}'))") == "b'abc'"
        checksum = sha256(b"abc").hexdigest()
        place = {"Bucket": "blobs", "Key": f"of/an/instance/{checksum[:2]}/{checksum}"}
        objects = client(s3)
        assert objects.get_object(**place)["Body"].read() == b"abc"
        objects.put_object(**place, Body=b"abd")
        assert await caught(app, f"c.get('{file_id}')") == "RuntimeError: files: the stored bytes of this file are damaged"
        objects.delete_object(**place)
        assert await caught(app, f"c.get('{file_id}')") == "RuntimeError: files: the bytes of this file are lost"
        await platform.blob_sweep.run()
    assert list((tmp_path / "spool").iterdir()) == []
    said = "".join(capfd.readouterr()) + repr(settings)
    assert CREDENTIALS["secret_access_key"] not in said
    assert CREDENTIALS["access_key_id"] not in said
