"""Orphans are swept once they are old; what any event of an app ever named stays as long as the app; another instance's blobs are let alone."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from uuid_utils.compat import uuid7

from domain.files import CreateFile, DeleteFile, UpdateFile
from runtime.blob_sweep import BlobSweep
from runtime.database import rebuild_projections
from runtime.platform import Platform
from runtime.settings import Files
from tests.postgres import cloned
from tests.runtime.world import QUICK, App, delete_app, new_app, running

pytestmark = pytest.mark.anyio

GRACE_S = 3600


@pytest.fixture
async def platform(dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    async with running(dsn, msgspec.structs.replace(QUICK, data_dir=tmp_path, files=Files(grace_s=GRACE_S))) as opened:
        yield opened


@pytest.fixture
async def app(platform: Platform) -> App:
    return await new_app(platform)


def place(folder: Path, data: bytes) -> Path:
    checksum = sha256(data).hexdigest()
    return folder / "blobs" / checksum[:2] / checksum


def age(path: Path) -> None:
    then = time.time() - GRACE_S - 60
    os.utime(path, (then, then))


async def create(app: App, data: bytes) -> CreateFile:
    effect = CreateFile(collection="c", id=uuid7(), name="a", content_type="a/b", blob=await app.platform.blobs.save_bytes(data))
    await app.append(effect)
    return effect


async def test_old_orphans_go_and_what_was_ever_named_stays(platform: Platform, app: App, dsn: str, tmp_path: Path) -> None:
    made = await create(app, b"first")
    await app.append(UpdateFile(collection="c", id=made.id, blob=await platform.blobs.save_bytes(b"second")))
    await app.append(DeleteFile(collection="c", id=made.id))
    closed = await new_app(platform)
    await create(closed, b"of a closed app")
    await platform.log.close_app(closed.id)
    for data in (b"old orphan", b"young orphan"):
        await platform.blobs.save_bytes(data)
    for name in ("old", "young"):
        (tmp_path / "blobs/unfinished" / name).write_bytes(b"x")
    for data in (b"first", b"second", b"of a closed app", b"old orphan"):
        age(place(tmp_path, data))
    age(tmp_path / "blobs/unfinished/old")
    await rebuild_projections(dsn, ["files"])
    await platform.blob_sweep.run()
    stay, go = (b"first", b"second", b"young orphan"), (b"of a closed app", b"old orphan")
    assert [place(tmp_path, data).exists() for data in (*stay, *go)] == [True] * 3 + [False] * 2
    assert [path.name for path in (tmp_path / "blobs/unfinished").iterdir()] == ["young"]


async def test_bytes_that_only_deleted_apps_have_named_go_though_nothing_is_named_any_more(platform: Platform, app: App, tmp_path: Path) -> None:
    await create(app, b"bytes")
    await delete_app(app)
    age(place(tmp_path, b"bytes"))
    await platform.blob_sweep.run()
    assert not place(tmp_path, b"bytes").exists()


async def test_bytes_that_are_stored_again_are_young_again(platform: Platform, app: App, tmp_path: Path) -> None:
    await create(app, b"named")
    await platform.blobs.save_bytes(b"orphan")
    age(place(tmp_path, b"orphan"))
    await platform.blobs.save_bytes(b"orphan")
    await platform.blob_sweep.run()
    assert place(tmp_path, b"orphan").exists()


async def test_damaged_bytes_are_not_swept(platform: Platform, app: App, tmp_path: Path) -> None:
    await create(app, b"named")
    place(tmp_path, b"named").write_bytes(b"damaged")
    age(place(tmp_path, b"named"))
    await platform.blob_sweep.run()
    assert place(tmp_path, b"named").read_bytes() == b"damaged"


async def test_an_empty_database_and_another_instance_remove_nothing(platform: Platform, app: App, server_dsn: str, template: str, tmp_path: Path) -> None:
    for data in (b"mine", b"orphan"):
        await platform.blobs.save_bytes(data)
        age(place(tmp_path, data))
    await platform.blob_sweep.run()
    assert place(tmp_path, b"orphan").exists(), "nothing is named yet, so nothing says that the store is ours"
    await create(app, b"mine")
    await platform.blob_sweep.run()
    assert not place(tmp_path, b"orphan").exists()
    await platform.blobs.save_bytes(b"orphan")
    for data in (b"mine", b"orphan"):
        age(place(tmp_path, data))
    async with cloned(server_dsn, template) as other_dsn, running(other_dsn, platform.settings) as other:
        await other.blob_sweep.run()
        await create(await new_app(other), b"theirs")
        await other.blob_sweep.run()
    assert [place(tmp_path, data).exists() for data in (b"mine", b"orphan", b"theirs")] == [True, True, True]


async def test_a_store_that_was_never_used_is_not_made(platform: Platform, tmp_path: Path) -> None:
    await BlobSweep(platform.blobs.store, platform.reader, 1, platform.clock).run()
    assert not (tmp_path / "blobs").exists()
