"""The contract of `BlobStore`, on a directory and on an S3-compatible server on loopback."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import obstore
import pytest

from adapters.blobs.local import LocalBlobs
from adapters.blobs.objects import ObjectBlobs, S3Place
from domain.blobs import Blob, BlobStore
from domain.errors import Damaged, TooLarge, Unavailable
from tests.s3 import CREDENTIALS, client

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
MANY = 64 * MIB
BYTES = [b"", b"x", b"\x00" * (MIB - 1), os.urandom(MIB), os.urandom(MIB + 1), os.urandom(6 * MIB)]


@pytest.fixture(params=["local", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "local":
        return LocalBlobs(tmp_path / "blobs")
    address: str = request.getfixturevalue("s3")
    place = S3Place(bucket="blobs", prefix=f"p{tmp_path.name}/{os.urandom(4).hex()}", endpoint=address, region="us-east-1", **CREDENTIALS)
    return ObjectBlobs(place, tmp_path / "spool")


async def chunks(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def save(store: BlobStore, data: bytes, max_bytes: int = MANY) -> Blob:
    return await store.save(chunks(data), max_bytes)


async def read(store: BlobStore, checksum: str, start: int = 0, stop: int = MANY) -> bytes:
    return b"".join([piece async for piece in store.read(checksum, start, stop)])


async def older(store: BlobStore, before: datetime) -> set[str]:
    return {checksum async for page in store.older(before) for checksum in page}


def soon() -> datetime:
    """S3 tells time by the second."""
    return datetime.now(UTC) + timedelta(seconds=5)


def left(folder: Path) -> list[Path]:
    """Temporary files."""
    return [path for name in ("blobs/unfinished", "spool") for path in (folder / name).glob("*")]


@pytest.mark.parametrize("data", BYTES, ids=len)
async def test_what_is_saved_is_read(store: BlobStore, data: bytes, tmp_path: Path) -> None:
    blob = await save(store, data)
    assert blob == Blob(sha256(data).hexdigest(), len(data))
    assert await read(store, blob.checksum, 0, blob.size) == data
    assert left(tmp_path) == []


async def test_ranges(store: BlobStore) -> None:
    data = BYTES[-1]
    blob = await save(store, data)
    for start, stop in ((0, 1), (5, 5), (1, MIB), (MIB - 1, MIB + 1), (3, len(data)), (len(data) - 1, len(data))):
        assert await read(store, blob.checksum, start, stop) == data[start:stop]


async def test_the_same_bytes_are_one_blob(store: BlobStore) -> None:
    assert await save(store, b"abc") == await save(store, b"abc")
    assert await older(store, soon()) == {sha256(b"abc").hexdigest()}


async def test_what_is_too_large_is_refused_before_it_ends_and_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 65_536
            yield bytes(65_536)

    with pytest.raises(TooLarge) as refusal:
        await store.save(endless(), 3 * MIB)
    assert refusal.value.extra == {"max_file_bytes": 3 * MIB}
    assert taken <= 5 * MIB
    assert left(tmp_path) == []
    assert await older(store, soon()) == set()
    assert (await save(store, b"12", 2)).size == 2


async def test_a_caller_who_goes_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"abc"
        raise ConnectionResetError

    with pytest.raises((ConnectionResetError, Unavailable)):
        await store.save(broken(), MANY)

    async def hanging() -> AsyncIterator[bytes]:
        yield bytes(2 * MIB)
        await anyio.sleep_forever()

    with anyio.move_on_after(0.2) as scope:
        await store.save(hanging(), MANY)
    assert scope.cancelled_caught
    assert left(tmp_path) == []
    assert await older(store, soon()) == set()


async def test_a_blob_that_is_not_there_is_damage(store: BlobStore) -> None:
    with pytest.raises(Damaged) as refusal:
        await read(store, "0" * 64, 0, 1)
    assert refusal.value.code == "blob_missing"


async def test_reading_may_be_broken_off(store: BlobStore) -> None:
    blob = await save(store, BYTES[-1])
    async with aclosing(store.read(blob.checksum, 0, blob.size)) as pieces:  # type: ignore[type-var]  # it is a generator
        async for piece in pieces:
            assert BYTES[-1].startswith(piece)
            break


async def test_old_blobs_are_found_and_discarded(store: BlobStore) -> None:
    first, second = [await save(store, data) for data in (b"a", b"b")]
    long_ago = datetime.now(UTC) - timedelta(days=1)
    assert await older(store, long_ago) == set()
    assert not await store.discard(first.checksum, long_ago)
    assert await older(store, soon()) == {first.checksum, second.checksum}
    assert await store.discard(first.checksum, soon())
    assert not await store.discard(first.checksum, soon())
    assert await older(store, soon()) == {second.checksum}
    with pytest.raises(Damaged):
        await read(store, first.checksum, 0, 1)


async def test_what_is_no_blob_is_let_alone(store: BlobStore, tmp_path: Path) -> None:
    """Other programs leave things behind, and some keep theirs under hashes, too."""
    blob = await save(store, b"abc")
    for name in ("ab/.nfs00000000", f"ab/ab{'0' * 38}", f"ab/AB{'0' * 62}"):
        if isinstance(store, ObjectBlobs):
            await obstore.put_async(store._store, name, b"another's")
        else:
            (tmp_path / "blobs/ab").mkdir(exist_ok=True)
            (tmp_path / "blobs" / name).write_bytes(b"another's")
    assert await older(store, soon()) == {blob.checksum}


async def test_a_store_is_its_first_claimants(store: BlobStore) -> None:
    assert await store.owner() is None
    assert [await store.claim(owner) for owner in ("a", "b", "a")] == ["a", "a", "a"]
    assert await store.owner() == "a"
    assert await older(store, soon()) == set()


async def test_unfinished_ones_are_discarded_when_they_are_old(store: BlobStore, tmp_path: Path) -> None:
    await save(store, b"a")
    folder = tmp_path / ("blobs/unfinished" if isinstance(store, LocalBlobs) else "spool")
    for name, age_s in (("new", 0), ("old", 7200)):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (datetime.now(UTC).timestamp() - age_s,) * 2)
    assert await store.discard_unfinished(datetime.now(UTC) - timedelta(hours=1)) == 1
    assert [path.name for path in left(tmp_path)] == ["new"]


async def test_many_save_the_same_while_it_is_discarded(tmp_path: Path) -> None:
    """Whoever has been told that a blob is saved finds it, as long as nobody discards what is younger."""
    store = LocalBlobs(tmp_path)
    path = tmp_path / sha256(b"a").hexdigest()[:2] / sha256(b"a").hexdigest()

    async def save_and_read() -> None:
        for _ in range(30):
            before = datetime.now(UTC) - timedelta(seconds=10)
            blob = await save(store, b"a")
            assert not await store.discard(blob.checksum, before)
            assert await read(store, blob.checksum, 0, 1) == b"a"

    async def discard() -> None:
        for _ in range(60):
            if path.exists():
                await store.discard(path.name, datetime.now(UTC) - timedelta(hours=1))

    async with anyio.create_task_group() as tasks:
        for task in (save_and_read, save_and_read, save_and_read, discard):
            tasks.start_soon(task)


async def test_saving_again_makes_damaged_bytes_whole(tmp_path: Path) -> None:
    store = LocalBlobs(tmp_path)
    blob = await save(store, b"abc")
    (tmp_path / blob.checksum[:2] / blob.checksum).write_bytes(b"abd")
    assert await read(store, blob.checksum) == b"abd"
    await save(store, b"abc")
    assert await read(store, blob.checksum) == b"abc"


async def test_only_the_owner_may_look(tmp_path: Path) -> None:
    blob = await save(LocalBlobs(tmp_path / "blobs"), b"abc")
    folder = tmp_path / "blobs" / blob.checksum[:2]
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, folder / blob.checksum)] == ["0o700", "0o600"]


async def test_a_full_or_broken_disk_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_bytes(b"a file where a directory belongs")
    with pytest.raises(Unavailable) as refusal:
        await save(LocalBlobs(tmp_path / "blobs"), b"abc")
    assert str(tmp_path) not in refusal.value.detail


async def test_a_store_that_is_away_or_lacks_its_bucket_is_unavailable(s3: str, tmp_path: Path) -> None:
    place = S3Place(bucket="none", endpoint=s3, region="us-east-1", **CREDENTIALS)
    with pytest.raises(Unavailable) as refusal:
        await save(ObjectBlobs(place, tmp_path), b"abc")
    assert "secret" not in repr(place) + refusal.value.detail


def parts(found: Iterable[Any]) -> list[str]:
    return [item["Key"] for item in found]


async def test_objects_stand_under_their_prefix(s3: str, tmp_path: Path) -> None:
    place = S3Place(bucket="blobs", prefix="here/and/there", endpoint=s3, region="us-east-1", **CREDENTIALS)
    blob = await save(ObjectBlobs(place, tmp_path), b"abc")
    assert parts(client(s3).list_objects_v2(Bucket="blobs", Prefix="here/")["Contents"]) == [f"here/and/there/{blob.checksum[:2]}/{blob.checksum}"]
