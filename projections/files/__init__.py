"""`files`: the metadata of every file; `file_blobs`: every blob that an event has ever named."""

from __future__ import annotations

from projections.files.files import Files

__all__ = ["Files"]
