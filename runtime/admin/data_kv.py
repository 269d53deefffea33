"""Key-value data for people: read now or as it was, set and deleted."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from adapters.postgres.log import PgLog
from domain.clock import Clock
from domain.errors import Conflict, Invalid, NotFound, VersionConflict
from domain.kv import MAX_VALUE_BYTES, DeleteKey, KvDeleted, KvSet, SetKey, check_collection, check_key, check_ttl
from domain.ports import Reader
from domain.units import ABSENT, ANY, Change
from domain.values import encode_json
from projections.kv.reads import Entry, KvCollection, page_collections, page_entries, read_entry
from runtime.admin.bounded import PAGE_BYTES, Cut
from runtime.admin.kv_history import KvHistory
from runtime.admin.writing import Acting, AdminWriter
from runtime.offloop import MAX_ON_LOOP_BYTES, off_loop, weigh

MAX_VERSION: Final = 2**63 - 1

At = int | datetime | None
"""A position, a time, or now."""


class KvData:
    """The entries of all apps."""

    def __init__(self, reader: Reader, log: PgLog, writer: AdminWriter, clock: Clock) -> None:
        self._reader = reader
        self._history = KvHistory(reader, log)
        self._writer = writer
        self._clock = clock

    async def collections(self, app_id: UUID, after: str | None, limit: int, at: At) -> list[KvCollection]:
        """Collections with the number of their entries, perhaps none. Raises Invalid for `at` out of range."""
        now = self._clock()
        if at is None:
            return await page_collections(self._reader, app_id, after, now, limit)
        found = await self._history.collections(app_id, after, await self._history.moment(app_id, at, now), limit)
        return [KvCollection(name, entries) for name, entries in found]

    async def entries(self, app_id: UUID, collection: str, prefix: str, after: str | None, limit: int, at: At) -> Cut[Entry]:
        """Up to `limit` entries whose keys begin with `prefix`, by key, after a key, and no more once they have 4 MiB. Raises Invalid."""
        check_collection(collection)
        if prefix:
            check_key(prefix, "prefix")
        now = self._clock()
        if at is None:
            return Cut(*await page_entries(self._reader, app_id, collection, prefix, after, now, limit=limit, max_bytes=PAGE_BYTES))
        moment = await self._history.moment(app_id, at, now)
        return await self._history.items(app_id, collection, prefix, after, moment, limit)

    async def get(self, app_id: UUID, collection: str, key: str, at: At) -> Entry:
        """One entry. Raises Invalid, or NotFound when it is absent (or was, then)."""
        check_collection(collection)
        check_key(key)
        now = self._clock()
        if at is None:
            found = await read_entry(self._reader, app_id, collection, key, now)
        else:
            found = await self._history.item(app_id, collection, key, await self._history.moment(app_id, at, now))
        if found is None:
            raise NotFound("there is no such entry")
        return found

    async def put(self, app_id: UUID, collection: str, key: str, value: Any, ttl_s: float | None, if_version: int | None, acting: Acting) -> Entry:
        """Set a key; `if_version` 0 expects it absent, None expects nothing. Raises Invalid, or Conflict with `expected` and `found`."""
        encoded = await off_loop(weigh(value, MAX_ON_LOOP_BYTES), lambda: encode_json(value, "value", max_bytes=MAX_VALUE_BYTES))
        effect = SetKey(
            collection=check_collection(collection),
            key=check_key(key),
            value=msgspec.Raw(encoded),
            ttl_s=check_ttl(ttl_s),
        )
        try:
            events = await self._writer.append(app_id, acting, [Change(effect, _expectation(if_version))])
        except VersionConflict as error:
            raise await self._mismatch(app_id, effect, if_version) from error
        recorded = events[-1]
        assert isinstance(recorded.event, KvSet)
        return Entry(
            collection=collection,
            key=key,
            value=recorded.event.value,
            version=recorded.version,
            expires_at=recorded.event.expires_at,
            updated_at=recorded.recorded_at,
        )

    async def delete(self, app_id: UUID, collection: str, key: str, acting: Acting) -> None:
        """Delete a key. Raises Invalid, or NotFound when it is absent."""
        effect = DeleteKey(collection=check_collection(collection), key=check_key(key))
        events = await self._writer.append(app_id, acting, [Change(effect)])
        if not events or not isinstance(events[-1].event, KvDeleted):
            raise NotFound("there is no such entry")

    async def _mismatch(self, app_id: UUID, effect: SetKey, expected: int | None) -> Conflict:
        """What stands there now, for whoever must decide what to do about it."""
        entry = await read_entry(self._reader, app_id, effect.collection, effect.key, self._clock())
        found = 0 if entry is None else entry.version
        return Conflict(f"if_version: expected version {expected}, found {found}", code="version_conflict", field="if_version", expected=expected, found=found)


def _expectation(if_version: int | None) -> int:
    if if_version is None:
        return ANY
    if not 0 <= if_version <= MAX_VERSION:
        raise Invalid(f"if_version: expected a whole number from 0 (absent) to {MAX_VERSION}", field="if_version")
    return ABSENT if if_version == 0 else if_version
