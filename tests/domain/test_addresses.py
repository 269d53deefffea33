"""Addresses that outbound calls must not reach: the table written out by example, and against what Python knows of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.addresses import category_of, is_canonical

EXAMPLES = {
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "metadata": ["169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254"],
    "link-local": ["169.254.0.1", "169.254.169.253", "fe80::1", "febf::1", "fec0::1", "fe80::1%eth0", "2606:4700::1%1"],
    "private": ["10.0.0.0", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255"],
    "unique-local": ["fc00::1", "fdff:ffff::1"],
    "shared": ["100.64.0.0", "100.127.255.255"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": [
        *("192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "240.0.0.1", "255.255.255.255"),
        *("2001:db8::1", "2001:10::1", "2001:20::1", "100::1", "3fff::1", "4000::1", "5f00::1"),
    ],
    "embedded": [
        *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b::7f00:1"),
        *("64:ff9b:1::a00:1", "64:ff9b:1:ffff::1", "2002:7f00:1::", "2002:808:808::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2606:4700::5efe:7f00:1"),
    ],
    None: [
        *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1", "169.253.255.255"),
        *("172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001::1", "2003::1"),
    ],
}


@pytest.mark.parametrize(("category", "address"), [(category, address) for category, addresses in EXAMPLES.items() for address in addresses])
def test_an_address_has_its_category(category: str | None, address: str) -> None:
    assert category_of(address) == category


@given(st.ip_addresses())
def test_what_has_no_category_is_global(address: IPv4Address | IPv6Address) -> None:
    if category_of(str(address)) is None:
        assert address.is_global
        assert not any((address.is_multicast, address.is_private, address.is_loopback, address.is_reserved, address.is_link_local))


@given(st.ip_addresses(v=4))
def test_no_form_hides_an_ipv4_address(address: IPv4Address) -> None:
    number = int(address)
    forms = [0xFFFF << 32 | number, number, 0xFFFF << 48 | number, 0x64FF9B << 96 | number, 0x64FF9B0001 << 80 | number, 0x2002 << 112 | number << 80]
    forms += [0x20010000 << 96 | (number ^ 0xFFFFFFFF), 0x26064700 << 96 | 0x5EFE << 32 | number]
    assert all(category_of(str(IPv6Address(form))) is not None for form in forms)


@pytest.mark.parametrize("text", ["", "x", "1", "127.1", "0x7f.0.0.1", "127.0.0.01", "1.2.3.4.5", "1.2.3.4 ", "[::1]", "::1::"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        category_of(text)


@given(st.ip_addresses(v=4), st.data())
def test_only_one_spelling_is_canonical(address: IPv4Address, data: st.DataObject) -> None:
    spelling = data.draw(spellings(address))
    assert is_canonical(spelling) is (spelling == str(address))


@st.composite
def spellings(draw: st.DrawFn, address: IPv4Address) -> str:
    """One of the ways in which `inet_aton` reads an address: 1 to 4 parts, the last of them with all the bytes that are left, in base 8, 10 or 16."""
    raw = address.packed
    count = draw(st.integers(1, 4))
    numbers = [*raw[: count - 1], int.from_bytes(raw[count - 1 :], "big")]
    return ".".join(draw(st.sampled_from([str(number), hex(number), f"0{number:o}", hex(number).upper(), f"0x{number:08x}"])) for number in numbers)


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        category_of(text)
    except ValueError:
        return
    ip_address(text.partition("%")[0])
