"""Guards that only administration moves; those of routes and modules stand beside their events in `domain`."""

from __future__ import annotations

from typing import Final

TRIGGERS_GUARD: Final = "triggers"
"""Moved by every new trigger, so that a script is never deleted or made a module beside a trigger that has just been given to it."""
