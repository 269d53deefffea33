"""What an app's log comes to: counts of its events and sizes of what is there. Followed, not written by appends."""

from __future__ import annotations

from projections.statistics.statistics import Statistics

__all__ = ["Statistics"]
