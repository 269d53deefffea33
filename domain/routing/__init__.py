"""Routing: which script answers a request.

`parse_route` reads what a caller asks for, `find_conflict` refuses what would make the answer ambiguous, `RouteTable` finds the answer.
"""

from domain.routing.conflicts import conflicts, find_conflict
from domain.routing.paths import PathKind, is_reserved, split_path
from domain.routing.route import DispatchMode, HostKind, Route, RouteSpec, parse_route
from domain.routing.table import Match, RouteTable

__all__ = [
    "DispatchMode",
    "HostKind",
    "Match",
    "PathKind",
    "Route",
    "RouteSpec",
    "RouteTable",
    "conflicts",
    "find_conflict",
    "is_reserved",
    "parse_route",
    "split_path",
]
