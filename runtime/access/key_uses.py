"""Which uses of API keys this process has told of today, so that a request with a key costs a look into a dictionary."""

from __future__ import annotations

from datetime import date
from typing import Final
from uuid import UUID

MAX_ADDRESSES: Final = 50
"""Of one key and day; whoever calls from more is not told apart by them any more."""
MAX_KEYS: Final = 5000


class KeyUses:
    """Keys, and the addresses that each was used from today. What is forgotten is told once more, and the log knows that it has it."""

    def __init__(self) -> None:
        self._day = date.min
        self._addresses: dict[UUID, set[str]] = {}

    def is_first(self, key_id: UUID, address: str, day: date) -> bool:
        """Whether this use is the first of its day, as far as this process knows. It is none of the next time."""
        if day != self._day or len(self._addresses) >= MAX_KEYS:
            self._day = day
            self._addresses.clear()
        known = self._addresses.setdefault(key_id, set())
        if address in known or len(known) >= MAX_ADDRESSES:
            return False
        known.add(address)
        return True
