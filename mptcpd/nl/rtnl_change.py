"""Requests that *change* the network: links, addresses, routes, rules, rate limits.

The daemon makes none of these requests and imports nothing from here: it leaves the network as the
administrator made it. The demo and the tests build their hosts and links with them.

Knows linux/rtnetlink.h, if_link.h, if_addr.h, fib_rules.h and pkt_sched.h as far as that goes; must
not know sockets (``change_client`` sends them). IP addresses are 4 or 16 bytes in network order;
``netns`` is an open descriptor of a network namespace. Every builder raises ValueError for a value
that does not fit.
"""

from __future__ import annotations

from typing import NamedTuple

from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import (
    Encoder,
    fib_rule_hdr,
    ifa_cacheinfo,
    ifaddrmsg,
    ifinfomsg,
    rtmsg,
    tc_tbf_qopt,
    tcmsg,
)
from mptcpd.nl.mptcp import AF_INET, AF_INET6

_ENCODER = Encoder(1024)
_ACK = u.NLM_F_ACK
_NEW = u.NLM_F_ACK | u.NLM_F_CREATE | u.NLM_F_EXCL


class Change(NamedTuple):
    """One request: message type (RTM_*), flags (NLM_F_*), header and attributes."""

    kind: int
    flags: int
    body: bytes


def add_veth(name: str, netns: int, peer: str, peer_netns: int) -> Change:
    """A pair of joined interfaces, each born in a namespace of its own, both down."""
    blank = bytes(ifinfomsg.size)
    other = Encoder(64).start(blank).data(u.IFLA_IFNAME, _text(peer))
    encoder = _ENCODER.start(blank).data(u.IFLA_IFNAME, _text(name))
    encoder.u32(u.IFLA_NET_NS_FD, netns)
    encoder.begin(u.IFLA_LINKINFO).data(u.IFLA_INFO_KIND, b"veth\0").begin(u.IFLA_INFO_DATA)
    encoder.data(u.VETH_INFO_PEER, other.u32(u.IFLA_NET_NS_FD, peer_netns).finish())
    return Change(u.RTM_NEWLINK, _NEW, encoder.end().end().finish())


def set_link(
    ifindex: int,
    *,
    up: bool | None = None,
    name: str | None = None,
    mtu: int | None = None,
    netns: int | None = None,
) -> Change:
    """Change what is given. A link that moves to another namespace arrives there down."""
    flags, change = (0, 0) if up is None else (u.IFF_UP * up, u.IFF_UP)
    encoder = _ENCODER.start(ifinfomsg.pack(0, 0, 0, ifindex, flags, change))
    if name is not None:
        encoder.data(u.IFLA_IFNAME, _text(name))
    if mtu is not None:
        encoder.u32(u.IFLA_MTU, mtu)
    if netns is not None:
        encoder.u32(u.IFLA_NET_NS_FD, netns)
    return Change(u.RTM_SETLINK, _ACK, encoder.finish())


def delete_link(ifindex: int) -> Change:
    """The other end of a veth pair goes with it."""
    return Change(u.RTM_DELLINK, _ACK, ifinfomsg.pack(0, 0, 0, ifindex, 0, 0))


def add_address(
    ifindex: int,
    ip: bytes,
    prefixlen: int,
    *,
    peer: bytes | None = None,
    scope: int = u.RT_SCOPE_UNIVERSE,
    flags: int = 0,
    preferred: int = rtnl.FOREVER,
    valid: int = rtnl.FOREVER,
) -> Change:
    """Give an interface an address, or an address it has other flags and lifetimes.

    peer              the far end of a point-to-point link; ``prefixlen`` then belongs to it
    flags             IFA_F_*: IFA_F_NODAD makes an IPv6 address usable at once
    preferred, valid  lifetimes in seconds; preferred 0 makes the address deprecated
    """
    encoder = _address(ifindex, ip, prefixlen, peer, scope)
    if flags:
        encoder.u32(u.IFA_FLAGS, flags)
    if (preferred, valid) != (rtnl.FOREVER, rtnl.FOREVER):
        encoder.data(u.IFA_CACHEINFO, ifa_cacheinfo.pack(preferred, valid, 0, 0))
    flags = u.NLM_F_ACK | u.NLM_F_CREATE | u.NLM_F_REPLACE
    return Change(u.RTM_NEWADDR, flags, encoder.finish())


def delete_address(ifindex: int, ip: bytes, prefixlen: int, peer: bytes | None = None) -> Change:
    return Change(u.RTM_DELADDR, _ACK, _address(ifindex, ip, prefixlen, peer, 0).finish())


def _address(ifindex: int, ip: bytes, prefixlen: int, peer: bytes | None, scope: int) -> Encoder:
    encoder = _ENCODER.start(ifaddrmsg.pack(_family(ip), prefixlen, 0, scope, ifindex))
    return encoder.data(u.IFA_LOCAL, ip).data(u.IFA_ADDRESS, ip if peer is None else peer)


