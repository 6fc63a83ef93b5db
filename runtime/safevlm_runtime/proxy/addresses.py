"""Which internet addresses are public: everything that leads inside, by any detour, is not."""

from __future__ import annotations

import ipaddress
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# What `is_global` of some Python versions lets through, and what no web server has.
_CLOSED: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",  # benchmarks
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/8",  # unspecified, loopback, IPv4-compatible; IPv4-mapped is unwrapped before
        "100::/64",
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
        "5f00::/16",
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_MAPPED: Final = ipaddress.ip_network("::ffff:0:0/96")


def is_public(address: str) -> bool:
    """Whether an address, as a resolver gives it, is of a public host and hides no other address.

    An IPv4-mapped address is judged by what it maps; the other wrappings (6to4, Teredo, NAT64, IPv4-compatible) are
    refused even around a public address, for no image server needs them.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False  # also an address with a zone, as fe80::1%eth0
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id is not None:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found in _MAPPED:
        return _is_public(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
    return _is_public(found)


def _is_public(found: Address) -> bool:
    closed = any(found.version == network.version and found in network for network in _CLOSED)
    return found.is_global and not closed and not found.is_multicast and not found.is_reserved
