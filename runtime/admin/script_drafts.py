"""Scripts on their way to be stored: what callers ask for, merged with what is there, and checked. Pure."""

from __future__ import annotations

import unicodedata
from typing import Any

import msgspec
from uuid_utils.compat import uuid7

from domain.errors import Invalid
from domain.events import Recorded
from domain.modules import check_module_name
from domain.sandbox import Limits, ScriptKind
from domain.scripts import DEFAULT_TIMEOUT_S, MAX_NAME_CHARS, MAX_SOURCE_BYTES, Ceiling, ScriptSaved, check_limits, check_timeout, script_stream
from domain.units import Change, Record
from domain.values import check_text
from projections.control.reads import StoredScript


class LimitsChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits to set; those left out stay as they are."""

    memory_mib: int | msgspec.UnsetType = msgspec.UNSET
    host_calls: int | msgspec.UnsetType = msgspec.UNSET
    output_bytes: int | msgspec.UnsetType = msgspec.UNSET
    recursion: int | msgspec.UnsetType = msgspec.UNSET


class ScriptChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a script; what is left out stays as it is."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    source: str | msgspec.UnsetType = msgspec.UNSET
    kind: ScriptKind | msgspec.UnsetType = msgspec.UNSET
    timeout_seconds: float | msgspec.UnsetType = msgspec.UNSET
    limits: LimitsChange | msgspec.UnsetType = msgspec.UNSET


def blank() -> ScriptSaved:
    """What a new script is a change of."""
    return ScriptSaved(script_id=uuid7(), name="", kind="endpoint", source="", source_version=1, timeout_s=DEFAULT_TIMEOUT_S, limits=Limits())


def merged(old: ScriptSaved, wanted: ScriptChange) -> ScriptSaved:
    """The script as it would be; another source is another source version."""
    given: dict[str, Any] = {name: value for name in ("name", "source", "kind") if (value := getattr(wanted, name)) is not msgspec.UNSET}
    if wanted.timeout_seconds is not msgspec.UNSET:
        given["timeout_s"] = float(wanted.timeout_seconds)
    if wanted.limits is not msgspec.UNSET:
        changed = {name: value for name in Limits.__struct_fields__ if (value := getattr(wanted.limits, name)) is not msgspec.UNSET}
        given["limits"] = msgspec.structs.replace(old.limits, **changed)
    new = msgspec.structs.replace(old, **given)
    # A new script has no old source to count on from.
    return msgspec.structs.replace(new, source_version=old.source_version + 1) if old.name and new.source != old.source else new


def check_settings(script: ScriptSaved, ceiling: Ceiling) -> None:
    """Everything about a script but whether its source is valid. Raises Invalid naming the field."""
    if script.kind == "module":
        check_module_name(script.name)
    else:
        _check_endpoint_name(script.name)
    check_source(script.source)
    check_timeout(script.timeout_s, ceiling)
    check_limits(script.limits, ceiling)


def check_source(source: str) -> None:
    """Raise Invalid when a source cannot be stored or is too large."""
    check_text(source, "source")
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise Invalid(f"source: {len(source.encode())} bytes, at most {MAX_SOURCE_BYTES} are accepted", field="source")


def event_of(script: StoredScript) -> ScriptSaved:
    """The event that left a script as it is."""
    return ScriptSaved(
        script_id=script.id,
        name=script.name,
        kind=script.kind,
        source=script.source,
        source_version=script.source_version,
        timeout_s=script.timeout_s,
        limits=script.limits,
    )


def saved(script: ScriptSaved, expect: int) -> Change:
    """Store it, if its stream is at `expect`."""
    return Change(Record(name=script_stream(script.script_id), event=script), expect)


def stored(events: tuple[Recorded, ...], before: StoredScript | None) -> StoredScript:
    """The script as a unit's events have left it."""
    recorded, script = _last_saved(events)
    return StoredScript(
        app_id=recorded.app_id,
        id=script.script_id,
        name=script.name,
        kind=script.kind,
        source=script.source,
        source_version=script.source_version,
        timeout_s=script.timeout_s,
        limits=script.limits,
        version=recorded.version,
        created_at=recorded.recorded_at if before is None else before.created_at,
        updated_at=recorded.recorded_at,
    )


def _last_saved(events: tuple[Recorded, ...]) -> tuple[Recorded, ScriptSaved]:
    return next((recorded, recorded.event) for recorded in reversed(events) if isinstance(recorded.event, ScriptSaved))


def _check_endpoint_name(name: str) -> None:
    check_text(name, "name")
    sane = name.isprintable() and name == name.strip() and unicodedata.is_normalized("NFC", name)
    if not (sane and 0 < len(name) <= MAX_NAME_CHARS):
        raise Invalid(f"name: 1 to {MAX_NAME_CHARS} printable characters (NFC), no spaces at either end", field="name")