def add_route(
    family: int,
    dst: bytes | None = None,
    dst_len: int = 0,
    *,
    via: bytes | None = None,
    oif: int | None = None,
    table: int = u.RT_TABLE_MAIN,
    metric: int | None = None,
    prefsrc: bytes | None = None,
    kind: int = u.RTN_UNICAST,
) -> Change:
    """A route to ``dst``; without one, the default route.

    via   gateway; without one the destination is on the link ``oif``
    kind  RTN_UNICAST, or RTN_UNREACHABLE and the like, which need neither ``via`` nor ``oif``
    """
    # IPv4 wants to be told that no gateway is between (the scope); IPv6 does not look.
    scope = u.RT_SCOPE_LINK if via is None and oif is not None else u.RT_SCOPE_UNIVERSE
    head = _rtmsg(family, dst_len, u.RTPROT_STATIC, scope, kind)
    body = _route(head, dst, via, oif, table, metric, prefsrc)
    return Change(u.RTM_NEWROUTE, _NEW, body)


def delete_route(
    family: int,
    dst: bytes | None = None,
    dst_len: int = 0,
    *,
    via: bytes | None = None,
    oif: int | None = None,
    table: int = u.RT_TABLE_MAIN,
    metric: int | None = None,
) -> Change:
    """The first route to ``dst`` that matches what is given, whoever made it."""
    head = _rtmsg(family, dst_len, u.RTPROT_UNSPEC, u.RT_SCOPE_NOWHERE, u.RTN_UNSPEC)
    return Change(u.RTM_DELROUTE, _ACK, _route(head, dst, via, oif, table, metric, None))


def _rtmsg(family: int, dst_len: int, protocol: int, scope: int, kind: int) -> bytes:
    # Its table has 8 bits and stays empty: RTA_TABLE says which.
    return rtmsg.pack(family, dst_len, 0, 0, u.RT_TABLE_UNSPEC, protocol, scope, kind, 0)


def _route(
    head: bytes,
    dst: bytes | None,
    via: bytes | None,
    oif: int | None,
    table: int,
    metric: int | None,
    prefsrc: bytes | None,
) -> bytes:
    encoder = _ENCODER.start(head).u32(u.RTA_TABLE, table)
    for kind, ip in ((u.RTA_DST, dst), (u.RTA_GATEWAY, via), (u.RTA_PREFSRC, prefsrc)):
        if ip is not None:
            encoder.data(kind, ip)
    for kind, number in ((u.RTA_OIF, oif), (u.RTA_PRIORITY, metric)):
        if number is not None:
            encoder.u32(kind, number)
    return encoder.finish()


def add_rule(
    family: int, table: int, src: bytes | None = None, src_len: int = 0, priority: int | None = None
) -> Change:
    """Packets from ``src`` (None: all) look their route up in ``table``."""
    return Change(u.RTM_NEWRULE, _NEW, _rule(family, table, src, src_len, priority))


def delete_rule(
    family: int, table: int, src: bytes | None = None, src_len: int = 0, priority: int | None = None
) -> Change:
    """The first rule that matches what is given."""
    return Change(u.RTM_DELRULE, _ACK, _rule(family, table, src, src_len, priority))


def _rule(family: int, table: int, src: bytes | None, src_len: int, priority: int | None) -> bytes:
    head = fib_rule_hdr.pack(family, 0, src_len, 0, u.RT_TABLE_UNSPEC, 0, 0, u.FR_ACT_TO_TBL, 0)
    encoder = _ENCODER.start(head).u32(u.FRA_TABLE, table)
    if src is not None:
        encoder.data(u.FRA_SRC, src)
    if priority is not None:
        encoder.u32(u.FRA_PRIORITY, priority)
    return encoder.finish()


def set_tbf(ifindex: int, rate: int, burst: int, limit: int) -> Change:
    """Limit what a link sends: a token bucket filter as its root qdisc.

    rate   bytes per second, below 2**32
    burst  bytes that may go out at once: at least the MTU and its Ethernet header
    limit  bytes that may wait; what comes beyond is dropped
    Source  net/sched/sch_tbf.c: tbf_change. Where TCA_TBF_BURST and the link layer are given, the
            kernel computes the times itself and wants no rate table (TCA_TBF_RTAB).
    """
    if not 0 < rate < 1 << 32:
        raise ValueError(f"tbf: a rate of {rate} bytes per second")
    ratespec = (0, u.TC_LINKLAYER_ETHERNET, 0, 0, 0, rate)
    no_peak = (0, 0, 0, 0, 0, 0)
    encoder = _ENCODER.start(tcmsg.pack(0, 0, 0, ifindex, 0, u.TC_H_ROOT, 0))
    encoder.data(u.TCA_KIND, b"tbf\0").begin(u.TCA_OPTIONS)
    encoder.data(u.TCA_TBF_PARMS, tc_tbf_qopt.pack(*ratespec, *no_peak, limit, 0, 0))
    body = encoder.u32(u.TCA_TBF_BURST, burst).end().finish()
    return Change(u.RTM_NEWQDISC, u.NLM_F_ACK | u.NLM_F_CREATE | u.NLM_F_REPLACE, body)


def delete_qdisc(ifindex: int) -> Change:
    """Take the root qdisc away: the link is as fast as it was."""
    return Change(u.RTM_DELQDISC, _ACK, tcmsg.pack(0, 0, 0, ifindex, 0, u.TC_H_ROOT, 0))


def _family(ip: bytes) -> int:
    if len(ip) not in (4, 16):
        raise ValueError(f"an IP address has 4 or 16 bytes, not {len(ip)}")
    return AF_INET if len(ip) == 4 else AF_INET6


def _text(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape") + b"\0"
