"""What the sandbox may use of the machine."""

from __future__ import annotations

import os
from typing import Final

import msgspec

MAX_PRINT_BYTES: Final = 64 * 1024
"""Prints of one run; log lines count into `Limits.output_bytes` instead."""

_RUNS_PER_SLOT: Final = 4
_MIB: Final = 1024 * 1024
_BASE_ADDRESS_SPACE_BYTES: Final = 512 * _MIB
"""What a worker maps before it has run anything, with room to spare."""


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`slots` is how many runs compute at full speed, `runs` how many may hold a worker at once; 0 derives them from the cores.

    `max_memory_mib` is the highest memory limit that a job will ask for. `kill_grace_s` is how long a worker may overrun a time limit before it is killed.
    """

    slots: int = 0
    runs: int = 0
    warm_workers: int = 32
    recycle_after: int = 1000
    max_memory_mib: int = 512
    kill_grace_s: float = 0.5
    check_timeout_s: float = 10.0
    check_memory_mib: int = 2048
    check_wait_s: float = 30.0
    harden: bool = True

    @property
    def in_flight(self) -> int:
        """Runs that hold a worker, and a thread to drive it, at once; never more than there are workers.

        A thread sleeps while its worker computes, and the system shares the cores among workers. So there are several for each core: a run that loops
        takes a share of a core from the others, and not their turn.
        """
        return min(self.runs or _RUNS_PER_SLOT * (self.slots or cores()), self.warm_workers)

    @property
    def run_address_space_bytes(self) -> int:
        """A worker's peak is about 1.6 times the limit that Monty enforces."""
        return _BASE_ADDRESS_SPACE_BYTES + 2 * self.max_memory_mib * _MIB

    @property
    def check_address_space_bytes(self) -> int:
        """The same for the process of a check."""
        return self.check_memory_mib * _MIB
