"""What outbound calls may reach: URLs, addresses, names that change what they stand for."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.outbound.policy import Policy
from domain.addresses import Category, category_of
from domain.outbound import CallFailed
from tests.adapters.outbound_support import APP, Names, Observed, get, response, serving
from tests.domain.test_addresses import EXAMPLES, spellings

pytestmark = pytest.mark.anyio

STRICT = Policy()

REFUSED = {
    "blocked scheme (ftp)": ["ftp://example.com/"],
    "blocked scheme (file)": ["file:///etc/passwd"],
    "blocked scheme (none)": ["//example.com/", "example.com", "/x"],
    "blocked scheme (javascript)": ["javascript:alert(1)"],
    "credentials in the URL": ["http://user@example.com/", "http://user:password@example.com/", "http://:p@example.com/", "http://a@b@c/"],
    "blocked port (22)": ["http://example.com:22/"],
    "blocked port (25)": ["https://example.com:25/"],
    "blocked port (0)": ["http://example.com:0/"],
    "blocked port (1023)": ["http://example.com:1023/"],
    "this is not a URL": ["http://example.com:99999/", "http://[::1/", "http://example.com:x/"],
    "white space": [
        "http://exa mple.com/",
        "http://example.com/\r\nx: y",
        "http://example.com/\x00",
        "http://a\\@example.com/",
        "http://a\u2028b/",
        "http://exam\u00adple.com/",
    ],
    "blocked host (trailing dot)": ["http://example.com./", "http://127.0.0.1./", "http://localhost./"],
    "not ASCII": ["http://münchen.de/", "http://\uff11\uff12\uff17.0.0.1/", "http://127。0。0。1/", "http://ⓛocalhost/"],
    "zone id or percent-encoding": ["http://[fe80::1%25eth0]/", "http://[::1%1]/", "http://%31%32%37.0.0.1/", "http://a%2eb/"],
    "not a host name": ["http://a..b/", "http://.a/", "http:///x", f"http://{'a' * 64}.com/", f"http://{'a.' * 150}com/", "http://a,b/", "http://a'b/"],
    "blocked address (spelling)": [
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.01/",
        "http://1.2.3.4.5/",
    ],
    "blocked address (loopback)": ["http://127.0.0.1/", "http://[::1]/", "http://[0:0:0:0:0:0:0:1]/", "HTTP://127.0.0.1:8080/"],
    "blocked address (embedded)": ["http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[64:ff9b::7f00:1]/"],
    "blocked address (metadata)": ["http://169.254.169.254/latest/meta-data/"],
    "the URL is longer": ["http://example.com/" + "a" * 9000],
}


@pytest.mark.parametrize(("why", "url"), [(why, url) for why, urls in REFUSED.items() for url in urls])
def test_a_url_is_refused_and_the_reason_named(why: str, url: str) -> None:
    with pytest.raises(CallFailed) as refusal:
        STRICT.check_url(url)
    assert why in str(refusal.value)
    assert refusal.value.outcome == "blocked"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "https://EXAMPLE.com/a?b=ü#c",
        "http://xn--mnchen-3ya.de/",
        "http://example.com:8080/",
        "https://1.1.1.1/",
        "http://[2606:4700::1]:1024/",
    ],
)
def test_other_urls_pass(url: str) -> None:
    assert STRICT.check_url(url).fragment == ""


@pytest.mark.parametrize(("category", "address"), [(c, a) for c, addresses in EXAMPLES.items() if c for a in addresses if "%" not in a])
def test_literals_are_checked(category: str, address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(CallFailed, match=rf"^blocked address \({category}\)$"):
        STRICT.check_url(f"http://{host}/")


@given(st.ip_addresses(v=4), st.data())
def test_an_ipv4_address_passes_in_one_spelling_alone(address: IPv4Address, data: st.DataObject) -> None:
    spelling = data.draw(spellings(address))
    url = f"http://{spelling}/"
    if spelling == str(address) and category_of(spelling) is None:
        assert STRICT.check_url(url).host == str(address)
    else:
        with pytest.raises(CallFailed, match="blocked"):
            STRICT.check_url(url)


@given(st.text(max_size=30))
def test_whatever_passes_is_http_to_a_host_without_credentials(text: str) -> None:
    for url in (text, f"http://{text}", f"http://{text}/"):
        try:
            passed = STRICT.check_url(url)
        except CallFailed:
            continue
        assert passed.scheme in {"http", "https"}
        assert passed.raw_host
        assert passed.raw_user is None


def test_development_reaches_the_neighbourhood_and_no_metadata() -> None:
    development = Policy(allow_private=True)
    for url in ("http://127.0.0.1:8000/", "http://10.0.0.1/", "http://[::1]/", "http://[fd00::1]/"):
        development.check_url(url)
    for url in ("http://169.254.169.254/", "http://224.0.0.1/", "http://0.0.0.0/", "http://127.1/", "http://127.0.0.1:22/"):
        with pytest.raises(CallFailed, match="blocked"):
            development.check_url(url)


def seen_as(**categories: Category | None) -> Policy:
    """A policy to which the addresses of loopback are what a test wants: `a1` is 127.0.0.1."""
    known = {f"127.0.0.{name[1:]}": category for name, category in categories.items()}
    return Policy(categorise=lambda address: known.get(address, "reserved"))


async def test_a_name_that_changes_what_it_stands_for_is_looked_up_once_and_connected_to_what_was_checked() -> None:
    names = Names(rebinding_test=[["127.0.0.2"], ["127.0.0.1"]])
    observed = Observed(seen_as(a1="loopback", a2=None), resolve=names)
    async with serving(response(b"inside"), host="127.0.0.1") as inside, serving(response(b"outside"), host="127.0.0.2") as outside:
        answer = await observed.client.call(APP, get(f"http://rebinding.test:{outside.port}/"))
        assert (answer.body, names.lookups) == (b"outside", ["rebinding.test"])
        with pytest.raises(CallFailed, match=r"^blocked address \(loopback\)$"):
            await observed.client.call(APP, get(f"http://rebinding.test:{inside.port}/"))
        assert inside.asked == []


async def test_of_a_name_with_several_addresses_only_those_that_pass_are_connected_to() -> None:
    names = Names(mixed_test=[["127.0.0.1", "::1", "127.0.0.2"]])
    async with serving(response(b"outside"), host="127.0.0.2") as outside:
        answer = await Observed(seen_as(a1="loopback", a2=None), resolve=names).client.call(APP, get(f"http://mixed.test:{outside.port}/"))
    assert answer.body == b"outside"


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http://inside.test:{port}/", "http://2130706433:{port}/", "http://[::ffff:127.0.0.1]:{port}/"],
)
async def test_a_redirect_into_the_inside_is_blocked(location: str) -> None:
    names = Names(outside_test=[["127.0.0.2"]], inside_test=[["127.0.0.1"]])
    observed = Observed(seen_as(a1="private", a2=None), resolve=names)
    async with serving(response(b"inside")) as inside:
        target = location.format(port=inside.port)
        async with serving(response(status=302, location=target), host="127.0.0.2") as outside:
            with pytest.raises(CallFailed, match=r"^blocked address \((private|spelling|reserved)\)$"):
                await observed.client.call(APP, get(f"http://outside.test:{outside.port}/"))
        assert inside.asked == []
    assert observed.outcomes == ["blocked"]


@pytest.mark.parametrize(
    ("location", "why"), [("ftp://x/", "scheme"), ("file:///etc/passwd", "scheme"), ("http://u:p@x/", "credentials"), ("http://x:22/", "port")]
)
async def test_every_hop_is_checked_like_the_first(location: str, why: str) -> None:
    async with serving(response(status=301, location=location)) as server:
        with pytest.raises(CallFailed, match=why):
            await Observed().client.call(APP, get(server.url))


async def test_the_socket_is_checked_whatever_led_to_it() -> None:
    """A policy that changes its mind between the lookup and the connection finds that nothing is connected."""
    seen: list[str] = []

    def changing(address: str) -> Category | None:
        seen.append(address)
        return None if len(seen) == 1 else "private"

    async with serving(response()) as server:
        client = Observed(Policy(categorise=changing), resolve=Names(a_test=[["127.0.0.1"]])).client
        with pytest.raises(CallFailed, match=r"^blocked address \(private\)$"):
            await client.call(APP, get(f"http://a.test:{server.port}/"))
        assert (server.asked, seen) == ([], ["127.0.0.1", "127.0.0.1"])


async def test_the_systems_own_resolver_is_checked_too() -> None:
    async with serving(response()) as server:
        with pytest.raises(CallFailed, match=r"^blocked address \(loopback\)$"):
            await Observed(STRICT).client.call(APP, get(f"http://localhost:{server.port}/"))
        assert server.asked == []
