"""Hosts: the canonical form, patterns, and the table against a plain model."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.hosts import DomainTable, covers, is_public_name, normalise_host, overlap, parent_names, parse_host_pattern, slug_below, slug_host

A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.Com:8000", "example.com"),
        ("example.com.", "example.com"),
        ("example.com.:80", "example.com"),
        ("example.com:", "example.com"),
        ("localhost:0", "localhost"),
        ("my_service:65535", "my_service"),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("[::1]:8000", "::1"),
        ("[2001:DB8::0:1]", "2001:db8::1"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a" * 63 + ".b", "a" * 63 + ".b"),
    ],
)
def test_normalise(header: str, host: str) -> None:
    assert normalise_host(header) == host
    assert normalise_host(f"[{host}]" if ":" in host else host) == host


@pytest.mark.parametrize(
    "header",
    [
        *(
            "",
            ".",
            "..",
            ":80",
            "a..b",
            ".a",
            "a..",
            "-a",
            "a-",
            "a.-b",
            "a b",
            " a",
            "a\n",
            "a\r\nb",
            "a\x00",
            "a/b",
            "a@b",
            "a?b",
            "a#b",
            "a%41",
            "a,b",
            "*",
            "*.a",
        ),
        *(
            "a:b",
            "a:80:80",
            "a:-1",
            "a:65536",
            "a:999999",
            "a:\uff18\uff10",
            "a: 80",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[a]",
            "[1.2.3.4]",
            "[::1]a",
            "[fe80::1%eth0]",
        ),
        *("1.2.3", "256.1.1.1", "1.2.3.04", "1", "a.1", "bücher.example", "\u212a.example", "\ud800", "a" * 64, "a." * 127 + "ab", "a" * 100_000),
    ],
)
def test_normalise_refuses(header: str) -> None:
    with pytest.raises(Invalid) as refused:
        normalise_host(header)
    assert refused.value.field == "host"


@given(st.text())
def test_normalise_is_stable_or_refuses(header: str) -> None:
    try:
        host = normalise_host(header)
    except Invalid as refused:
        assert refused.field == "host"  # noqa: PT017
    else:
        assert normalise_host(f"[{host}]:1" if ":" in host else f"{host}:1") == host


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Example.COM.", "example.com"),
        ("*.Example.com", "*.example.com"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("*.BÜCHER.example", "*.xn--bcher-kva.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("*.localhost", "*.localhost"),
    ],
)
def test_pattern(text: str, pattern: str) -> None:
    assert parse_host_pattern(text) == pattern
    assert parse_host_pattern(pattern) == pattern


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "*",
            "*.",
            "*a.b",
            "a.*",
            "a.*.b",
            "*.*.b",
            "**.b",
            "*.127.0.0.1",
            "*.::1",
            "*.[::1]",
            "*.1",
            "a:80",
            "[::1]:80",
            "*.a:80",
            "http://a",
            "a/b",
            "a b",
        ),
        *("a_ü\u200b.example", "ü" * 64, "ü." * 200, "\ud800.a", "a\x00", "-ü.example", "a" * 64 + ".b", "x" * 100_000, "ü" * 100_000),
    ],
)
def test_pattern_refuses(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_host_pattern(text, "domain")
    assert refused.value.field == "domain"


@pytest.mark.parametrize("text", ["https://shop.example", "https://*.shop.example", "shop.example/a", "shop.example:80/", "*.shop.example/"])
def test_a_url_is_told_to_be_none(text: str) -> None:
    with pytest.raises(Invalid, match="without a scheme or a path"):
        parse_host_pattern(text)


@given(st.text(max_size=30))
def test_pattern_is_stable_or_refuses(text: str) -> None:
    try:
        pattern = parse_host_pattern(text)
    except Invalid as refused:
        assert refused.field == "pattern"  # noqa: PT017
    else:
        assert parse_host_pattern(pattern) == pattern
        host = pattern.replace("*", "a")
        assert normalise_host(f"[{host}]" if ":" in host else host) == host


@pytest.mark.parametrize(
    ("claim", "pattern", "expected"),
    [
        ("a.com", "a.com", True),
        ("a.com", "b.a.com", False),
        ("a.com", "*.a.com", False),
        ("*.a.com", "*.a.com", True),
        ("*.a.com", "b.a.com", True),
        ("*.a.com", "c.b.a.com", True),
        ("*.a.com", "*.b.a.com", True),
        ("*.a.com", "a.com", False),
        ("*.a.com", "xa.com", False),
        ("*.a.com", "*.com", False),
        ("*.b.a.com", "*.a.com", False),
    ],
)
def test_covers(claim: str, pattern: str, *, expected: bool) -> None:
    assert covers(claim, pattern) is expected


def test_parent_names_are_the_longest_first() -> None:
    assert list(parent_names("a.b.c")) == ["b.c", "c"]
    assert list(parent_names("localhost")) == []


def test_table_prefers_exact_then_the_longest_suffix() -> None:
    table = DomainTable.compile({"*.com": A, "*.example.com": B, "shop.example.com": C}, {})
    assert table.match("shop.example.com") == C
    assert table.match("x.shop.example.com") == B
    assert table.match("example.com") == A
    assert table.match("com") is None
    assert table.match("127.0.0.1") is None


def test_every_app_has_its_slug_host() -> None:
    table = DomainTable.compile({"localhost": A, "127.0.0.1": A, "*.localhost": A, "shop.localhost": B}, {"default": A, "shop": C})
    assert slug_host("shop") == "shop.localhost"
    assert table.match("shop.localhost") == C
    assert table.match("default.localhost") == table.match("localhost") == table.match("127.0.0.1") == table.match("other.localhost") == A
    assert DomainTable.compile({}, {}).match("localhost") is None


names = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4).map(".".join)
patterns = names | names.map("*.{}".format)


@given(st.dictionaries(patterns, st.uuids()), names)
def test_table_agrees_with_a_plain_model(claims: dict[str, UUID], host: str) -> None:
    fitting = [pattern for pattern in claims if covers(pattern, host)]
    best = min(fitting, key=lambda pattern: (pattern.startswith("*."), -len(pattern)), default=None)
    assert DomainTable.compile(claims, {}).match(host) == (claims[best] if best else None)


@pytest.mark.parametrize(
    ("pattern", "slug"),
    [("shop.localhost", "shop"), ("*.shop.localhost", "shop"), ("a.b.localhost", "b"), ("*.localhost", "*"), ("localhost", None), ("a.example", None)],
)
def test_the_slug_below_localhost(pattern: str, slug: str | None) -> None:
    assert slug_below(pattern) == slug


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("a.com", True), ("*.a.com", True), ("com", False), ("*.com", False), ("localhost", False), ("127.0.0.1", False), ("::1", False), ("2001:db8::1", False)],
)
def test_public_names(pattern: str, *, expected: bool) -> None:
    assert is_public_name(pattern) is expected


def test_patterns_overlap_when_some_host_matches_both() -> None:
    for one, other in (("a.com", "a.com"), ("*.a.com", "b.a.com"), ("*.a.com", "*.b.a.com")):
        assert overlap(one, other)
        assert overlap(other, one)
    for one, other in (("a.com", "*.a.com"), ("*.a.com", "*.b.com"), ("a.com", "b.com")):
        assert not overlap(one, other)
        assert not overlap(other, one)


def test_old_slugs_hosts_have_moved() -> None:
    table = DomainTable.compile({}, {"new": A}, {"old": "new"})
    assert table.match("old.localhost") is None
    assert table.moved_to("old.localhost") == "new.localhost"
    assert table.moved_to("new.localhost") is None
    assert table.apps == {A}
