"""Projections as tables: made and kept at the code's versions, rebuilt while traffic flows, verified against the log, shown to scripts."""

from __future__ import annotations

from adapters.postgres.projecting.app_views import ensure_app_views
from adapters.postgres.projecting.findings import Difference, Findings, LogFault
from adapters.postgres.projecting.follow import Follower
from adapters.postgres.projecting.port import Progress, Report
from adapters.postgres.projecting.rebuild import rebuild
from adapters.postgres.projecting.verify import verify
from adapters.postgres.projecting.versions import ensure_followed, ensure_projections

__all__ = [
    "Difference",
    "Findings",
    "Follower",
    "LogFault",
    "Progress",
    "Report",
    "ensure_app_views",
    "ensure_followed",
    "ensure_projections",
    "rebuild",
    "verify",
]
