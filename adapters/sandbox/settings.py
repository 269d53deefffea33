"""What the sandbox may use of the machine."""

from __future__ import annotations

import os
from typing import Final

import msgspec


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


MAX_PRINT_BYTES: Final = 64 * 1024
"""Prints of one run; log lines count into `Limits.output_bytes` instead."""


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`slots` runs advance at once (a thread each); `runs` may be under way, waiting for quick host calls included; 0 means derived from the cores."""

    slots: int = 0
    runs: int = 0
    warm_workers: int = 32
    recycle_after: int = 100
    kill_grace_s: float = 0.5

    @property
    def threads(self) -> int:
        """Slots as they are."""
        return self.slots or cores()

    @property
    def in_flight(self) -> int:
        """Runs that hold a worker at once, never more than there are workers."""
        return min(self.runs or 4 * self.threads, self.warm_workers)
