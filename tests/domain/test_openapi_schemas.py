"""How Structs become components: readable names, and what msgspec leaves out."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from web.openapi.schemas import Schemas
from web.pages import Page


class Shop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A shop.

    And no more.
    """

    kind: Literal["real"] | None = None
    tags: tuple[str, ...] = ()
    opened_at: datetime | None = None


ANOTHER: Any = msgspec.defstruct("Shop", [("owner", str)])


def test_a_page_is_named_after_its_items() -> None:
    schemas = Schemas()
    assert schemas.of(Page[Shop]) == {"$ref": "#/components/schemas/ShopPage"}
    assert schemas.components["ShopPage"]["properties"]["items"]["items"] == {"$ref": "#/components/schemas/Shop"}


def test_types_of_enums_and_formats_of_times_are_told_and_defaults_are_json() -> None:
    schemas = Schemas()
    schemas.of(Shop)
    shop = schemas.components["Shop"]
    assert shop["description"] == "A shop. And no more."
    assert shop["additionalProperties"] is False
    assert {"enum": ["real"], "type": "string"} in shop["properties"]["kind"]["anyOf"]
    assert shop["properties"]["tags"]["default"] == []
    assert shop["properties"]["opened_at"]["anyOf"][0] == {"type": "string", "format": "date-time"}


def test_two_structs_of_one_name_are_two_components() -> None:
    schemas = Schemas()
    first, second = schemas.of(list[Shop]), schemas.of(Page[ANOTHER])
    assert (first["items"]["$ref"], second["$ref"]) == ("#/components/schemas/Shop", "#/components/schemas/ShopPage")
    assert schemas.of(list[Shop]) == first
    assert schemas.components["Shop2"]["properties"] == {"owner": {"type": "string"}}
