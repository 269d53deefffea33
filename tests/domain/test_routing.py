"""Routes: what may be asked for, how paths are read, what matches and what conflicts."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.routing import Match, Route, RouteSpec, RouteTable, conflicts, find_conflict, is_reserved, parse_route, split_path
from tests.domain.route_factory import SCRIPT, route


def find(routes: list[Route], path: str | bytes, method: str = "GET", host: str = "shop.example.com") -> Match | None:
    return RouteTable.compile(routes).match(host, method, path)


def found(routes: list[Route], path: str | bytes, method: str = "GET", host: str = "shop.example.com") -> str | None:
    match = find(routes, path, method, host)
    return match.route.path if match else None


class TestParse:
    def test_keeps_the_path_and_folds_method_and_host(self) -> None:
        made = route("/caf%C3%A9/:name", "get", host="*.Bücher.Example", host_param_name="tenant", dispatch_mode="durable")
        assert made.path == "/caf%C3%A9/:name"
        assert (made.method, made.host, made.host_kind) == ("GET", "*.xn--bcher-kva.example", "wildcard")
        assert (made.dispatch_mode, made.host_param_name, made.script_id) == ("durable", "tenant", SCRIPT)

    @pytest.mark.parametrize(
        ("kind", "path"),
        [
            ("exact", ""),
            ("exact", "hello"),
            ("exact", "http://x/y"),
            ("exact", "/a//b"),
            ("exact", "//"),
            ("exact", "/a/./b"),
            ("exact", "/a/%2e%2E"),
            ("exact", "/a%00b"),
            ("exact", "/a\x00b"),
            ("exact", "/a b"),
            ("exact", "/a\n"),
            ("exact", "/a?x=1"),
            ("exact", "/a#b"),
            ("exact", "/a%2"),
            ("exact", "/a%zz"),
            ("exact", "/%FF"),
            ("exact", "/\ud800"),
            ("exact", "/a/*"),
            ("exact", "/a*"),
            ("exact", "/:id"),
            ("exact", "/" + "a" * 2048),
            ("exact", "/a" * 65),
            ("prefix", "/a"),
            ("prefix", "/a*"),
            ("prefix", "*"),
            ("prefix", "/*/a/*"),
            ("prefix", "/a//*"),
            ("prefix", "/:id/*"),
            ("param", "/a"),
            ("param", "/:"),
            ("param", "/:1a"),
            ("param", "/:a.b"),
            ("param", "/:a%20"),
            ("param", "/:\ud800"),
            ("param", "/:" + "a" * 65),
            ("param", "/:id/b/:id"),
            ("param", "/:id/*"),
        ],
    )
    def test_refuses_a_path(self, kind: str, path: str) -> None:
        with pytest.raises(Invalid) as refused:
            route(path, kind=kind)
        assert refused.value.field == "path"
        assert refused.value.code == "invalid"

    @pytest.mark.parametrize(
        "path",
        [
            *("/api/", "/api/x", "/api/*", "/%61pi/x", "/api/:x", "/admin", "/admin/", "/admin/*", "/admin/:x", "/realtime/x", "/realtime/*"),
            *("/healthz", "/readyz", "/version", "/metrics", "/metrics/x", "/%6Detrics"),
        ],
    )
    def test_refuses_reserved_paths(self, path: str) -> None:
        with pytest.raises(Invalid) as refused:
            route(path)
        assert (refused.value.field, refused.value.code) == ("path", "reserved_path")

    @pytest.mark.parametrize(
        "path", ["/", "/*", "/:x", "/api", "/realtime", "/administrator", "/versions", "/api%2Fx", "/API/x", "/a/", "/a:b", "/%3Aid", "/%2A"]
    )
    def test_accepts(self, path: str) -> None:
        assert route(path).path == path

    @pytest.mark.parametrize("method", ["", "ANY", "*", "GET ", "TRACE", "CONNECT", "ge\u0131", "PATCH\x00", "O" * 999])
    def test_refuses_a_method(self, method: str) -> None:
        with pytest.raises(Invalid) as refused:
            route("/a", method)
        assert refused.value.field == "method"

    @pytest.mark.parametrize(
        ("kind", "host"),
        [
            ("any", "a.b"),
            ("any", ""),
            ("strict", None),
            ("strict", ""),
            ("strict", "*.a.b"),
            ("strict", "a.b:80"),
            ("wildcard", None),
            ("wildcard", "a.b"),
            ("wildcard", "*.*.b"),
            ("wildcard", "*.127.0.0.1"),
        ],
    )
    def test_refuses_a_host(self, kind: Any, host: str | None) -> None:
        with pytest.raises(Invalid) as refused:
            parse_route(UUID(int=1), SCRIPT, RouteSpec(host_kind=kind, host=host, path="/a"))
        assert refused.value.field == "host"

    @pytest.mark.parametrize(("path", "host", "name"), [("/a", None, "t"), ("/a", "a.b", "t"), ("/a", "*.b", ""), ("/a", "*.b", "1"), ("/:t", "*.b", "t")])
    def test_refuses_a_host_param_name(self, path: str, host: str | None, name: str) -> None:
        with pytest.raises(Invalid) as refused:
            route(path, host=host, host_param_name=name)
        assert refused.value.field == "host_param_name"

    @given(st.text(max_size=40), st.sampled_from(["exact", "prefix", "param"]), st.none() | st.text(max_size=8), st.none() | st.text(max_size=12))
    def test_any_text_is_taken_or_refused_by_name(self, path: str, kind: str, method: str | None, name: str | None) -> None:
        try:
            made = route("/" + path, method, kind=kind, host="*.a.b", host_param_name=name)
        except Invalid as refused:
            assert refused.field in {"path", "method", "host_param_name"}  # noqa: PT017
        else:
            RouteTable.compile([made])


class TestSplitPath:
    def test_decodes_after_splitting(self) -> None:
        assert split_path("/a%2Fb/%C3%BC/") == ["a/b", "ü", ""]
        assert split_path("/") == [""]
        assert split_path("/a+b/c:d") == ["a+b", "c:d"]
        assert split_path("/ü".encode()) == ["ü"]

    @pytest.mark.parametrize("raw", ["", "*", "a", "/%", "/%4", "/%G0", "/%80", "/%C3", "/%ED%A0%80", "/%00", "/\x00", "/a/\ud800", b"/\xff", b"/\x00", b""])
    def test_refuses(self, raw: str | bytes) -> None:
        with pytest.raises(Invalid) as refused:
            split_path(raw)
        assert refused.value.field == "path"
        with pytest.raises(Invalid):
            RouteTable.compile([]).match("a", "GET", raw)

    @given(st.lists(st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), min_size=1))
    def test_reads_what_was_quoted(self, segments: list[str]) -> None:
        raw = "/" + "/".join(quote(segment, safe="") for segment in segments)
        assert split_path(raw) == split_path(raw.encode()) == segments

    def test_reserved_is_judged_on_decoded_segments(self) -> None:
        assert is_reserved(split_path("/%61pi/v1"))
        assert is_reserved(split_path("/admin"))
        assert not is_reserved(split_path("/api"))
        assert not is_reserved(split_path("/administrator"))


class TestMatch:
    @pytest.mark.parametrize("path", ["/admin", "/%61dmin/x", "/api/v1/%65xecute/x", "/%72ealtime/topics/x", "/healthz/", "/%6detrics"])
    def test_what_is_reserved_is_caught_by_no_route(self, path: str) -> None:
        assert found([route("/*"), route("/:a"), route("/:a/:b")], path) is None

    def test_kinds(self) -> None:
        routes = [route("/"), route("/a/b"), route("/greet/*"), route("/u/:id"), route("/u/:id/posts/:post")]
        assert found(routes, "/") == "/"
        assert found(routes, "/a/b") == "/a/b"
        assert found(routes, "/a/b/") is None
        assert found(routes, "/A/b") is None
        assert found(routes, "/greet") is None
        assert found(routes, "/u/") is None
        assert found(routes, "/u/1/") is None
        match = find(routes, "/u/a%2Fb/posts/%C3%BC")
        assert match is not None
        assert match.params == {"id": "a/b", "post": "ü"}
        assert (match.rest, match.host_param) == (None, None)

    @pytest.mark.parametrize(("path", "rest"), [("/greet/", ""), ("/greet/a", "a"), ("/greet/a/b%20c/", "a/b c/"), ("/greet//", "/")])
    def test_rest_is_the_decoded_remainder(self, path: str, rest: str) -> None:
        match = find([route("/greet/*")], path)
        assert match is not None
        assert match.rest == rest

    def test_a_catch_all_takes_every_path(self) -> None:
        match = find([route("/*")], "/")
        assert match is not None
        assert match.rest == ""
        assert found([route("/*")], "/a/b") == "/*"

    def test_precedence_within_a_host(self) -> None:
        routes = [route("/*"), route("/a/*"), route("/a/b/*"), route("/:x/b/c"), route("/a/:x/c"), route("/a/b/:x"), route("/a/b/c")]
        expected = ["/a/b/c", "/a/b/:x", "/a/b/*", "/a/:x/c", "/a/*", "/:x/b/c", "/*"]
        while routes:
            best = found(routes, "/a/b/c")
            assert best == expected.pop(0)
            routes = [other for other in routes if other.path != best]

    def test_hosts_fall_through_when_no_path_fits(self) -> None:
        routes = [route("/a", host="shop.example.com"), route("/a/*", host="*.example.com"), route("/a/*", host="*.com"), route("/*")]
        for path, host in [("/a", "shop.example.com"), ("/a/b", "*.example.com"), ("/c", None)]:
            match = find(routes, path)
            assert match is not None
            assert match.route.host == host
        other = find(routes, "/a/b", host="x.y.com")
        assert other is not None
        assert (other.route.host, other.host_param) == ("*.com", "x.y")
        apex = find(routes, "/a/b", host="com")
        assert apex is not None
        assert apex.route.host is None

    def test_a_wildcard_names_what_it_stood_for(self) -> None:
        routes = [route("/:x", host="*.example.com", host_param_name="tenant")]
        match = find(routes, "/1", host="a.b.example.com")
        assert match is not None
        assert match.params == {"x": "1", "tenant": "a.b"}
        assert match.host_param == "a.b"
        assert find(routes, "/1", host="example.com") is None
        assert find(routes, "/1", host="badexample.com") is None

    def test_no_route_for_the_method(self) -> None:
        assert found([route("/a", "GET")], "/a", "POST") is None
        routes = [route("/u/me", "GET"), route("/u/:id", "DELETE"), route("/u/*", "POST"), route("/u/me", "PUT", host="shop.example.com")]
        assert found(routes, "/u/me") == "/u/me"
        assert found(routes, "/u/me", "DELETE") == "/u/:id"
        assert found(routes, "/u/me", "POST") == "/u/*"
        assert found(routes, "/u/me", "PATCH") is None

    def test_head_is_answered_as_get_would_be(self) -> None:
        routes = [route("/a", "GET"), route("/*")]
        assert found(routes, "/a", "HEAD") == "/a"
        assert found(routes, "/a", "POST") == "/*"
        own = [*routes, route("/a", "HEAD")]
        match = find(own, "/a", "HEAD")
        assert match is not None
        assert match.route.method == "HEAD"
        assert found([route("/a", "HEAD")], "/a", "GET") is None

    def test_deep_and_wide_paths_are_cheap(self) -> None:
        routes = [route("/" + "/".join(f":p{i}" if bits >> i & 1 else "a" for i in range(9))) for bits in range(1, 512)]
        assert found(routes, "/a/a/a/a/a/a/a/a/b") == "/a/a/a/a/a/a/a/a/:p8"
        assert found(routes, "/a" * 20_000) is None
        assert found([*routes, route("/*")], "/" * 20_000) == "/*"


class TestConflicts:
    @pytest.mark.parametrize(
        ("a", "b"),
        [
            (("/a", None), ("/a", None)),
            (("/a", "GET"), ("/a", None)),
            (("/caf%C3%A9", "GET"), ("/café", "GET")),
            (("/a/*", "GET"), ("/a/*", "GET")),
            (("/*", "GET"), ("/*", None)),
            (("/a/:x", "GET"), ("/a/:y", "GET")),
            (("/a/:x/c", "GET"), ("/a/:x/:y", "GET")),
            (("/a/:x/c/:y", "GET"), ("/a/:x/:y/d", "GET")),
            (("/:x/", "GET"), ("/:y/", "GET")),
        ],
    )
    def test_conflict(self, a: tuple[str, str | None], b: tuple[str, str | None]) -> None:
        for host in (None, "a.example.com", "*.example.com"):
            one, two = route(*a, host=host), route(*b, host=host)
            assert conflicts(one, two)
            assert conflicts(two, one)
            assert find_conflict(one, [route("/other"), two]) == two

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            (("/a", "GET"), ("/a", "POST")),
            (("/a", "GET"), ("/a", "HEAD")),
            (("/a", None), ("/a/", None)),
            (("/a", None), ("/a/*", None)),
            (("/a/*", None), ("/a/b/*", None)),
            (("/a/b", None), ("/a/:x", None)),
            (("/a/:x", None), ("/a/*", None)),
            (("/a/:x", None), ("/:y/b", None)),
            (("/a/:x/c", None), ("/a/:x/d", None)),
            (("/a/:x/", None), ("/a/:x/:y", None)),
            (("/a%2Fb", None), ("/a/b", None)),
        ],
    )
    def test_no_conflict(self, a: tuple[str, str | None], b: tuple[str, str | None]) -> None:
        assert not conflicts(route(*a), route(*b))
        assert not conflicts(route(*b), route(*a))
        assert find_conflict(route(*a), [route(*b)]) is None

    def test_hosts_of_their_own_do_not_conflict(self) -> None:
        spaces = [route("/a", host=host) for host in (None, "b.example.com", "*.b.example.com", "*.example.com")]
        assert not any(conflicts(a, b) for a in spaces for b in spaces)
        assert conflicts(route("/a", host="B.example.com."), spaces[1])
