"""Which addresses may be asked for documents: public ones, unless the settings allow a host by its name.

A URL in a list of sources, or a redirect, must not make this machine ask its own network on somebody's behalf (a cloud's
metadata service, say). What decides is the address a name resolves to, and the connection goes to that very address:
resolving once more could give another (DNS rebinding).
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

from rag_assets.errors import RagAssetsError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_NOT_PUBLIC = (ipaddress.ip_network("168.63.129.16/32"), ipaddress.ip_network("192.0.0.0/24"))
"""Public by their numbers (by those that Python knows), but clouds' own services."""


Resolve = Callable[[str, int], Sequence[Any]]
"""(host, port) -> entries as ``socket.getaddrinfo`` gives them."""


def resolve(host: str, port: int) -> Sequence[Any]:
    """As the system resolves it."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class AddressRefused(RagAssetsError):
    """A host has an address that may not be asked; says which host the settings would have to allow."""


def public_address(host: str, port: int, allow_hosts: Sequence[str] = (), resolve: Resolve = resolve) -> str:
    """The address to connect to for a host, checked.

    Args:
        host: a name or an address, in any notation the system resolves (``2130706433`` is 127.0.0.1).
        port: TCP port.
        allow_hosts: names that may have any address.
        resolve: asks for a host's addresses.

    Raises:
        AddressRefused: one of its addresses is not public: a host with two kinds is no mistake.
        OSError: it can't be resolved.
    """
    try:
        found = resolve(host, port)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not _allowed(host, allow_hosts):
        for address in addresses:
            if not is_public(address):
                raise AddressRefused(
                    f"{host} has the address {address}, which is not public. If it may be asked, "
                    f'add it to the settings: [sources] allow_hosts = ["{host}"].'
                )
    return addresses[0]


def _allowed(host: str, allow_hosts: Sequence[str]) -> bool:
    return host.rstrip(".").lower() in {name.strip("[]").rstrip(".").lower() for name in allow_hosts}


def is_public(text: str) -> bool:
    """Whether an address belongs to the public internet, whatever it is wrapped in."""
    try:
        address: _Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(_is_public(inner) for inner in _unwrapped(address))


def _is_public(address: _Address) -> bool:
    if address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return not address.is_site_local
    return not any(address in network for network in _NOT_PUBLIC)


def _unwrapped(address: _Address) -> list[_Address]:
    """The IPv4 address an IPv6 one stands for (mapped, compatible, NAT64, 6to4, Teredo), else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if any(address in network for network in _NAT64):
        return [last]
    if address in _COMPATIBLE:
        return [address, last]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    if address.teredo is not None:
        return [address, *address.teredo]
    return [address]
