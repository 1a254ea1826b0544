"""rtnetlink: links, addresses and routes, notifications and dumps to values; the requests for them.

Knows linux/rtnetlink.h, if_link.h and if_addr.h as far as a path manager reads them; must not know
sockets, nor which address is worth using. Requests that *change* the network are in
``rtnl_change``: the daemon makes none.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from mptcpd.nl import attrs
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import Encoder, ifa_cacheinfo, ifaddrmsg, ifinfomsg, rtmsg, rtnexthop
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp import AF_INET, AF_INET6

_ENCODER = Encoder(512)
IFINFOMSG = ifinfomsg.size  # bytes of the header before the attributes
IFADDRMSG = ifaddrmsg.size
RTMSG = rtmsg.size
# What a look-up answers where no route leads out by the interface or from the address asked for
# (unreachable and prohibit routes among them), and where the interface itself has gone. An IPv4
# blackhole route answers EINVAL without words (net/ipv4/fib_semantics.c: fib_props).
NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENODEV, errno.EACCES)
NOTHING_THERE = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.ENODEV)
FOREVER = 0xFFFFFFFF  # a lifetime without end (INFINITY_LIFE_TIME)

# rtnl_link_stats64 begins with rx_packets, tx_packets, rx_bytes, tx_bytes and grows at its end.
_STATS64 = Struct("=QQQQ")


class Link(NamedTuple):
    """A network interface.

    ifindex    from 1                      type      ARPHRD_*
    flags      IFF_*                       name      may hold surrogate escapes
    operstate  IF_OPER_* or None           master    ifindex of its bridge or bond, or None
    rx_bytes, tx_bytes  counters, None where the message has no IFLA_STATS64
    gone       True for RTM_DELLINK
    """

    ifindex: int
    type: int
    flags: int
    name: str
    operstate: int | None = None
    master: int | None = None
    rx_bytes: int | None = None
    tx_bytes: int | None = None
    gone: bool = False


class Address(NamedTuple):
    """An address of an interface.

    ip         4 or 16 bytes in network order: IFA_LOCAL where sent (on a point-to-point link
               IFA_ADDRESS is the *peer*), else IFA_ADDRESS
    flags      IFA_F_*, from IFA_FLAGS where sent (u32), else from the header (u8)
    scope      RT_SCOPE_*
    preferred, valid  lifetimes in seconds, FOREVER for no end, None where not sent
    peer       IFA_ADDRESS where it is another than IFA_LOCAL: the far end, or None
    gone       True for RTM_DELADDR
    created    hundredths of a second from the machine's start, None where not sent

    An interface may hold one IP several times, with other prefix lengths or peers.
    """

    ifindex: int
    ip: bytes
    prefixlen: int
    scope: int
    flags: int
    label: str | None = None
    preferred: int | None = None
    valid: int | None = None
    peer: bytes | None = None
    gone: bool = False
    created: int | None = None


class Route(NamedTuple):
    """A route, or the answer to a look-up.

    dst       network address in network order, None for a default route; dst_len: prefix length
    oifs      ifindex of every next hop: one, or several of a multipath route, or none
    type      RTN_*; table: RT_TABLE_* (RTA_TABLE where sent, else the header's u8)
    flags     RTM_F_*; a cloned route (RTM_F_CLONED) is a cache entry and no route of a table
    gone      True for RTM_DELROUTE
    """

    family: int
    dst: bytes | None
    dst_len: int
    src: bytes | None
    table: int
    type: int
    protocol: int
    flags: int
    oifs: tuple[int, ...]
    gateway: bytes | None = None
    prefsrc: bytes | None = None
    priority: int | None = None
    gone: bool = False


def get_links() -> bytes:
    """Dump all links (RTM_GETLINK), without the statistics of each family: we do not use them.

    Leaves out a third of the bytes; IFLA_STATS64 comes all the same.
    """
    return _ENCODER.start(bytes(IFINFOMSG)).u32(u.IFLA_EXT_MASK, u.RTEXT_FILTER_SKIP_STATS).finish()


def get_link(index: int) -> bytes:
    """One link, with its statistics."""
    return ifinfomsg.pack(0, 0, 0, index, 0, 0)


def get_addresses(family: int = 0, ifindex: int = 0) -> bytes:
    """Dump addresses (RTM_GETADDR), of one family or interface if given.

    The kernel filters by interface only on a socket with NETLINK_GET_STRICT_CHK.
    """
    return ifaddrmsg.pack(family, 0, 0, 0, ifindex)


def get_routes(family: int) -> bytes:
    """Dump routes (RTM_GETROUTE) of a family, all tables."""
    return rtmsg.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)


def get_route(dst: bytes, oif: int | None = None, src: bytes | None = None) -> bytes:
    """Which route would take a packet to ``dst``: the look-up that ``check_route`` makes.

    RTM_F_FIB_MATCH asks for the route that matched rather than for the destination; a default
    route is an answer without RTA_DST (Linux 4.13 for IPv4, 4.17 for IPv6). IPv4 tells the table
    only with RTM_F_LOOKUP_TABLE; IPv6 always does, and a strict check refuses that flag there.
    Kernel: ENETUNREACH or EHOSTUNREACH where there is none, ENODEV for an unknown interface.
    """
    bits = 8 * len(dst)
    family, flags = AF_INET6, u.RTM_F_FIB_MATCH
    if len(dst) == 4:
        family, flags = AF_INET, u.RTM_F_FIB_MATCH | u.RTM_F_LOOKUP_TABLE
    header = rtmsg.pack(family, bits, 0 if src is None else bits, 0, 0, 0, 0, 0, flags)
    encoder = _ENCODER.start(header).data(u.RTA_DST, dst)
    if src is not None:
        encoder.data(u.RTA_SRC, src)
    if oif is not None:
        encoder.u32(u.RTA_OIF, oif)
    return encoder.finish()


def parse_link(kind: int, payload: bytes) -> Link:
    """RTM_NEWLINK or RTM_DELLINK. Errors: DecodeError, naming what is wrong or missing."""
    if len(payload) < IFINFOMSG:
        raise DecodeError(f"ifinfomsg: {len(payload)} bytes instead of {IFINFOMSG}")
    _family, _pad, arphrd, index, flags, _change = ifinfomsg.unpack_from(payload)
    found = attrs.parse(payload, IFINFOMSG)
    if index < 1:
        raise DecodeError(f"a link with ifindex {index}")
    if u.IFLA_IFNAME not in found:
        raise DecodeError(f"link {index} lacks IFLA_IFNAME")
    stats = found.get(u.IFLA_STATS64)
    if stats is not None and len(stats) < _STATS64.size:
        raise DecodeError(f"IFLA_STATS64: {len(stats)} bytes, at least {_STATS64.size}")
    _rx, _tx, rx_bytes, tx_bytes = (None,) * 4 if stats is None else _STATS64.unpack_from(stats)
    operstate, master = found.get(u.IFLA_OPERSTATE), found.get(u.IFLA_MASTER)
    return Link(
        index,
        arphrd,
        flags,
        attrs.string("IFLA_IFNAME", found[u.IFLA_IFNAME]),
        None if operstate is None else attrs.u8("IFLA_OPERSTATE", operstate),
        None if master is None else attrs.u32("IFLA_MASTER", master),
        rx_bytes,
        tx_bytes,
        kind == u.RTM_DELLINK,
    )


def parse_address(kind: int, payload: bytes) -> Address | None:
    """RTM_NEWADDR or RTM_DELADDR; None for a family other than IPv4 and IPv6.

    Errors  DecodeError, naming what is wrong or missing.
    Source  net/ipv4/devinet.c: inet_fill_ifaddr; net/ipv6/addrconf.c: inet6_fill_ifaddr.
    """
    if len(payload) < IFADDRMSG:
        raise DecodeError(f"ifaddrmsg: {len(payload)} bytes instead of {IFADDRMSG}")
    family, prefixlen, flags, scope, ifindex = ifaddrmsg.unpack_from(payload)
    if family not in (AF_INET, AF_INET6):
        return None
    found = attrs.parse(payload, IFADDRMSG)
    name = "IFA_LOCAL" if u.IFA_LOCAL in found else "IFA_ADDRESS"
    size = 4 if family == AF_INET else 16
    peer = found.get(u.IFA_ADDRESS)
    ip = found.get(u.IFA_LOCAL, peer)
    if ip is None:
        raise DecodeError("an address with neither IFA_LOCAL nor IFA_ADDRESS")
    if u.IFA_FLAGS in found:
        flags = attrs.u32("IFA_FLAGS", found[u.IFA_FLAGS])
    cache = found.get(u.IFA_CACHEINFO)
    if cache is not None and len(cache) < ifa_cacheinfo.size:
        raise DecodeError(f"IFA_CACHEINFO: {len(cache)} bytes instead of {ifa_cacheinfo.size}")
    preferred, valid, created, _updated = (
        (None,) * 4 if cache is None else ifa_cacheinfo.unpack_from(cache)
    )
    label = found.get(u.IFA_LABEL)
    return Address(
        ifindex,
        attrs.ip(name, ip, size),
        prefixlen,
        scope,
        flags,
        None if label is None else attrs.string("IFA_LABEL", label),
        preferred,
        valid,
        None if peer is None or peer == ip else attrs.ip("IFA_ADDRESS", peer, size),
        kind == u.RTM_DELADDR,
        created,
    )


def parse_route(kind: int, payload: bytes) -> Route | None:
    """RTM_NEWROUTE or RTM_DELROUTE; None for a family other than IPv4 and IPv6.

    Errors  DecodeError, naming what is wrong.
    Source  net/ipv4/fib_semantics.c: fib_dump_info; net/ipv6/route.c: rt6_fill_node.
    """
    if len(payload) < RTMSG:
        raise DecodeError(f"rtmsg: {len(payload)} bytes instead of {RTMSG}")
    family, dst_len, _src_len, _tos, table, protocol, _scope, form, flags = rtmsg.unpack_from(
        payload
    )
    if family not in (AF_INET, AF_INET6):
        return None
    found = attrs.parse(payload, RTMSG)
    size = 4 if family == AF_INET else 16

    def address(kind: int, name: str) -> bytes | None:
        return attrs.ip(name, found[kind], size) if kind in found else None

    def number(kind: int, name: str) -> int | None:
        return attrs.u32(name, found[kind]) if kind in found else None

    oif = number(u.RTA_OIF, "RTA_OIF")
    oifs: tuple[int, ...] = () if oif is None else (oif,)
    if u.RTA_MULTIPATH in found:
        oifs = _nexthops(found[u.RTA_MULTIPATH])
    wide = number(u.RTA_TABLE, "RTA_TABLE")
    return Route(
        family,
        address(u.RTA_DST, "RTA_DST"),
        dst_len,
        address(u.RTA_SRC, "RTA_SRC"),
        table if wide is None else wide,
        form,
        protocol,
        flags,
        oifs,
        address(u.RTA_GATEWAY, "RTA_GATEWAY"),
        address(u.RTA_PREFSRC, "RTA_PREFSRC"),
        number(u.RTA_PRIORITY, "RTA_PRIORITY"),
        kind == u.RTM_DELROUTE,
    )


def _nexthops(payload: bytes) -> tuple[int, ...]:
    """The ifindex of each struct rtnexthop in RTA_MULTIPATH."""
    offset, found = 0, []
    while len(payload) - offset >= rtnexthop.size:
        length, _flags, _hops, ifindex = rtnexthop.unpack_from(payload, offset)
        if not rtnexthop.size <= length <= len(payload) - offset:
            raise DecodeError(f"RTA_MULTIPATH: next hop at offset {offset} with length {length}")
        found.append(ifindex)
        offset += (length + 3) & ~3
    return tuple(found)


def _link_notification(kind: int, payload: bytes) -> Link | None:
    # A bridge tells of its ports in messages of family AF_BRIDGE, to the same group: RTM_DELLINK
    # then means that the link left the bridge, not that it is gone (net/bridge/br_netlink.c).
    return None if any(payload[:1]) else parse_link(kind, payload)


_PARSERS: dict[int, Callable[[int, bytes], Link | Address | Route | None]] = {
    u.RTM_NEWLINK: _link_notification,
    u.RTM_DELLINK: _link_notification,
    u.RTM_NEWADDR: parse_address,
    u.RTM_DELADDR: parse_address,
    u.RTM_NEWROUTE: parse_route,
    u.RTM_DELROUTE: parse_route,
}


def parse(kind: int, payload: bytes) -> Link | Address | Route | None:
    """Any notification by its message type; None for a type or family that we do not follow."""
    parser = _PARSERS.get(kind)
    return None if parser is None else parser(kind, payload)
