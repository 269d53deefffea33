"""`settings`: what apps and the instance are set to."""

from __future__ import annotations

from projections.settings.settings import Settings

__all__ = ["Settings"]
