"""Kinds of triggers: one module each, registered here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runtime.admin.trigger_kinds.base import Matching, TriggerKind, TriggerSpec
from runtime.admin.trigger_kinds.cron import CronKind
from runtime.admin.trigger_kinds.dead_letter import DeadLetterKind
from runtime.admin.trigger_kinds.docs import DocsKind
from runtime.admin.trigger_kinds.files import FilesKind
from runtime.admin.trigger_kinds.kv import KvKind
from runtime.admin.trigger_kinds.pubsub import PubsubKind

_KINDS: Final[tuple[TriggerKind, ...]] = (
    KvKind(),
    DocsKind(),
    FilesKind(),
    PubsubKind(),
    DeadLetterKind(),
    CronKind(),
)

KINDS: Final[Mapping[str, TriggerKind]] = {kind.source: kind for kind in _KINDS}
"""Every kind that triggers can have now, by its source."""

__all__ = ["KINDS", "Matching", "TriggerKind", "TriggerSpec"]
