"""`schedules`: when the triggers that time sets off are due next, and what their last times came to."""

from __future__ import annotations

from projections.schedules.schedules import Schedules

__all__ = ["Schedules"]
