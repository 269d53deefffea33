"""What a kind of trigger is: the shape of what its author asks for, and what that means for matching."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

import msgspec

from domain.ports import Reader
from domain.retry import RetryPolicy
from domain.triggers import Source


class TriggerSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every trigger has. Kinds add their own fields."""

    script_id: UUID
    enabled: bool = True
    retry: RetryPolicy = RetryPolicy()


class Matching(msgspec.Struct, frozen=True):
    """A trigger as the outbox matches it (`ops` empty: every op; `pattern`: the index key), and the kind's own fields as its API shows them."""

    ops: tuple[str, ...]
    pattern: str
    detail: dict[str, Any]


class TriggerKind(Protocol):
    """One kind. `spec` is a TriggerSpec whose further fields are those of `Matching.detail`."""

    @property
    def source(self) -> Source: ...
    @property
    def spec(self) -> type[TriggerSpec]: ...

    def matching(self, spec: Any) -> Matching:
        """What a spec of this kind's shape matches. Raises Invalid naming the field."""
        ...

    async def check(self, reader: Reader, app_id: UUID, spec: Any) -> None:
        """Raise Invalid when the spec refers to something that is not in the app."""
        ...
