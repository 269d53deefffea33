"""`topics`: what may be followed live from outside."""

from __future__ import annotations

from projections.topics.topics import Topics

__all__ = ["Topics"]
