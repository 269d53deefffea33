"""Reading `topics`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.ports import Reader
from domain.statements import load_sql
from domain.topics import AuthMode, Topic, TopicKind

_SQL: Final = load_sql("projections.topics", "reads.sql")


class StoredTopic(msgspec.Struct, frozen=True, kw_only=True):
    """A registered topic with the version of its stream."""

    kind: TopicKind
    name: str
    external_subscribable: bool
    auth_mode: AuthMode
    version: int
    created_at: datetime

    @property
    def topic(self) -> Topic:
        """As the log has it."""
        return Topic(kind=self.kind, name=self.name, external_subscribable=self.external_subscribable, auth_mode=self.auth_mode)


async def read_topic(reader: Reader, app_id: UUID, kind: TopicKind, name: str) -> StoredTopic | None:
    """One topic."""
    rows = await reader.fetch(_SQL["topic"], app_id, kind, name)
    return _stored(rows[0]) if rows else None


async def read_topics(reader: Reader, app_id: UUID, names: Iterable[tuple[TopicKind, str]]) -> list[StoredTopic]:
    """Those of these topics that are registered."""
    wanted = list(names)
    rows = await reader.fetch(_SQL["named"], app_id, [kind for kind, _ in wanted], [name for _, name in wanted])
    return [_stored(row) for row in rows]


async def page_topics(reader: Reader, app_id: UUID, after: tuple[str, str] | None, limit: int) -> list[StoredTopic]:
    """Topics by kind and name, after a kind and name."""
    kind, name = after or (None, None)
    return [_stored(row) for row in await reader.fetch(_SQL["page"], app_id, kind, name, limit)]


def _stored(row: Mapping[str, Any]) -> StoredTopic:
    return StoredTopic(**{field: row[field] for field in StoredTopic.__struct_fields__})
