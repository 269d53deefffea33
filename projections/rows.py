"""Rows for read models that change rarely: one JSON parameter for any number of rows (`jsonb_populate_recordset`), instead of an array for each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from domain.statements import Statement


def rows(values: Sequence[Mapping[str, Any]]) -> str:
    """Rows as the JSON text that `jsonb_populate_recordset` reads; keys are column names."""
    return msgspec.json.encode(values).decode()


def changes(upsert: str, saved: Sequence[Mapping[str, Any]], delete: str, gone: Sequence[Mapping[str, Any]]) -> list[Statement]:
    """An upsert of the rows saved and a delete of the rows gone, each left out when there are none."""
    pairs = ((upsert, saved), (delete, gone))
    return [Statement(sql, (rows(values),)) for sql, values in pairs if values]
