"""When two routes may not stand side by side: when some request would fit both and no rule of precedence chose between them.

That is so when all of these hold:

- the hosts are equal, kind and text (different kinds, and different wildcards, are ranked);
- the path kinds are equal (exact, param and prefix are ranked);
- the methods are equal, or either is any method;
- the paths are equal for exact and prefix (longer prefixes are ranked); for param they have as many segments and as many leading literals as each other
  (more are ranked), and at each place either equal literals, or a parameter on at least one side, which no empty literal (a trailing slash) can meet.

So `/a/:x` conflicts with `/a/:y`, and `/a/:x/c` with `/a/:x/:y`. `/a/:x` does not conflict with `/:y/b`, though `/a/b` fits both: it has more leading literals.
HEAD and GET do not conflict, though GET routes answer HEAD: a HEAD route is asked first.
"""

from __future__ import annotations

from collections.abc import Iterable

from domain.routing.paths import PathPattern, parse_path
from domain.routing.route import Route


def conflicts(a: Route, b: Route) -> bool:
    """Whether some request fits both with equal precedence. Symmetric; a route does not conflict with itself (the same id)."""
    if a.id == b.id or (a.host_kind, a.host, a.path_kind) != (b.host_kind, b.host, b.path_kind):
        return False
    if a.method is not None and b.method is not None and a.method != b.method:
        return False
    return _meet(parse_path(a.path_kind, a.path), parse_path(b.path_kind, b.path))


def find_conflict(new: Route, existing: Iterable[Route]) -> Route | None:
    """The first of `existing` (routes of the same app) that `new` conflicts with."""
    return next((route for route in existing if conflicts(new, route)), None)


def _meet(a: PathPattern, b: PathPattern) -> bool:
    if len(a.segments) != len(b.segments) or a.leading_literals != b.leading_literals:
        return False
    return all(x == y or (x is None and y != "") or (y is None and x != "") for x, y in zip(a.segments, b.segments, strict=True))
