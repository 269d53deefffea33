"""`/apps/{app}/kv`: collections and entries, now or as they were (`?at=`)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from litestar import Router, delete, get, put
from litestar.params import JSONBody, QueryParameter

from domain.authz import Capability
from domain.cursors import decode, encode, parse_at, parse_limit
from domain.units import MAX_UNIT_BYTES
from projections.kv.reads import Entry, KvCollection
from runtime.offloop import weigh
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment
from web.admin.services import kv_of
from web.pages import Page, cut_page, page
from web.paths import segment

MAX_ENTRIES: Final = 1000
EntryLimit = Annotated[str | None, QueryParameter(schema_extra={"maximum": MAX_ENTRIES})]


class PutEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value. `ttl` is in seconds, none clears it; `if_version` is the version that must stand there (0: nothing)."""

    value: Any
    ttl: float | None = None
    if_version: int | None = None


@get("/apps/{app:str}/kv", opt=needs(Capability.KV_READ))
async def list_kv_collections(call: Call, app: Segment, limit: Query = None, cursor: Query = None, at: Query = None) -> Page[KvCollection]:
    """The collections of an app by name, each with the number of its entries, which may be none when all have expired."""
    found = await call.app(app)
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "kv_collections", (str,))
    collections = await kv_of(call).collections(found.app_id, after, size + 1, _at(at))
    return page(collections, size, lambda item: encode("kv_collections", item.collection))


@get("/apps/{app:str}/kv/{collection:str}", opt=needs(Capability.KV_READ))
async def list_kv_entries(
    call: Call, app: Segment, collection: Segment, prefix: Query = None, limit: EntryLimit = None, cursor: Query = None, at: Query = None
) -> Page[Entry]:
    """Entries of a collection whose keys begin with `prefix`, by key in code-point order. A page ends early where its values have 4 MiB."""
    found = await call.app(app)
    size = parse_limit(limit, maximum=MAX_ENTRIES)
    (after,) = (None,) if cursor is None else decode(cursor, "kv", (str,))
    entries = await kv_of(call).entries(found.app_id, segment(collection, "collection"), prefix or "", after, size, _at(at))
    return cut_page(entries.more, entries.items, lambda entry: encode("kv", entry.key))


@get("/apps/{app:str}/kv/{collection:str}/{key:str}", opt=needs(Capability.KV_READ))
async def read_kv_entry(call: Call, app: Segment, collection: Segment, key: Segment, at: Query = None) -> Entry:
    """One entry."""
    found = await call.app(app)
    return await kv_of(call).get(found.app_id, segment(collection, "collection"), segment(key, "key"), _at(at))


@put("/apps/{app:str}/kv/{collection:str}/{key:str}", opt=needs(Capability.KV_WRITE))
async def put_kv_entry(call: Call, app: Segment, collection: Segment, key: Segment, data: JSONBody[PutEntry]) -> Entry:
    """Set an entry. 409 with `expected` and `found` when `if_version` does not hold."""
    found = await call.app(app)
    names = segment(collection, "collection"), segment(key, "key")
    await call.admit_write(found.app_id, weigh(data.value, MAX_UNIT_BYTES))
    return await kv_of(call).put(found.app_id, *names, data.value, data.ttl, data.if_version, call.acting)


@delete("/apps/{app:str}/kv/{collection:str}/{key:str}", opt=needs(Capability.KV_WRITE))
async def delete_kv_entry(call: Call, app: Segment, collection: Segment, key: Segment) -> None:
    """Delete an entry; 404 when it is absent."""
    found = await call.app(app)
    await kv_of(call).delete(found.app_id, segment(collection, "collection"), segment(key, "key"), call.acting)


def _at(text: str | None) -> int | datetime | None:
    return None if text is None else parse_at(text)


router: Final = Router(path="/", route_handlers=[list_kv_collections, list_kv_entries, read_kv_entry, put_kv_entry, delete_kv_entry], tags=["kv"])
