"""kv for scripts: reads join the read set, effects are checked again as if the prelude had checked nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from domain import cursors
from domain.authz import Capability
from domain.errors import Invalid
from domain.events import Event
from domain.kv import (
    MAX_VALUE_BYTES,
    DeleteKey,
    IncrementKey,
    KvDeleted,
    KvExpired,
    KvSet,
    SetKey,
    check_collection,
    check_key,
    check_ttl,
    entry_stream,
    exists,
)
from domain.sandbox import LATER
from domain.units import ABSENT, Change
from domain.values import check_json, decode_json, encode_json
from projections.kv.live import LiveEntry, get_entry, page_entries
from runtime.offloop import MAX_ON_LOOP_BYTES, off_loop, weigh
from runtime.services import Access, Service, as_script_error, rfc3339

MAX_LIMIT: Final = 1000
MAX_OVERLAY: Final = 1000
MAX_PAGE_BYTES: Final = 4 * 1024 * 1024


async def kv_get(access: Access, collection: object, key: object) -> dict[str, Any] | None:
    """`{value (JSON text), version, updated_at}`, or None when absent."""
    stream = _about_to_get(access, collection, key)
    entry = await get_entry(access.reader, access.app_id, str(collection), str(key), access.now)
    access.note(stream, ABSENT if entry is None else entry.version)
    return None if entry is None else {"value": entry.value, "version": entry.version, "updated_at": _time(entry.updated_at)}


def kv_get_now(access: Access, collection: object, key: object) -> Any:
    """What `kv_get` would answer, from the entry's last event if that is remembered, else `LATER`."""
    stream = _about_to_get(access, collection, key)
    known = access.recall(stream)
    if known is None:
        return LATER
    entry = known.last
    if not isinstance(entry, KvSet) or not exists(entry, access.now):
        access.note(stream, ABSENT)
        return None
    access.note(stream, known.version)
    return {"value": bytes(entry.value).decode(), "version": known.version, "updated_at": _time(known.recorded_at)}


async def kv_list(access: Access, collection: object, prefix: object, limit: object, cursor: object, overlay: object) -> dict[str, Any]:
    """A page of committed entries with this run's own changes merged in, before the limit. Shorter where the values are long."""
    access.require("kv", Capability.KV_READ)
    try:
        name, start, count, after = _list_arguments(collection, prefix, limit, cursor)
        changes = await off_loop(weigh(overlay, MAX_ON_LOOP_BYTES), lambda: _overlay(overlay, start, after))
    except Invalid as error:
        raise as_script_error(error, "kv") from error
    wanted = count + len(changes) + 1
    committed = await page_entries(access.reader, access.app_id, name, start, after, access.now, limit=wanted, max_bytes=MAX_PAGE_BYTES)
    is_whole = len(committed) < wanted and sum(len(entry.value.encode()) for entry in committed) < MAX_PAGE_BYTES
    page = _merged(access, name, {entry.key: entry for entry in committed}, changes, None if is_whole else committed[-1].key)
    shown = page[:count]
    for entry in shown:
        if entry.key not in changes:
            _read(access, entry_stream(name, entry.key), entry.version)
    rows = [{"key": entry.key, "value": entry.value, "version": entry.version, "updated_at": _time(entry.updated_at)} for entry in shown]
    following = None
    if len(page) > count:
        following = shown[-1].key
    elif not is_whole:
        following = committed[-1].key
    return {"items": rows, "next_cursor": None if following is None else cursors.encode("kv", following)}


def kv_set(access: Access, collection: object, key: object, text: object, ttl: object = None) -> Change:
    """The effect of `set`; `text` is JSON."""
    access.require("kv", Capability.KV_WRITE)
    try:
        value = msgspec.Raw(_canonical(text))
        return Change(SetKey(collection=check_collection(collection), key=check_key(key), value=value, ttl_s=check_ttl(ttl)))
    except Invalid as error:
        raise as_script_error(error, "kv") from error


def kv_delete(access: Access, collection: object, key: object) -> Change:
    """The effect of `delete`."""
    access.require("kv", Capability.KV_WRITE)
    try:
        return Change(DeleteKey(collection=check_collection(collection), key=check_key(key)))
    except Invalid as error:
        raise as_script_error(error, "kv") from error


def kv_increment(access: Access, collection: object, key: object, by: object) -> Change:
    """The effect of `increment`."""
    access.require("kv", Capability.KV_WRITE)
    try:
        return Change(IncrementKey(collection=check_collection(collection), key=check_key(key), by=_number(by, "by")))
    except Invalid as error:
        raise as_script_error(error, "kv") from error


