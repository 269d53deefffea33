"""SQL as data: named blocks of a `.sql` file, and statements that whoever holds a connection will execute.

A `.sql` file is cut at lines `-- name: some_block`; parameters are `$1`, `$2`, … only.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import Any, Final

import msgspec

_NAME: Final = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class Statement(msgspec.Struct, frozen=True):
    """One parameterised SQL statement and its arguments.

    Of a `counted` one (it has a RETURNING clause) the log tells how many rows it wrote, by label. A `claimable` one adds rows to the outbox; its last
    arguments say who takes how many of them (`domain.claiming`), and it returns what those need to be run.
    """

    sql: str
    args: tuple[Any, ...]
    counted: str | None = None
    claimable: bool = False


def read_sql(package: str, file_name: str) -> str:
    """The text of a `.sql` file beside a package's code."""
    return resources.files(package).joinpath(file_name).read_text(encoding="utf-8")


def load_sql(package: str, file_name: str) -> dict[str, str]:
    """Read the named blocks of a `.sql` file beside a package's code; raises ValueError on a name that stands twice."""
    parts = _NAME.split(read_sql(package, file_name))
    names = parts[1::2]
    if len(set(names)) != len(names):
        msg = f"{package}/{file_name} names a block twice"
        raise ValueError(msg)
    return {name: block.strip().rstrip(";") for name, block in zip(names, parts[2::2], strict=True)}
