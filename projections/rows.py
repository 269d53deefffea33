"""Rows for read models that change rarely: one JSON parameter for any number of rows (`jsonb_populate_recordset`), instead of an array for each column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.events import Event, Recorded
from domain.statements import Statement
from projections.base import Stages


class Life(msgspec.Struct, frozen=True):
    """What a run of events makes of one stream's subject.

    `created_at` is when it came to be, as far as these events tell; `reborn` says that it ended among them before that, so that a row from before is another's.
    """

    last: Recorded
    created_at: datetime
    reborn: bool


def lives(events: Iterable[Recorded], ends: type[Event]) -> list[Life]:
    """Fold events into one life for each stream; `ends` is the event after which the subject is gone."""
    found: dict[tuple[UUID, str], Life] = {}
    for recorded in events:
        key = (recorded.app_id, recorded.stream)
        before = found.get(key)
        if before is None:
            found[key] = Life(recorded, recorded.recorded_at, reborn=False)
        elif isinstance(before.last.event, ends):
            found[key] = Life(recorded, recorded.recorded_at, reborn=True)
        else:
            found[key] = Life(recorded, before.created_at, before.reborn)
    return list(found.values())


def rows(values: Sequence[Mapping[str, Any]]) -> str:
    """Rows as the JSON text that `jsonb_populate_recordset` reads; keys are column names."""
    return msgspec.json.encode(values).decode()


def changes(upsert: str, saved: Sequence[Mapping[str, Any]], delete: str, gone: Sequence[Mapping[str, Any]]) -> list[Statement]:
    """An upsert of the rows saved and a delete of the rows gone, each left out when there are none."""
    pairs = ((upsert, saved), (delete, gone))
    return [Statement(sql, (rows(values),)) for sql, values in pairs if values]


def changed(found: Iterable[Life], ends: type[Event], row: Callable[[Life], Mapping[str, Any]], upsert: str, delete: str) -> Stages:
    """What a table that has one row for each living subject needs; `row` makes it, or at least its key when the subject is gone.

    One stage, unless a subject was reborn: its old row goes first.
    """
    split = [(life, row(life), isinstance(life.last.event, ends)) for life in found]
    reborn = [values for life, values, is_gone in split if life.reborn and not is_gone]
    saved = [values for _, values, is_gone in split if not is_gone]
    gone = [values for _, values, is_gone in split if is_gone]
    return [stage for stage in (changes(upsert, (), delete, reborn), changes(upsert, saved, delete, gone)) if stage]


def side_by_side(*parts: Stages) -> Stages:
    """Stages of parts that touch different tables, the n-th of each together."""
    longest = max((len(part) for part in parts), default=0)
    return [[statement for part in parts for statement in (part[number] if number < len(part) else ())] for number in range(longest)]
