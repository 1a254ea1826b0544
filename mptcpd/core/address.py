"""IP addresses with ports, as plugins and people see them.

Knows the stack's packed bytes and their readable form; must not know netlink.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, TypeAlias

IP: TypeAlias = IPv4Address | IPv6Address


class SockAddr(NamedTuple):
    """An IP address and a port; immutable, hashable, compared by value.

    ip    IPv4Address or IPv6Address; an IPv4-mapped IPv6 address is shown as IPv4
    port  host order, 0 where there is none

    Prints as ``10.0.1.2:443`` or ``[2001:db8::1]:443``, without a port as ``10.0.1.2``.
    """

    ip: IP
    port: int = 0

    def __str__(self) -> str:
        if not self.port:
            return str(self.ip)
        return f"{self.ip}:{self.port}" if self.ip.version == 4 else f"[{self.ip}]:{self.port}"

    @property
    def packed(self) -> bytes:
        """The IP in network order, 4 or 16 bytes."""
        return self.ip.packed


def from_packed(ip: bytes, port: int = 0) -> SockAddr:
    """A SockAddr from 4 or 16 bytes in network order; an IPv4-mapped address becomes IPv4."""
    return SockAddr(_ip(ip), port)


# The same few addresses come again and again. With cold caches, as after every sleep, making an
# IPv4Address takes 8 us, finding it here 2 (measured).
@lru_cache(maxsize=256)
def _ip(packed: bytes) -> IP:
    if len(packed) == 16:
        address = IPv6Address(packed)
        return address.ipv4_mapped or address
    return IPv4Address(packed)


def sockaddr(value: SockAddr | IP | str) -> SockAddr:
    """Whatever a plugin may give for an address.

    Text is ``10.0.1.2``, ``10.0.1.2:443``, ``2001:db8::1`` or ``[2001:db8::1]:443``.
    Errors  ValueError, with the text, for anything else.
    """
    if isinstance(value, SockAddr):
        if type(value.ip) is IPv4Address:
            return value
        return from_packed(value.ip.packed, value.port)
    if not isinstance(value, str):
        return from_packed(value.packed)
    return _parsed(value)


@lru_cache(maxsize=64)
def _parsed(text: str) -> SockAddr:
    host, port = text, "0"
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is no address: expected [ADDRESS]:PORT")
        port = rest[1:] or "0"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (port.isascii() and port.isdigit() and len(port) < 10 and int(port) <= 0xFFFF):
        raise ValueError(f"{text!r} is no address: {port!r} is no port (0 to 65535)")
    try:
        return from_packed(ip_address(host).packed, int(port))
    except ValueError:
        raise ValueError(f"{text!r} is no address: {host!r} is no IP address") from None
