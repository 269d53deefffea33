"""Seeds of scripts' random numbers.

The system's source of randomness is asked once: each question gives up the interpreter's lock, and under load that costs a run a third of a millisecond.
"""

from __future__ import annotations

import hashlib
from itertools import count
from secrets import token_bytes


class Seeds:
    """A sequence that nobody can predict who has not seen the process's memory: a keyed hash of a counter."""

    def __init__(self) -> None:
        self._key = token_bytes(32)
        self._numbers = count()

    def next(self) -> str:
        """128 bits in hexadecimal digits, never the same twice."""
        return hashlib.blake2b(next(self._numbers).to_bytes(8), digest_size=16, key=self._key).hexdigest()
