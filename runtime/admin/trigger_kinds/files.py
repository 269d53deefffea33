"""Triggers on files: by collection and op."""

from __future__ import annotations

from typing import Final, Literal
from uuid import UUID

from domain.globs import check_glob, pattern_key
from domain.ports import Reader
from domain.triggers import Source
from runtime.admin.trigger_kinds.base import Matching, TriggerSpec

FileOp = Literal["create", "update", "delete"]


class FilesTriggerSpec(TriggerSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`collection_glob` is a collection, `prefix*` or `*`; `ops` empty means all."""

    collection_glob: str
    ops: tuple[FileOp, ...] = ()


class FilesKind:
    """Registered in `runtime.admin.trigger_kinds`."""

    source: Final[Source] = "files"
    spec: type[TriggerSpec] = FilesTriggerSpec

    def matching(self, spec: FilesTriggerSpec) -> Matching:
        """See `TriggerKind`."""
        check_glob(spec.collection_glob, "collection_glob")
        ops = tuple(dict.fromkeys(spec.ops))
        return Matching(ops, pattern_key(spec.collection_glob), {"collection_glob": spec.collection_glob, "ops": list(ops)})

    async def check(self, reader: Reader, app_id: UUID, spec: FilesTriggerSpec) -> None:
        """A collection need not exist before something is in it."""
