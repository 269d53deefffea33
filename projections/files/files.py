"""The projection `files`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from domain.events import Event, Recorded
from domain.files import FileCreated, FileDeleted, FileUpdated
from domain.statements import Statement, load_sql
from projections.base import Stages
from projections.rows import Life, changed, lives, side_by_side

_SQL: Final = load_sql("projections.files", "files.sql")


class Files:
    """Tables `files` and `file_blobs`; what names a blob outlives the file, because its old versions can be read."""

    name = "files"
    version = 1
    schema = _SQL["schema"]
    tables: tuple[str, ...] = ("files", "file_blobs")
    volatile_columns: tuple[str, ...] = ()
    handles: frozenset[type[Event]] = frozenset({FileCreated, FileUpdated, FileDeleted})

    def apply(self, events: Sequence[Recorded]) -> Stages:
        """The last event of each file, and every checksum."""
        files = changed(lives(events, FileDeleted), FileDeleted, _row, _SQL["save_files"], _SQL["delete_files"])
        named = [(recorded.app_id, recorded.event) for recorded in events if isinstance(recorded.event, FileCreated | FileUpdated)]
        columns = ([app_id for app_id, _ in named], [event.checksum for _, event in named], [event.size for _, event in named])
        return side_by_side(files, [[Statement(_SQL["name_blobs"], columns)]] if named else [])


def _row(life: Life) -> dict[str, Any]:
    recorded, event = life.last, life.last.event
    assert isinstance(event, FileCreated | FileUpdated | FileDeleted)
    key = {"app_id": recorded.app_id, "collection": event.collection, "id": event.id}
    if isinstance(event, FileDeleted):
        return key
    return {
        **key,
        "name": event.name,
        "content_type": event.content_type,
        "size": event.size,
        "checksum": event.checksum,
        "version": recorded.version,
        "created_at": life.created_at,
        "updated_at": recorded.recorded_at,
    }
