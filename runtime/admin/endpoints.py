"""Scripts that are to be run by something: of the same app, and no module."""

from __future__ import annotations

from uuid import UUID

from domain.errors import Invalid
from domain.ports import Reader
from domain.scripts import script_stream
from domain.units import Read
from projections.control.reads import read_script


async def require_endpoint(reader: Reader, app_id: UUID, script_id: UUID) -> Read:
    """What the unit must have read: the script as it is now. Raises Invalid."""
    script = await read_script(reader, app_id, script_id)
    if script is None:
        raise Invalid("script_id: this app has no such script", field="script_id")
    if script.kind == "module":
        raise Invalid("script_id: a module cannot be run, only an endpoint", field="script_id", code="not_an_endpoint")
    return Read(script_stream(script_id), script.version)
