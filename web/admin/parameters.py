"""How handlers declare parameters. All are text: `domain.cursors` and `web.paths` read them, so that every refusal is ours and names the field."""

from __future__ import annotations

from uuid import UUID

from litestar.params import FromPath, FromQuery

from domain.errors import Invalid
from domain.ids import parse_uuid
from domain.values import check_text

Query = FromQuery[str | None]
"""`limit: Query = None`."""
Segment = FromPath[str]
"""`app: Segment`, of a path like `/apps/{app:str}`."""


def flag(text: str | None, field: str) -> bool:
    """Read `true` or `false`; not given is false. Raises Invalid naming the field."""
    if text not in {None, "true", "false"}:
        raise Invalid(f"{field}: expected true or false", field=field)
    return text == "true"


def id_parameter(text: str | None, field: str) -> UUID | None:
    """Read an id to filter by. Raises Invalid naming the field."""
    if text is None:
        return None
    found = parse_uuid(text)
    if found is None:
        raise Invalid(f"{field}: expected an id, as in 018f3c6e-7b1a-7c3d-8e4f-0123456789ab", field=field)
    return found


def text_parameter(text: str, field: str) -> str:
    """Read any text to filter by. Raises Invalid naming the field for what no stored text can be."""
    check_text(text, field)
    return text
