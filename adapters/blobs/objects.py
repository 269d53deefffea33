"""Blobs in an S3-compatible store: `<prefix>/<first two digits>/<checksum>`.

Bytes are spooled to a local temporary file first, because an object's name must be known before it is sent and a blob's is known after its last byte; so one
request (or one upload in parts) makes each object, and an object is there whole or not at all. Such stores have no lock that discarding could hold: somebody
who saves an old orphan again in the very moment between a look at it and its removal may lose it (see docs/operations.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import S3Store

from adapters.blobs.spool import PIECE_BYTES, Disk, discard_old, spooled
from domain.blobs import Blob, is_checksum
from domain.errors import Damaged, Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Config

_OWNER: Final = "owner"
_RETRY_AFTER_S: Final = 5.0
_REQUEST_TIMEOUT: Final = "60s"
_RETRIES: Final = 3


class S3Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the store is. Without credentials those of the machine's environment are used. Its repr shows none."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None

    def __repr__(self) -> str:
        return f"S3Place(bucket={self.bucket!r}, prefix={self.prefix!r}, endpoint={self.endpoint!r})"


class ObjectBlobs:
    """Implements `domain.blobs.BlobStore`. `spool` is a directory of this process's machine."""

    def __init__(self, place: S3Place, spool: Path) -> None:
        self._store = _open(place)
        self._spool = spool
        self._disk = Disk()

    async def save(self, chunks: AsyncIterable[bytes], max_bytes: int) -> Blob:
        """See `BlobStore.save`."""
        async with spooled(self._disk, self._spool, chunks, max_bytes) as (path, blob):
            with _translated():
                await obstore.put_async(self._store, _key(blob.checksum), path)
        return blob

    async def read(self, checksum: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """See `BlobStore.read`."""
        if start >= stop:
            return
        with _translated(checksum):
            found = await obstore.get_async(self._store, _key(checksum), options={"range": (start, stop)})
            async for piece in found.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)

    async def older(self, before: datetime) -> AsyncIterator[list[str]]:
        """See `BlobStore.older`."""
        with _translated():
            async for page in obstore.list(self._store):
                found = [_checksum(item["path"]) for item in page if item["last_modified"] < before]
                yield [checksum for checksum in found if checksum is not None]

    async def discard(self, checksum: str, before: datetime) -> bool:
        """See `BlobStore.discard`."""
        with _translated():
            try:
                found = await obstore.head_async(self._store, _key(checksum))
            except (NotFoundError, FileNotFoundError):
                return False
            if found["last_modified"] >= before:
                return False
            await obstore.delete_async(self._store, _key(checksum))
            return True

    async def discard_unfinished(self, before: datetime) -> int:
        """See `BlobStore.discard_unfinished`. Unfinished uploads in parts are for the store's own lifecycle rules."""
        return await self._disk.run(lambda: discard_old(self._spool, before))

    async def claim(self, owner: str) -> str:
        """See `BlobStore.claim`."""
        with _translated():
            try:
                await obstore.put_async(self._store, _OWNER, owner.encode(), mode="create")
            except AlreadyExistsError:
                return await self._read_owner()
            return owner

    async def owner(self) -> str | None:
        """See `BlobStore.owner`."""
        with _translated():
            try:
                return await self._read_owner()
            except FileNotFoundError:
                return None

    async def _read_owner(self) -> str:
        found = await obstore.get_async(self._store, _OWNER)
        return bytes(await found.bytes_async()).decode()


def _open(place: S3Place) -> S3Store:
    """Configuration that is not given comes from the environment (`AWS_…`) or the machine's own credentials."""
    given: dict[str, Any] = {
        "endpoint": place.endpoint,
        "region": place.region,
        "access_key_id": place.access_key_id,
        "secret_access_key": place.secret_access_key,
    }
    config: S3Config = {name: value for name, value in given.items() if value is not None}  # type: ignore[assignment]
    plain = place.endpoint is not None and place.endpoint.startswith("http://")
    return S3Store(
        place.bucket,
        prefix=place.prefix or None,
        config=config,
        client_options={"allow_http": plain, "timeout": _REQUEST_TIMEOUT},
        retry_config={"max_retries": _RETRIES},
    )


def _key(checksum: str) -> str:
    return f"{checksum[:2]}/{checksum}"


def _checksum(key: str) -> str | None:
    """Whose key this is, None for no blob's."""
    name = key.rpartition("/")[2]
    return name if is_checksum(name) and key == _key(name) else None


@contextmanager
def _translated(checksum: str | None = None) -> Iterator[None]:
    """Errors of the store in terms of ours. Their texts may name addresses and keys, so they go no further than the cause."""
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        if checksum is None:
            raise Unavailable("the object store does not know its bucket", retry_after_s=_RETRY_AFTER_S) from error
        raise Damaged("the bytes of this file are lost", code="blob_missing", checksum=checksum) from error
    except (BaseError, OSError, ValueError) as error:
        raise Unavailable(f"the object store failed ({type(error).__name__})", retry_after_s=_RETRY_AFTER_S) from error
