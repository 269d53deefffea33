"""`kv_entries`: the current value of every key, expired ones until their `KvExpired` comes."""

from __future__ import annotations

from projections.kv.entries import KvEntries

__all__ = ["KvEntries"]
