"""What rarely changes: apps and their hosts, users, scripts with their versions, routes."""

from __future__ import annotations

from projections.control.apps import Apps
from projections.control.routes import Routes
from projections.control.scripts import Scripts
from projections.control.users import Users

__all__ = ["Apps", "Routes", "Scripts", "Users"]
