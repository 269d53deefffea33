"""The routes of one app, compiled for matching.

Precedence: strict host, then wildcard (longest suffix first), then any; within a host exact, then more leading literal segments, then param before prefix, then
the longest prefix. Where routes that conflict stand side by side all the same, literals before parameters from the left, then the lowest id.

The method is part of what must fit: a route for another method is passed over, and matching goes on with less specific paths and then hosts. At one path a
route for the method stands before a route for any; HEAD is answered by a GET route where no HEAD route stands.

Each host has a trie of decoded segments. The literal way down is walked once; from its deepest node upwards each node is asked for param routes, which branch
off there, then for a prefix route. So the cost grows with the depth of the path, not with the number of routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from domain.hosts import parent_names
from domain.routing.paths import PathPattern, is_reserved, parse_path, split_path
from domain.routing.route import Route


class Match(msgspec.Struct, frozen=True):
    """The route that answers, and what the request put into its blanks.

    `params` are decoded, with what the wildcard host stood for under its `host_param_name`; `rest` is the remainder of a prefix match, decoded, without its
    leading slash (None for other routes); `host_param` is what a wildcard stood for, named or not.
    """

    route: Route
    params: dict[str, str]
    rest: str | None = None
    host_param: str | None = None


class RouteTable:
    """Finds the route of a request. Immutable; compile a new one when a route changes."""

    __slots__ = ("_any", "_strict", "_wildcard")

    def __init__(self, anywhere: _Node | None, strict: dict[str, _Node], wildcard: dict[str, _Node]) -> None:
        self._any = anywhere
        self._strict = strict
        self._wildcard = wildcard

    @classmethod
    def compile(cls, routes: Iterable[Route]) -> RouteTable:
        """From the checked routes of one app, in any order."""
        strict: dict[str, _Node] = {}
        wildcard: dict[str, _Node] = {}
        anywhere: dict[str, _Node] = {}
        by_kind = {"strict": strict, "wildcard": wildcard, "any": anywhere}
        for route in sorted(routes, key=lambda route: route.id):
            host = (route.host or "").removeprefix("*.")
            _insert(by_kind[route.host_kind].setdefault(host, _Node()), route)
        return cls(anywhere.get(""), strict, wildcard)

    def match(self, host: str, method: str, raw_path: str | bytes) -> Match | None:
        """The route for a canonical host (`normalise_host`), a method as sent, and a path as sent, without its query.

        None for a place of the platform's own, whatever route would catch it. Raises Invalid naming `path` when the path cannot be decoded.
        """
        segments = split_path(raw_path)
        if is_reserved(segments):
            return None
        for suffix, root in self._spaces(host):
            found = _find(root, segments, method)
            if found is not None:
                return _fill(found, segments, host[: -len(suffix) - 1] if suffix else None)
        return None

    def _spaces(self, host: str) -> Iterator[tuple[str, _Node]]:
        """The tries that a host falls into, in precedence; with each the suffix of its wildcard, else an empty text."""
        if host in self._strict:
            yield "", self._strict[host]
        if self._wildcard:
            for suffix in parent_names(host):
                if suffix in self._wildcard:
                    yield suffix, self._wildcard[suffix]
        if self._any is not None:
            yield "", self._any


class _Entry(msgspec.Struct, frozen=True):
    route: Route
    pattern: PathPattern


_ByMethod = dict[str | None, _Entry]


class _Node:
    """A place in the trie: the routes that end here, the prefix routes that begin here, and the ways on."""

    __slots__ = ("ends", "literals", "param", "prefixes")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.param: _Node | None = None
        self.ends: _ByMethod = {}
        self.prefixes: _ByMethod = {}


def _insert(root: _Node, route: Route) -> None:
    pattern = parse_path(route.path_kind, route.path)
    node = root
    for segment in pattern.segments:
        if segment is not None:
            node = node.literals.setdefault(segment, _Node())
        else:
            node.param = node.param or _Node()
            node = node.param
    (node.prefixes if route.path_kind == "prefix" else node.ends).setdefault(route.method, _Entry(route, pattern))


def _find(root: _Node, segments: Sequence[str], method: str) -> _Entry | None:
    way = [root]
    for segment in segments:
        child = way[-1].literals.get(segment)
        if child is None:
            break
        way.append(child)
    else:
        if exact := _pick(way.pop().ends, method):
            return exact
    for depth in range(len(way) - 1, -1, -1):
        node = way[depth]
        found = _branch(node, segments, depth, method) or _pick(node.prefixes, method)
        if found is not None:
            return found
    return None


def _branch(node: _Node, segments: Sequence[str], depth: int, method: str) -> _Entry | None:
    """Take the parameter's way from `node`, when it has one and the segment is not empty."""
    if node.param is None or not segments[depth]:
        return None
    return _descend(node.param, segments, depth + 1, method)


def _descend(node: _Node, segments: Sequence[str], depth: int, method: str) -> _Entry | None:
    """The param route below `node` that fits. Each node is visited once at most, and none lies deeper than the longest route."""
    if depth == len(segments):
        return _pick(node.ends, method)
    literal = node.literals.get(segments[depth])
    if literal is not None and (found := _descend(literal, segments, depth + 1, method)):
        return found
    return _branch(node, segments, depth, method)


def _pick(entries: _ByMethod, method: str) -> _Entry | None:
    if not entries:
        return None
    found = entries.get(method)
    if found is None and method == "HEAD":
        found = entries.get("GET")
    return found or entries.get(None)


def _fill(entry: _Entry, segments: Sequence[str], host_param: str | None) -> Match:
    route, pattern = entry.route, entry.pattern
    params = {name: segments[index] for index, name in pattern.names}
    if host_param is not None and route.host_param_name is not None:
        params[route.host_param_name] = host_param
    rest = "/".join(segments[len(pattern.segments) :]) if route.path_kind == "prefix" else None
    return Match(route, params, rest, host_param)
