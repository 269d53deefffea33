"""All projections together: which statements a run of events needs, in stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from domain.events import Event, Recorded
from domain.statements import Statement
from projections.base import Projection


def projector(projections: Iterable[Projection]) -> Callable[[Sequence[Recorded]], list[list[Statement]]]:
    """Combine projections: stage n of the whole is stage n of each, which may touch no table of another."""
    handlers: dict[type[Event], list[Projection]] = {}
    for projection in projections:
        for event_type in projection.handles:
            handlers.setdefault(event_type, []).append(projection)

    def project(events: Sequence[Recorded]) -> list[list[Statement]]:
        shares: dict[str, tuple[Projection, list[Recorded]]] = {}
        for recorded in events:
            for projection in handlers.get(type(recorded.event), ()):
                shares.setdefault(projection.name, (projection, []))[1].append(recorded)
        stages: list[list[Statement]] = []
        for projection, share in shares.values():
            for number, stage in enumerate(projection.apply(share)):
                if number == len(stages):
                    stages.append([])
                stages[number].extend(stage)
        return stages

    return project
