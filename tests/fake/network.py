"""Links, addresses and default routes of a host: what happens to them, and what rtnetlink tells.

Knows the messages of NETLINK_ROUTE that a path manager reads; must not know sockets. Requests that
would change something are not taken: a test changes it from outside, as people do.

Source  net/core/rtnetlink.c; net/ipv4/devinet.c, route.c; net/ipv6/addrconf.c (Linux 6.18).
"""

from __future__ import annotations

import errno
from ipaddress import ip_address
from struct import Struct
from typing import NamedTuple

from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from tests.fake import wire
from tests.fake.wire import Payload, Refusal, Request, number

_LINK, _ADDRESS, _ROUTE = Struct("=BxHiII"), Struct("=BBBBI"), Struct("=BBBBBBBBI")
_UP = u.IFF_UP | u.IFF_RUNNING | u.IFF_LOWER_UP
LO = 1
# A notification: its group, its type, its payload.
Told = tuple[int, int, bytes]


class Held(NamedTuple):
    """An address of an interface."""

    ip: bytes
    prefixlen: int
    flags: int = u.IFA_F_PERMANENT
    scope: int = u.RT_SCOPE_UNIVERSE

    @property
    def family(self) -> int:
        return AF_INET if len(self.ip) == 4 else AF_INET6

    def covers(self, ip: bytes) -> bool:
        """Whether an address is in the network of this one."""
        bits = 8 * len(self.ip) - self.prefixlen
        ours, theirs = int.from_bytes(self.ip, "big"), int.from_bytes(ip, "big")
        return ours >> bits == theirs >> bits


class Link:
    """An interface. ``up``: as its owner wants it; ``carrier``: whether a cable is plugged in."""

    def __init__(self, index: int, name: str, *, loopback: bool = False) -> None:
        self.index, self.name, self.loopback = index, name, loopback
        self.up, self.carrier = True, True
        self.addresses: list[Held] = []

    @property
    def flags(self) -> int:
        if not self.up:
            return u.IFF_LOOPBACK if self.loopback else 0
        flags = _UP if self.carrier else u.IFF_UP
        return flags | (u.IFF_LOOPBACK if self.loopback else 0)


