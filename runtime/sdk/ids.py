"""uuid for scripts: from the system's source of randomness, never from a run's seed; a re-run is given the same ids again."""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

from uuid_utils.compat import uuid7

from runtime.services import Access, Service


async def uuid_new(access: Access, version: object) -> Any:
    """A new UUID of version 4 or 7."""
    return uuid_new_now(access, version)


def uuid_new_now(access: Access, version: object) -> Any:
    """As `uuid_new`: nothing is waited for."""
    del access
    if version not in (4, 7):
        message = "uuid: version must be 4 or 7"
        raise ValueError(message)
    return str(uuid4() if version == 4 else uuid7())


IDS: Final = Service(name="uuid", calls={"uuid_new": uuid_new}, now={"uuid_new": uuid_new_now}, outside=frozenset({"uuid_new"}))
