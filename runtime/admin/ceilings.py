"""The instance's ceilings as settings give them, in the terms of scripts."""

from __future__ import annotations

from domain.scripts import Ceiling
from runtime.settings import Ceilings


def ceiling_of(ceilings: Ceilings) -> Ceiling:
    """The most that a script of this instance may ask for."""
    return Ceiling(
        timeout_s=ceilings.max_timeout_s,
        async_timeout_s=ceilings.max_async_timeout_s,
        memory_mib=ceilings.max_memory_mib,
        host_calls=ceilings.max_host_calls,
        output_bytes=ceilings.max_output_bytes,
        recursion=ceilings.max_recursion,
    )
