"""The one place where projections are registered."""

from __future__ import annotations

from typing import Final

from projections.base import Projection
from projections.control import Apps, Routes, Scripts, Users
from projections.files import Files
from projections.kv import KvEntries
from projections.outbox import Outbox
from projections.outcomes import DeadLetters, Executions

PROJECTIONS: Final[tuple[Projection, ...]] = (
    KvEntries(),
    Files(),
    Outbox(),
    Executions(),
    DeadLetters(),
    Scripts(),
    Routes(),
    Apps(),
    Users(),
)
