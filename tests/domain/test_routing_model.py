"""Matching against a plain model: every route that fits, sorted by the contract's precedence."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from domain.routing import Route, RouteTable, conflicts, find_conflict
from tests.domain.route_factory import route


class Rank(NamedTuple):
    """The contract's precedence, smaller first; and after it what decides between routes that conflict."""

    host: tuple[int, int]
    exact: int
    leading: int
    prefix: int
    length: int
    method: int


def fits_host(candidate: Route, host: str) -> bool:
    if candidate.host_kind == "strict":
        return candidate.host == host
    return candidate.host_kind == "any" or host.endswith(str(candidate.host)[1:])


def fits_path(candidate: Route, path: str) -> bool:
    asked, written = path[1:].split("/"), candidate.path[1:].split("/")
    if candidate.path_kind == "prefix":
        written.pop()
        asked, has_rest = asked[: len(written)], len(asked) > len(written)
        if not has_rest:
            return False
    if len(asked) != len(written):
        return False
    return all(got != "" if want.startswith(":") else unquote(got) == unquote(want) for got, want in zip(asked, written, strict=True))


def model_rank(candidate: Route, host: str, method: str, path: str) -> Rank | None:
    """Whether and how well a route fits, in plain words; None when it does not."""
    methods = [method, *(["GET"] if method == "HEAD" else []), None]
    if candidate.method not in methods or not fits_host(candidate, host) or not fits_path(candidate, path):
        return None
    written = candidate.path.removesuffix("/*")[1:].split("/") if candidate.path != "/*" else []
    leading = next((index for index, want in enumerate(written) if want.startswith(":")), len(written))
    return Rank(
        host=(["strict", "wildcard", "any"].index(candidate.host_kind), -len(candidate.host or "")),
        exact=0 if candidate.path_kind == "exact" else 1,
        leading=-leading,
        prefix=1 if candidate.path_kind == "prefix" else 0,
        length=-len(written),
        method=methods.index(candidate.method),
    )


def model_shape(candidate: Route) -> list[bool]:
    return [segment.startswith(":") for segment in candidate.path.split("/")]


def model_match(routes: list[Route], host: str, method: str, path: str) -> Route | None:
    fitting = [(rank, candidate) for candidate in routes if (rank := model_rank(candidate, host, method, path))]
    ranked = [((*rank[:-1], model_shape(candidate), rank.method, candidate.id), candidate) for rank, candidate in fitting]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


literals = st.sampled_from(["a", "b", "a%2Fb", "%61"])
hosts = st.sampled_from([None, "x.example.com", "*.example.com", "*.com"])
methods = st.sampled_from([None, "GET", "HEAD", "POST"])


@st.composite
def some_routes(draw: st.DrawFn) -> Route:
    host, method, kind = draw(hosts), draw(methods), draw(st.sampled_from(["exact", "prefix", "param"]))
    if kind == "param":
        parts = draw(st.lists(literals | st.just(":"), min_size=1, max_size=4).filter(lambda parts: ":" in parts))
        parts = [f":p{index}" if part == ":" else part for index, part in enumerate(parts)]
    else:
        parts = draw(st.lists(literals, max_size=4))
    if kind == "prefix":
        parts = [*parts, "*"]
    elif draw(st.booleans()) or not parts:
        parts = [*parts, ""]
    return route("/" + "/".join(parts), method, host=host, kind=kind)


requests = st.tuples(
    st.sampled_from(["x.example.com", "y.example.com", "y.com", "com", "127.0.0.1", "::1"]),
    st.sampled_from(["GET", "HEAD", "POST", "PUT"]),
    st.lists(st.sampled_from(["a", "b", "a%2fb", "%61", "", "c"]), min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts)),
)


class TestModel:
    @given(st.lists(some_routes(), max_size=12), st.lists(requests, min_size=1, max_size=8))
    def test_matches_as_the_model_does(self, routes: list[Route], asked: list[tuple[str, str, str]]) -> None:
        table = RouteTable.compile(routes)
        for host, method, path in asked:
            match = table.match(host, method, path)
            assert (match.route if match else None) == model_match(routes, host, method, path)

    @given(st.lists(some_routes(), max_size=12), st.lists(requests, min_size=1, max_size=8))
    def test_without_conflicts_the_best_route_is_the_only_one(self, routes: list[Route], asked: list[tuple[str, str, str]]) -> None:
        kept: list[Route] = []
        for candidate in routes:
            if find_conflict(candidate, kept) is None:
                kept.append(candidate)
        for host, method, path in asked:
            ranks = [rank for candidate in kept if (rank := model_rank(candidate, host, method, path))]
            assert len(set(ranks)) == len(ranks)

    @given(some_routes(), some_routes(), requests)
    def test_what_ties_conflicts(self, a: Route, b: Route, asked: tuple[str, str, str]) -> None:
        ranks = model_rank(a, *asked), model_rank(b, *asked)
        if ranks[0] is not None and ranks[0] == ranks[1]:
            assert conflicts(a, b)
        assert conflicts(a, b) == conflicts(b, a)
