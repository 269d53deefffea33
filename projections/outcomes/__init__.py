"""What became of queued executions: `executions` and `dead_letters`."""

from __future__ import annotations

from projections.outcomes.dead_letters import DeadLetters
from projections.outcomes.executions import Executions

__all__ = ["DeadLetters", "Executions"]
