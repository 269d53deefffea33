"""`triggers` and `outbox`, one projection, because matching an event needs both."""

from __future__ import annotations

from projections.outbox.outbox import Outbox

__all__ = ["Outbox"]
