"""Sweeping blobs that nothing needs: what broken-off uploads and failed runs have left behind, once it is older than the grace.

A blob that any event of an app has ever named stays as long as that app; those that only deleted apps have named go. Nothing is removed but from a store that
this instance has claimed: started by mistake on an empty database, or on another's bucket, it removes nothing.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import Final

import structlog

from domain.blobs import BlobStore
from domain.clock import Clock
from domain.ids import NIL_APP
from domain.ports import Reader
from domain.statements import load_sql
from projections.files.reads import named_blobs, names_any_blob

EVERY_S: Final = 3600.0
_AT_ONCE: Final = 1000
_SQL: Final = load_sql("runtime", "blob_sweep.sql")

log = structlog.get_logger(__name__)


class BlobSweep:
    """The job. `grace_s` is longer than bytes may lie between their storing and the event that names them."""

    def __init__(self, store: BlobStore, reader: Reader, grace_s: float, clock: Clock) -> None:
        self._store = store
        self._reader = reader
        self._grace = timedelta(seconds=grace_s)
        self._clock = clock

    async def run(self) -> None:
        """Sweep once."""
        before = self._clock() - self._grace
        unfinished = await self._store.discard_unfinished(before)
        orphans = 0
        if await self.claim():
            async for page in self._store.older(before):
                checksums = iter(page)
                while some := list(islice(checksums, _AT_ONCE)):
                    named = await named_blobs(self._reader, some)
                    for checksum in some:
                        orphans += checksum not in named and await self._store.discard(checksum, before)
        if unfinished or orphans:
            log.info("blobs_swept", unfinished=unfinished, orphans=orphans)

    async def claim(self) -> bool:
        """Whether the store's blobs are this instance's, known by the first unit of its own log; from now on, if they are nobody's and this instance names any.

        One that names none may be a mistake, or may have named some that only deleted apps have named: then the store is its own already.
        """
        rows = await self._reader.fetch(_SQL["instance"], NIL_APP)
        if not rows:
            return False
        instance = str(rows[0]["unit_id"])
        names_any = await names_any_blob(self._reader)
        owner = await self._store.claim(instance) if names_any else await self._store.owner()
        if names_any and owner != instance:
            log.warning("blobs_of_another_instance", owner=owner, instance=instance)
        return owner == instance