class NetworkTable:
    """The host's network.

    links  ifindex -> Link              routes  (family, ifindex) of default routes
    told   notifications that are to be sent, oldest first
    """

    def __init__(self) -> None:
        self.links: dict[int, Link] = {LO: Link(LO, "lo", loopback=True)}
        self.links[LO].addresses.append(Held(bytes([127, 0, 0, 1]), 8, scope=u.RT_SCOPE_HOST))
        self.routes: set[tuple[int, int]] = set()
        self.told: list[Told] = []
        self.future = False  # answers have attributes of a later kernel, too
        self._count = LO

    # What happens to it.

    def add_link(self, name: str, *, index: int | None = None) -> Link:
        """A new interface, down and without a cable."""
        self._count = self._count + 1 if index is None else index
        link = self.links[self._count] = Link(self._count, name)
        link.up = link.carrier = False
        self._tell_link(link)
        return link

    def delete_link(self, link: Link) -> None:
        """Addresses go before it, routes without a word (they go with the device)."""
        for held in list(link.addresses):
            self._take(link, held)
        link.up = False
        self._routes_go(link)
        del self.links[link.index]
        self._tell_link(link, u.RTM_DELLINK)

    def set_link(
        self, link: Link, *, up: bool | None = None, carrier: bool | None = None, name: str = ""
    ) -> None:
        """Change its state or its name. IPv6 addresses go when it goes down, IPv4 ones stay."""
        goes_down = up is False and link.up
        link.up = link.up if up is None else up
        link.carrier = link.carrier if carrier is None else carrier
        link.name = name or link.name
        self._tell_link(link)
        if goes_down:
            for held in [held for held in link.addresses if held.family == AF_INET6]:
                self._take(link, held)
            self._routes_go(link)

    def add_address(self, link: Link, text: str, flags: int = u.IFA_F_PERMANENT) -> None:
        """``text`` is an address with prefix length; one that is there gets the flags.

        The same IP with another prefix length is another address.
        """
        ip, _, length = text.partition("/")
        address = ip_address(ip)
        packed, scope = address.packed, u.RT_SCOPE_UNIVERSE
        if address.version == 6 and address.is_link_local:
            scope = u.RT_SCOPE_LINK  # of an IPv4 address it is what its owner says
        held = Held(packed, int(length or 8 * len(packed)), flags, scope)
        same = held.ip, held.prefixlen
        link.addresses = [
            each for each in link.addresses if (each.ip, each.prefixlen) != same
        ] + [held]
        self._tell_address(link, held, u.RTM_NEWADDR)

    def delete_address(self, link: Link, text: str) -> None:
        """``text`` as for ``add_address``; without a prefix length the first that has the IP."""
        ip, _, length = text.partition("/")
        packed = ip_address(ip).packed
        self._take(
            link,
            next(
                each
                for each in link.addresses
                if each.ip == packed and int(length or each.prefixlen) == each.prefixlen
            ),
        )

    def _take(self, link: Link, held: Held) -> None:
        link.addresses.remove(held)
        self._tell_address(link, held, u.RTM_DELADDR)

    def add_route(self, link: Link, family: int = AF_INET) -> None:
        """A default route out of this interface."""
        self.routes.add((family, link.index))
        self._tell_route(family, link.index, u.RTM_NEWROUTE)

    def delete_route(self, link: Link, family: int = AF_INET) -> None:
        self.routes.discard((family, link.index))
        self._tell_route(family, link.index, u.RTM_DELROUTE)

    def _routes_go(self, link: Link) -> None:
        for family, index in sorted(self.routes):
            if index == link.index:
                self.delete_route(link, family)

    def find(self, name: str) -> Link:
        """The interface of this name. Errors: KeyError."""
        for link in self.links.values():
            if link.name == name:
                return link
        raise KeyError(name)

    def has(self, ip: bytes) -> bool:
        """Whether an address is one of the host's. On lo that is a whole IPv4 network."""
        return any(
            held.ip == ip or (link.loopback and len(ip) == 4 == len(held.ip) and held.covers(ip))
            for link in self.links.values()
            for held in link.addresses
        )

    # What is told of it.

    def _tell_link(self, link: Link, kind: int = u.RTM_NEWLINK) -> None:
        self.told.append((u.RTNLGRP_LINK, kind, self._link(link)))

    def _tell_address(self, link: Link, held: Held, kind: int) -> None:
        four = held.family == AF_INET
        group = u.RTNLGRP_IPV4_IFADDR if four else u.RTNLGRP_IPV6_IFADDR
        self.told.append((group, kind, self._address(link, held)))

    def _tell_route(self, family: int, index: int, kind: int) -> None:
        group = u.RTNLGRP_IPV4_ROUTE if family == AF_INET else u.RTNLGRP_IPV6_ROUTE
        self.told.append((group, kind, self._route(family, index)))

    def _later(self) -> list[tuple[int, Payload]]:
        return [(4000, b"future")] if self.future else []

    def _link(self, link: Link) -> bytes:
        kind = u.ARPHRD_LOOPBACK if link.loopback else u.ARPHRD_ETHER
        attributes: list[tuple[int, Payload]] = [
            (u.IFLA_IFNAME, link.name.encode() + b"\0"),
            (u.IFLA_MTU, number(1500, 4)),
            (u.IFLA_OPERSTATE, number(6 if link.flags & u.IFF_RUNNING else 2, 1)),
        ]
        header = _LINK.pack(0, kind, link.index, link.flags, 0)
        return header + wire.build(attributes + self._later())

    def _address(self, link: Link, held: Held) -> bytes:
        attributes: list[tuple[int, Payload]] = [(u.IFA_ADDRESS, held.ip)]
        if held.family == AF_INET:
            attributes += [(u.IFA_LOCAL, held.ip), (u.IFA_LABEL, link.name.encode() + b"\0")]
        forever = number(0xFFFFFFFF, 4)
        attributes += [
            (u.IFA_FLAGS, number(held.flags, 4)),
            (u.IFA_CACHEINFO, forever + forever + number(0, 4) + number(0, 4)),
        ]
        header = _ADDRESS.pack(
            held.family, held.prefixlen, held.flags & 0xFF, held.scope, link.index
        )
        return header + wire.build(attributes + self._later())

    def _route(self, family: int, index: int) -> bytes:
        header = _ROUTE.pack(
            family, 0, 0, 0, u.RT_TABLE_MAIN, u.RTPROT_BOOT, u.RT_SCOPE_UNIVERSE, u.RTN_UNICAST, 0
        )
        attributes: list[tuple[int, Payload]] = [
            (u.RTA_TABLE, number(u.RT_TABLE_MAIN, 4)), (u.RTA_OIF, number(index, 4)),
        ]  # fmt: skip
        return header + wire.build(attributes + self._later())

    # What is asked of it.

    def ask(self, request: Request) -> list[tuple[int, bytes]]:
        """Type and payload of each answer. Errors: Refusal."""
        takers = {
            u.RTM_GETLINK: self._get_links,
            u.RTM_GETADDR: self._get_addresses,
            u.RTM_GETROUTE: self._get_routes,
        }
        if request.kind not in takers:
            raise Refusal(errno.EOPNOTSUPP)
        return takers[request.kind](request)

    def _get_links(self, request: Request) -> list[tuple[int, bytes]]:
        if request.is_dump:
            return [(u.RTM_NEWLINK, self._link(link)) for link in self.links.values()]
        index = _LINK.unpack_from(request.body)[2]
        if index not in self.links:
            raise Refusal(errno.ENODEV)
        return [(u.RTM_NEWLINK, self._link(self.links[index]))]

    def _get_addresses(self, request: Request) -> list[tuple[int, bytes]]:
        family, _length, _flags, _scope, index = _ADDRESS.unpack_from(request.body)
        if index and index not in self.links:
            raise Refusal(errno.ENODEV)
        return [
            (u.RTM_NEWADDR, self._address(link, held))
            for link in self.links.values()
            # IPv6 is listed newest first (ipv6_link_dev_addr).
            for held in (link.addresses if family == AF_INET else reversed(link.addresses))
            if held.family == family and index in (0, link.index)
        ]

    def _get_routes(self, request: Request) -> list[tuple[int, bytes]]:
        family = request.body[0]
        if request.is_dump:
            return [
                (u.RTM_NEWROUTE, self._route(each, index))
                for each, index in sorted(self.routes)
                if each == family
            ]
        found = {one.kind: one for one in request.attributes(_ROUTE.size)}
        oif = wire.integer(found[u.RTA_OIF], 4) if u.RTA_OIF in found else 0
        if oif and oif not in self.links:
            raise Refusal(errno.ENODEV)
        for each, index in sorted(self.routes):
            if each == family and oif in (0, index):
                return [(u.RTM_NEWROUTE, self._route(each, index))]
        raise Refusal(errno.ENETUNREACH)
