"""Which PiCloud this is: product, and the contracts it speaks."""

from __future__ import annotations

from typing import Final

import msgspec

from adapters.postgres.migrate import load_migrations

PRODUCT: Final = "0.1.0"
API: Final = "v1"
SDK: Final = 1
WIRE: Final = 1


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """`product` is the release; `api` the prefix of REST calls, `sdk` what scripts are given, `schema` the newest migration, `wire` the form of answers."""

    product: str
    api: str
    sdk: int
    schema: int
    wire: int


def read_version() -> Version:
    """The versions of the installed program."""
    return Version(product=PRODUCT, api=API, sdk=SDK, schema=len(load_migrations()), wire=WIRE)
