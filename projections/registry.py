"""The one place where projections are registered."""

from __future__ import annotations

from typing import Final

from projections.base import Projection
from projections.control import ApiKeys, Apps, Members, Routes, Scripts, Users
from projections.docs import Documents
from projections.files import Files
from projections.kv import KvEntries
from projections.outbox import Outbox
from projections.outcomes import DeadLetters, Executions
from projections.schedules import Schedules
from projections.secrets import SecretNames
from projections.settings import Settings
from projections.statistics import Statistics
from projections.topics import Topics

PROJECTIONS: Final[tuple[Projection, ...]] = (
    KvEntries(),
    Documents(),
    Files(),
    Outbox(),
    Executions(),
    DeadLetters(),
    Scripts(),
    Routes(),
    Apps(),
    Users(),
    Members(),
    ApiKeys(),
    Schedules(),
    SecretNames(),
    Topics(),
    Settings(),
)
"""Written by the append itself, so that a writer reads its own writes."""

FOLLOWED: Final[tuple[Projection, ...]] = (Statistics(),)
"""Applied behind the commits, from checkpoints of their own: whatever is only looked at, and must cost an append nothing."""
