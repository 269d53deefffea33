"""Rows of the outbox that this process takes in the commit that adds them: what is offered before it, and what is told after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from adapters.postgres.judging import Judged
from adapters.postgres.lane import Done
from domain.claiming import Born, Claimant, Nobody, claimed_by
from domain.executions import Task

log = structlog.get_logger(__name__)


class Births:
    """Between the lanes and the claimant, which may come later than the log."""

    def __init__(self) -> None:
        self.claimant: Claimant = Nobody()

    def offer(self, judged: Judged) -> None:
        """Let a batch claim rows for the claimant, as many as it would take. What a batch of several stages adds stays unclaimed."""
        stages = judged.batch.stages
        if len(stages) != 1 or not any(statement.claimable for statement in stages[0]):
            return
        judged.offered = self.claimant.offer([move.app_id for move in judged.batch.heads])
        if judged.offered:
            worker_id = self.claimant.worker_id
            stages[0] = [claimed_by(each, worker_id, judged.offered) if each.claimable else each for each in stages[0]]

    def take(self, judged: Judged, done: Done) -> None:
        """Tell the claimant what a committed batch has claimed for it."""
        if not judged.offered:
            return
        try:
            if done.at is None:
                self.claimant.lost(judged.offered)
            else:
                self.claimant.take(judged.offered, _born(judged, done.born))
        except Exception:  # what is committed stays committed, whoever stumbles over it
            log.exception("claimant_failed")

    def withdraw(self, judged: Judged) -> None:
        """A batch was not committed."""
        if judged.offered:
            self.claimant.take(judged.offered, ())

    def lost(self, judged: Judged) -> None:
        """Nobody knows whether a batch was committed, or what it has claimed."""
        if judged.offered:
            self.claimant.lost(judged.offered)


def _born(judged: Judged, rows: Sequence[Sequence[Any]]) -> list[Born]:
    if not rows:
        return []
    at = {(recorded.app_id, recorded.position): index for index, recorded in enumerate(judged.events)}
    due_at = {move.app_id: move.recorded_at for move in judged.batch.heads}
    born = []
    for app_id, execution_id, position, source, trigger_id, script_id, token in rows:
        index = at.get((app_id, position))
        born.append(
            Born(
                app_id=app_id,
                task=Task(execution_id=execution_id, source=source, script_id=script_id, trigger_id=trigger_id, cause_position=position),
                token=token,
                due_at=due_at[app_id],
                cause=None if index is None else judged.events[index],
                before=None if index is None else judged.before[index],
            )
        )
    return born
