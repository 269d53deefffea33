"""Triggers on key-value data: by collection and op."""

from __future__ import annotations

from typing import Final, Literal
from uuid import UUID

from domain.globs import check_glob, pattern_key
from domain.ports import Reader
from domain.triggers import Source
from runtime.admin.trigger_kinds.base import Matching, TriggerSpec

KvOp = Literal["insert", "update", "delete"]


class KvTriggerSpec(TriggerSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`collection_glob` is a collection, `prefix*` or `*`; `ops` empty means all."""

    collection_glob: str
    ops: tuple[KvOp, ...] = ()


class KvKind:
    """Registered in `runtime.admin.trigger_kinds`."""

    source: Final[Source] = "kv"
    spec: type[TriggerSpec] = KvTriggerSpec

    def matching(self, spec: KvTriggerSpec) -> Matching:
        """See `TriggerKind`."""
        check_glob(spec.collection_glob, "collection_glob")
        ops = tuple(dict.fromkeys(spec.ops))
        return Matching(ops, pattern_key(spec.collection_glob), {"collection_glob": spec.collection_glob, "ops": list(ops)})

    async def check(self, reader: Reader, app_id: UUID, spec: KvTriggerSpec) -> None:
        """A collection need not exist before something is in it."""
