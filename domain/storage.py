"""What a change would store: the sizes by which an app's storage is counted."""

from __future__ import annotations

from collections.abc import Iterable

from domain.docs.events import CreateDoc, PutDoc, UpdateDoc
from domain.files import CreateFile, UpdateFile
from domain.kv import IncrementKey, SetKey
from domain.units import Effect

_NUMBER_BYTES = 8


def stored_bytes(effects: Iterable[Effect]) -> int:
    """About how many bytes these effects store. What is there already and makes room for them is not subtracted: that is known at commit only."""
    return sum(map(_stored_bytes, effects))


def _stored_bytes(effect: Effect) -> int:
    match effect:
        case SetKey(key=key, value=value):
            return len(key.encode()) + len(bytes(value))
        case IncrementKey(key=key):
            return len(key.encode()) + _NUMBER_BYTES
        case CreateDoc(id=id_, data=data) | UpdateDoc(id=id_, data=data) | PutDoc(id=id_, data=data):
            return len(id_.encode()) + len(bytes(data))
        case CreateFile(blob=blob):
            return blob.size
        case UpdateFile(blob=blob):
            return 0 if blob is None else blob.size
        case _:
            return 0
