"""What rarely changes: apps and their hosts, users, members and API keys, scripts with their versions, routes."""

from __future__ import annotations

from projections.control.api_keys import ApiKeys
from projections.control.apps import Apps
from projections.control.members import Members
from projections.control.routes import Routes
from projections.control.scripts import Scripts
from projections.control.users import Users

__all__ = ["ApiKeys", "Apps", "Members", "Routes", "Scripts", "Users"]
