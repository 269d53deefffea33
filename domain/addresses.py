"""Which addresses are not the public Internet's, and why: what outbound calls of scripts must not reach.

From the special-purpose registries of IANA (RFC 6890 and its successors) and the metadata services of the large clouds. Addresses that embed another one are
refused for their form, whatever they embed: where the translation happens, and into which network, is not ours to know.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

Category = Literal["unspecified", "loopback", "metadata", "link-local", "private", "unique-local", "shared", "multicast", "reserved", "embedded"]

OF_THE_NEIGHBOURHOOD: Final[frozenset[Category]] = frozenset({"loopback", "private", "unique-local", "link-local", "shared"})
"""What a developer may want to reach: this machine and the networks around it."""

_TABLE: Final[tuple[tuple[Category, tuple[str, ...]], ...]] = (
    ("metadata", ("169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "192.0.0.192", "168.63.129.16")),
    ("metadata", ("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fe80::a9fe:a9fe")),
    ("unspecified", ("0.0.0.0/8", "::/128")),
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("link-local", ("169.254.0.0/16", "fe80::/10", "fec0::/10")),
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    ("unique-local", ("fc00::/7",)),
    ("shared", ("100.64.0.0/10",)),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    ("reserved", ("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24")),
    ("reserved", ("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4")),
    # IPv4-mapped, IPv4-compatible, IPv4-translated, NAT64 (well-known and local), 6to4, Teredo.
    ("embedded", ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")),
    ("reserved", ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20")),
)
_GLOBAL_IPV6: Final = IPv6Network("2000::/3")
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
"""The upper half of an interface identifier that embeds an IPv4 address (RFC 5214)."""


def _networks(version: int) -> tuple[tuple[Category, IPv4Network | IPv6Network], ...]:
    found = ((category, ip_network(text)) for category, texts in _TABLE for text in texts)
    return tuple((category, network) for category, network in found if network.version == version)


_NETWORKS: Final = {4: _networks(4), 6: _networks(6)}


def category_of(address: str) -> Category | None:
    """Why an address is not the public Internet's; None when it is. Raises ValueError for what is no address; a zone id makes it link-local."""
    text, _, zone = address.partition("%")
    found = ip_address(text)
    for category, network in _NETWORKS[found.version]:
        if found in network:
            return category
    if zone:
        return "link-local"
    return _category_of_ipv6(found) if isinstance(found, IPv6Address) else None


def _category_of_ipv6(address: IPv6Address) -> Category | None:
    if address not in _GLOBAL_IPV6:
        return "reserved"
    return "embedded" if int(address) >> 32 & 0xFFFFFFFF in _ISATAP else None


def is_canonical(address: str) -> bool:
    """Whether a text is an IPv4 address in the one spelling that every parser reads alike: four decimal numbers without leading zeros."""
    try:
        return str(IPv4Address(address)) == address
    except ValueError:
        return False
