from builtins import list as _list
from typing import Any

class _DeadLetters:
    def replay(self, dead_letter_id: str) -> str: ...
    def resolve(self, dead_letter_id: str, reason: str) -> None: ...
    def list(self, filter: dict[str, Any] | None = None) -> _list[dict[str, Any]]: ...  # noqa: A002

dead_letters: _DeadLetters
