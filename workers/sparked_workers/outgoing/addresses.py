"""Which network addresses events may be sent to, and what a host's are.

Whoever may name an endpoint could otherwise have this process call what only it can reach: a database's port, a cloud's
metadata service. So a host is resolved here, each of its addresses is checked, and the very address that was checked
is connected to: a name that resolves to something else a moment later changes nothing.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, to be tried in that order; raises OSError where there are none."""

_NOT_PUBLIC_V4 = (
    IPv4Network("192.0.0.0/24"),  # Protocol assignments.
    IPv4Network("192.88.99.0/24"),  # Once relays of 6to4.
    IPv4Network("168.63.129.16/32"),  # What Azure's own services answer at, for each of its machines.
)
_PUBLIC_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = (
    IPv6Network("2001::/23"),  # Protocol assignments, among them Teredo, which holds an IPv4 address.
    IPv6Network("2002::/16"),  # 6to4, which holds an IPv4 address.
    IPv6Network("3fff::/20"),  # For documents; this Python may not know of it.
)


class AddressRefused(Exception):
    """The host has an address that is not public."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether anyone can reach it. What stands for an IPv4 address in IPv6 (mapped, NAT64, 6to4) is not public.

    `is_global` alone would not do: it lets multicast, NAT64 and, by version, others pass.
    """
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    return address in _PUBLIC_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


async def resolve(host: str, port: int) -> list[str]:
    """The host's addresses, as this machine resolves it. Raises OSError where there are none."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def check_addresses(addresses: Sequence[str]) -> None:
    """Raises `AddressRefused` if any of them is not public: a host that mixes them is up to no good."""
    for text in addresses:
        if not is_public(ip_address(text)):
            raise AddressRefused(f"{text} is not a public address")
