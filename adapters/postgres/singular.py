"""Statements over arrays of one element, rewritten without arrays.

Projections say what they do to any number of rows: `unnest($1::uuid[], $2::text[]) AS t (a, b)`. When a batch is one event, which it mostly is while there
is little to do, `(VALUES ($1::uuid, $2::text)) AS t (a, b)` does the same for less on both sides: arrays are dear to encode, and each `unnest` is a
function scan through a tuple store.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from domain.statements import Statement

_CALL: Final = re.compile(r"\bunnest\(\s*(\$\d+::[a-z_ ]+\[\](?:\s*,\s*\$\d+::[a-z_ ]+\[\])*)\s*\)(?P<alias>\s+AS\b)?")
_PARAMETER: Final = re.compile(r"\$(\d+)")


def in_singular(statement: Statement) -> Statement:
    """The statement for its one row; itself when it has several, or parameters that are no column of `unnest`."""
    if any(type(arg) is not list or len(arg) != 1 for arg in statement.args):
        return statement
    sql = _singular(statement.sql)
    return statement if sql is None else Statement(sql, tuple([arg[0] for arg in statement.args]), statement.counted, statement.claimable)


def values_of(sql: str) -> str:
    """Every `unnest` of array parameters as one row of their elements."""
    return _CALL.sub(lambda call: f"(VALUES ({call[1].replace('[]', '')})){call['alias'] or ' AS one'}", sql)


@lru_cache(maxsize=512)
def _singular(sql: str) -> str | None:
    unnested = {number for call in _CALL.finditer(sql) for number in _PARAMETER.findall(call[1])}
    outside = set(_PARAMETER.findall(_CALL.sub("", sql)))
    return values_of(sql) if unnested and not outside else None
