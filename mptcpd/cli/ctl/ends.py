"""IP addresses, ports and interfaces as people write and read them.

Knows text and bytes of addresses, and which interface has which; must not know connections. An
IPv4-mapped IPv6 address is the IPv4 address, for reading and for matching.
"""

from __future__ import annotations

import socket
from typing import Protocol

from mptcpd.cli.ctl.values import Prefix
from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u

_LOOPBACK = b"\x7f\0\0\1"
_MAPPED = bytes(10) + b"\xff\xff"


def plain(ip: bytes) -> bytes:
    """4 or 16 bytes; an IPv4-mapped address as its 4."""
    return ip[12:] if len(ip) == 16 and ip[:12] == _MAPPED else ip


def ip_text(ip: bytes) -> str:
    """``10.0.1.1`` or ``fd00::1``."""
    ip = plain(ip)
    return socket.inet_ntop(socket.AF_INET if len(ip) == 4 else socket.AF_INET6, ip)


def end_text(ip: bytes, port: int) -> str:
    """``10.0.1.1:443`` or ``[fd00::1]:443``."""
    text = ip_text(ip)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def within(wanted: Prefix, ip: bytes, port: int) -> bool:
    """Whether an end is meant by ``ADDRESS/LENGTH:PORT``; ``*`` and 0.0.0.0/0 are any address."""
    if wanted.port is not None and port != wanted.port:
        return False
    if wanted.length == 0 and len(wanted.ip) == 4:
        return True
    want, length, ip = plain(wanted.ip), wanted.length, plain(ip)
    if len(want) < len(wanted.ip) and length >= 96:
        length -= 96
    elif len(want) < len(wanted.ip):
        want = wanted.ip  # ::ffff:0.0.0.0/90 and the like: more than the mapped addresses
    if len(ip) != len(want):
        return False
    rest = 8 * len(ip) - length
    return int.from_bytes(ip, "big") >> rest == int.from_bytes(want, "big") >> rest


class Routes(Protocol):
    """What is needed of ``nl.client.RouteClient``."""

    def links(self) -> list[rtnl.Link]: ...
    def addresses(self) -> list[rtnl.Address]: ...


class Interfaces:
    """Which interface a socket uses: the one it is bound to, else the one that has its address.

    The route decides in truth, and may send it elsewhere; the kernel does not tell.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._names: dict[int, str] = {}
        self._by_ip: dict[bytes, int] = {}
        self._running: dict[int, bool] = {}
        self.changes: list[tuple[str, bool]] = []

    def refresh(self) -> None:
        """Look again. Errors: NetlinkError, OSError.

        ``changes`` then has name and state of each interface that came up or went down since.
        """
        links = self._routes.links()
        # A name may hold bytes that would do things to a terminal.
        self._names = {
            link.ifindex: "".join(one if one.isprintable() else "?" for one in link.name)
            for link in links
        }
        running = {link.ifindex: bool(link.flags & u.IFF_RUNNING) for link in links}
        self.changes = [
            (self._names[index], up) for index, up in running.items()
            if self._running.get(index, up) != up
        ]  # fmt: skip
        self._running = running
        by_ip: dict[bytes, int] = {}
        for address in self._routes.addresses():
            by_ip.setdefault(address.ip, address.ifindex)
        self._by_ip = by_ip

    def index(self, ip: bytes, bound: int) -> int:
        """Its number; 0 where the address is on no interface (any more)."""
        ip = plain(ip)
        if len(ip) == 4 and ip[0] == 127:
            ip = _LOOPBACK  # lo has all of 127.0.0.0/8
        return bound or self._by_ip.get(ip, 0)

    def name(self, ip: bytes, bound: int) -> str | None:
        """``eth0``; None where ``index`` is 0."""
        index = self.index(ip, bound)
        return self._names.get(index, f"if{index}") if index else None
