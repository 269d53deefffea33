"""Rates of requests as this process lets them pass: streams of arrivals by name, in memory.

Where several processes serve the web, each lets its share of a rate pass. So the whole is kept as far as requests are spread over all of them; who sends all
of its own over one connection has one share. Nothing is read or written for a request.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Final

import anyio
import structlog

from domain.errors import Unavailable
from domain.ports import Reader
from domain.rates import Rate, Verdict, arrive
from domain.statements import load_sql

MAX_STREAMS: Final = 20_000
_KEPT: Final = MAX_STREAMS // 2
_COUNT_EVERY_S: Final = 5.0
_SQL: Final = load_sql("runtime.limits", "rates.sql")

log = structlog.get_logger(__name__)


class Rates:
    """The streams of arrivals. `processes` is how many share each rate."""

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        self._now_s = now_s
        self._due_s: dict[Hashable, float] = {}
        self.processes = 1

    def __len__(self) -> int:
        return len(self._due_s)

    def arrive(self, stream: Hashable, rate: Rate) -> Verdict:
        """Judge an arrival, now."""
        now_s = self._now_s()
        verdict = arrive(rate.shared(self.processes), self._due_s.get(stream, 0.0), now_s)
        if verdict.passes:
            if len(self._due_s) >= MAX_STREAMS:
                self._forget(now_s)
            self._due_s[stream] = verdict.due_s
        return verdict

    def _forget(self, now_s: float) -> None:
        """Keep those that are furthest ahead of their time. Who is not ahead at all is as good as new, so that forgetting him changes nothing."""
        ahead = [(due_s, stream) for stream, due_s in self._due_s.items() if due_s > now_s]
        kept = heapq.nlargest(_KEPT, ahead, key=lambda pair: pair[0])
        self._due_s = {stream: due_s for due_s, stream in kept}


async def follow_processes(rates: Rates, reader: Reader, dead_s: float) -> None:
    """Keep count of the processes that serve the web, until cancelled."""
    while True:
        try:
            rates.processes = max(1, (await reader.fetch(_SQL["web_processes"], dead_s))[0]["processes"])
        except Unavailable:
            log.debug("processes_not_counted")  # it is as many as before, for all that is known
        await anyio.sleep(_COUNT_EVERY_S)