def describe(event: Event, before: Event | None) -> dict[str, Any]:
    """`ctx.event.kv`: the entry's value after the event and before it, each None when absent."""
    if not isinstance(event, KvSet | KvDeleted | KvExpired):
        msg = f"{event.TOPIC} is no event of kv"
        raise TypeError(msg)
    return {"collection": event.collection, "key": event.key, "value": _value(event), "prev": _value(before)}


def _value(event: Event | None) -> Any:
    return msgspec.json.decode(event.value) if isinstance(event, KvSet) else None


def _about_to_get(access: Access, collection: object, key: object) -> str:
    """The stream of an entry that may be read, and is next."""
    access.require("kv", Capability.KV_READ)
    try:
        stream = entry_stream(check_collection(collection), check_key(key))
    except Invalid as error:
        raise as_script_error(error, "kv") from error
    access.announce(stream)
    return stream


def _time(value: datetime | None) -> str:
    assert value is not None
    return rfc3339(value)


def _canonical(text: object) -> bytes:
    if not isinstance(text, str):
        raise Invalid("value must be JSON text", field="value")
    return msgspec.json.encode(decode_json(text.encode(), "value", max_bytes=MAX_VALUE_BYTES))


def _number(value: object, field: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid(f"{field} must be a number", field=field)
    check_json(value, field)
    return value


def _list_arguments(collection: object, prefix: object, limit: object, cursor: object) -> tuple[str, str, int, str | None]:
    if not isinstance(prefix, str):
        raise Invalid("prefix must be a string", field="prefix")
    if prefix:
        check_key(prefix, "prefix")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be 1 to {MAX_LIMIT}", field="limit")
    after = None
    if cursor is not None:
        if not isinstance(cursor, str):
            raise Invalid("cursor must be a string", field="cursor")
        (after,) = cursors.decode(cursor, "kv", (str,))
    return check_collection(collection), prefix, limit, after


def _overlay(overlay: object, prefix: str, after: str | None) -> dict[str, tuple[str, Any]]:
    """This run's changes of the collection within the page's range, checked."""
    if not isinstance(overlay, dict) or len(overlay) > MAX_OVERLAY:
        raise Invalid(f"overlay must be an object of at most {MAX_OVERLAY} keys", field="overlay")
    changes: dict[str, tuple[str, Any]] = {}
    for key, change in overlay.items():
        check_key(key)
        if key.startswith(prefix) and (after is None or key > after):
            changes[key] = _overlay_change(change)
    return changes


def _overlay_change(change: object) -> tuple[str, Any]:
    match change:
        case ["set", str(text)] | ("set", str(text)):
            return "set", _canonical(text).decode()
        case ["delete", *_] | ("delete", *_):
            return "delete", None
        case ["add", by] | ("add", by):
            return "add", _number(by, "by")
        case _:
            raise Invalid("malformed change", field="overlay")


def _merged(access: Access, name: str, items: dict[str, LiveEntry], changes: dict[str, tuple[str, Any]], horizon: str | None) -> list[LiveEntry]:
    """Committed entries with the changes up to the horizon, by key. What a change is added to has been read."""
    for key, (kind, detail) in changes.items():
        if horizon is not None and key > horizon:
            continue
        base = items.pop(key, None)
        if kind == "add":
            _read(access, entry_stream(name, key), ABSENT if base is None else base.version)
        if kind != "delete":
            text = _sum(key, base, detail) if kind == "add" else detail
            items[key] = LiveEntry(key, text, 1 if base is None else base.version + 1, access.now if base is None else base.updated_at)
    return [items[key] for key in sorted(items)]


def _read(access: Access, stream: str, version: int) -> None:
    access.announce(stream)
    access.note(stream, version)


def _sum(key: str, base: LiveEntry | None, by: float) -> str:
    """The JSON text that an increment will come to."""
    value = 0 if base is None else msgspec.json.decode(base.value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"kv: the value of {key} is not a number")
    return encode_json(value + by, "value", max_bytes=MAX_VALUE_BYTES).decode()


KV: Final = Service(
    name="kv",
    calls={"kv_get": kv_get, "kv_list": kv_list},
    now={"kv_get": kv_get_now},
    effects={"kv_set": kv_set, "kv_delete": kv_delete, "kv_increment": kv_increment},
    needs=dict.fromkeys(("kv_set", "kv_delete", "kv_increment"), Capability.KV_WRITE),
    event=describe,
)
