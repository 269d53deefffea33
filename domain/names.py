"""Uniqueness across streams, and guards.

A name that may be used once (a script's in its app, a slug, a user name, a domain) is a stream `name:<kind>:<casefolded>`: whoever claims it expects it
absent. One that is *retired* is still its owner's, but nobody goes by it: whoever takes it, its owner too, expects its exact version.

A guard is a stream that every change to some set expects at an exact version and moves on, so that two changes which are each valid alone cannot both happen.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from domain.aggregates import Aggregate, always
from domain.events import Event
from domain.ids import stream
from domain.units import ABSENT, ANY, Change, Record


class NameClaimed(Event, frozen=True, kw_only=True):
    """A name belongs to `owner_id` now. `name` is as its owner wrote it."""

    TOPIC = "names.NameClaimed"
    kind: str
    name: str
    owner_id: UUID


class NameRetired(Event, frozen=True, kw_only=True):
    """Nobody goes by a name any more, but it is still its owner's."""

    TOPIC = "names.NameRetired"
    kind: str
    name: str
    owner_id: UUID


class NameReleased(Event, frozen=True, kw_only=True):
    """A name is free again."""

    TOPIC = "names.NameReleased"
    kind: str
    name: str
    owner_id: UUID


class GuardMoved(Event, frozen=True, kw_only=True):
    """The set behind a guard changed."""

    TOPIC = "guards.GuardMoved"
    guard: str


def name_stream(kind: str, name: str) -> str:
    """The stream of a name; letter case does not tell names apart."""
    return stream("name", kind, name.casefold())


def claim_name(kind: str, name: str, owner_id: UUID, version: int = ABSENT) -> Change:
    """Claim a name that must be free, or retired at a version."""
    return Change(Record(name=name_stream(kind, name), event=NameClaimed(kind=kind, name=name, owner_id=owner_id)), version)


def retire_name(kind: str, name: str, owner_id: UUID) -> Change:
    """Go by a name no longer, but keep it."""
    return Change(Record(name=name_stream(kind, name), event=NameRetired(kind=kind, name=name, owner_id=owner_id)))


def release_name(kind: str, name: str, owner_id: UUID) -> Change:
    """Give a name up."""
    return Change(Record(name=name_stream(kind, name), event=NameReleased(kind=kind, name=name, owner_id=owner_id)))


def guard_stream(guard: str) -> str:
    """The stream of a guard."""
    return stream("guard", guard)


def move_guard(guard: str, version: int) -> Change:
    """Move a guard that must stand at `version` (0: nobody has moved it yet)."""
    expect = version if version > 0 else ABSENT
    return Change(Record(name=guard_stream(guard), event=GuardMoved(guard=guard)), expect)


def touch_guard(guard: str) -> Change:
    """Move a guard wherever it stands: for changes that cannot conflict themselves but may invalidate another's decision."""
    return Change(Record(name=guard_stream(guard), event=GuardMoved(guard=guard)), ANY)


AGGREGATES: Final = (
    Aggregate(
        kind="name",
        events=(NameClaimed, NameRetired, NameReleased),
        deciders={},
        exists=lambda last, _: isinstance(last, NameClaimed | NameRetired),
    ),
    Aggregate(kind="guard", events=(GuardMoved,), deciders={}, exists=always),
)
