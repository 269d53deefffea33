"""`documents`: the current data of every document, and finding them by filters."""

from __future__ import annotations

from projections.docs.documents import Documents

__all__ = ["Documents"]
