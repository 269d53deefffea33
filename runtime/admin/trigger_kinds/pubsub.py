"""Triggers on messages: by topic."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from domain.globs import check_topic_pattern, pattern_key
from domain.ports import Reader
from domain.triggers import Source
from runtime.admin.trigger_kinds.base import Matching, TriggerSpec


class PubsubTriggerSpec(TriggerSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`topic_pattern` is a topic, `prefix.*` or `*`."""

    topic_pattern: str


class PubsubKind:
    """Registered in `runtime.admin.trigger_kinds`."""

    source: Final[Source] = "pubsub"
    spec: type[TriggerSpec] = PubsubTriggerSpec

    def matching(self, spec: PubsubTriggerSpec) -> Matching:
        """See `TriggerKind`."""
        check_topic_pattern(spec.topic_pattern, "topic_pattern")
        return Matching((), pattern_key(spec.topic_pattern), {"topic_pattern": spec.topic_pattern})

    async def check(self, reader: Reader, app_id: UUID, spec: PubsubTriggerSpec) -> None:
        """A topic need not be registered, and nothing need have been published to it."""
