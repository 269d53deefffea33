"""What the document says of one operation, before it is written as OpenAPI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from domain.authz import Capability
from web.documented import Answer

SAFE: Final = frozenset({"GET", "HEAD"})
_READS: Final = ".read"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One operation. `needs` as declared: None for anybody, empty for whoever is let in.

    `query` has for each parameter what its route says of it, `path_extra` for those in the path of which it says something. `answers` are those that
    succeed; `problems` are statuses beside those that follow from the rest.
    """

    method: str
    path: str
    id: str
    tag: str
    summary: str
    description: str = ""
    needs: Sequence[Capability] | None
    path_names: Sequence[str] = ()
    path_extra: Mapping[str, Mapping[str, Any]] = {}
    query: Mapping[str, Mapping[str, Any]] = {}
    required_query: frozenset[str] = frozenset()
    request_headers: Mapping[str, str] = {}
    body: Any = None
    is_upload: bool = False
    answers: Mapping[int, Answer]
    problems: Sequence[int] = ()

    @property
    def has_body(self) -> bool:
        """Whether a request carries one."""
        return self.is_upload or self.body is not None

    @property
    def changes(self) -> bool:
        """Whether it may change something: questions that are asked by POST need only what reading needs."""
        if self.method in SAFE or self.needs is None:
            return False
        return not self.needs or not all(capability.endswith(_READS) for capability in self.needs)
