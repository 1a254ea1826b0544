"""What the kernel answers and tells beside the events of MPTCP, for capture.py."""

from __future__ import annotations

import sys

from lab import traffic, wait_until
from mptcpd.nl import attrs, diag, genl, mptcp, rtnl, rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import rtmsg, rtnexthop
from mptcpd.nl.mptcp import AF_INET, AF_INET6, Address
from mptcpd.nl.rtnl_change import Change
from tests.captures.record import Record
from tests.captures.scene import IPS, OURS, PORT, Asker, Scene, Watch, packed

_INET_DIAG_MSG = 72  # bytes of struct inet_diag_msg


def record_mptcp(scene: Scene, record: Record) -> None:
    """What mptcp_pm and nlctrl answer."""
    host = scene.client
    family = host.mptcp.family.id
    asker = Asker(host, u.NETLINK_GENERIC, record, genl.HEADER)
    asker.ask("family", u.GENL_ID_CTRL, genl.get_family(u.MPTCP_PM_NAME))
    asker.ask("family/unknown", u.GENL_ID_CTRL, genl.get_family("no_such_family"))

    signal, subflow = u.MPTCP_PM_ADDR_FLAG_SIGNAL, u.MPTCP_PM_ADDR_FLAG_SUBFLOW
    endpoints = [
        Address(packed("10.0.1.1"), PORT, 1, signal),
        Address(packed("10.0.2.1"), 0, 2, subflow | u.MPTCP_PM_ADDR_FLAG_BACKUP, 3),
        Address(packed("fd00:2::1"), 0, 200, subflow | u.MPTCP_PM_ADDR_FLAG_FULLMESH),
    ]
    asker.ask("endpoints/none", family, mptcp.dump_addrs(), u.NLM_F_DUMP)
    for index, endpoint in enumerate(endpoints):
        asker.ask(f"add_addr/{index}", family, mptcp.add_addr(endpoint), u.NLM_F_ACK)
    asker.ask("endpoints", family, mptcp.dump_addrs(), u.NLM_F_DUMP)
    asker.ask("endpoint", family, mptcp.get_addr(2))
    asker.ask("set_limits", family, mptcp.set_limits(3, 4), u.NLM_F_ACK)
    asker.ask("limits", family, mptcp.get_limits())
    asker.close()
    for cap_ack, label in ((True, "capped"), (False, "whole")):
        asker = Asker(host, u.NETLINK_GENERIC, record, genl.HEADER, cap_ack)
        short = genl.header(u.MPTCP_PM_CMD_REMOVE) + attrs.build([(u.MPTCP_PM_ATTR_TOKEN, b"12")])
        nested = genl.header(u.MPTCP_PM_CMD_DEL_ADDR) + attrs.build(
            [(u.MPTCP_PM_ATTR_ADDR, [(u.MPTCP_PM_ADDR_ATTR_FLAGS, b"1")])]
        )
        missing = genl.header(u.MPTCP_PM_CMD_ANNOUNCE) + attrs.build([])
        for name, body in (
            ("missing", missing),
            ("words", mptcp.del_addr(Address(None, id=99))),
            ("policy", short),
            ("policy_in_nest", nested),
            ("too_many", mptcp.set_limits(subflows=1000)),
            ("twice", mptcp.add_addr(endpoints[1]._replace(id=None))),
            ("listen", mptcp.add_addr(Address(packed("10.0.77.1"), PORT, None, signal))),
            ("plain", genl.header(200)),
        ):
            asker.ask(f"error/{name}/{label}", family, body, u.NLM_F_ACK)
        asker.ask(f"error/dump/{label}", family, mptcp.dump_addrs(1), u.NLM_F_DUMP)
        asker.close()


def record_network(scene: Scene, record: Record) -> None:
    """What rtnetlink answers and tells: links, addresses, routes."""
    host, link = scene.client, scene.links[1].one
    asker = Asker(host, u.NETLINK_ROUTE, record, rtnl.IFINFOMSG)
    asker.ask("links", u.RTM_GETLINK, rtnl.get_links(), u.NLM_F_DUMP)
    asker.ask("link", u.RTM_GETLINK, rtnl.get_link(link.ifindex))
    asker.close()

    def link_local() -> bool:
        found = [one for one in host.network.addresses() if one.scope == u.RT_SCOPE_LINK]
        return len(found) == len(scene.links)

    wait_until(link_local, "the links' own IPv6 addresses")

    def told(
        watch: Watch, name: str, change: Change, kind: int, header: int, about: bytes
    ) -> None:
        watch.forget()
        host.change(change)
        record.add(name, watch.next(kind, about), header)

    groups = (u.RTNLGRP_LINK, u.RTNLGRP_IPV4_IFADDR, u.RTNLGRP_IPV6_IFADDR,
              u.RTNLGRP_IPV4_ROUTE, u.RTNLGRP_IPV6_ROUTE)  # fmt: skip

    def watch(group: int) -> Watch:
        return Watch(host, u.NETLINK_ROUTE, group)

    links, four, six, routes4, routes6 = map(watch, groups)
    ours = (("ipv4", four, "10.0.9.1", "10.0.9.2", 24), ("ipv6", six, "fd00:9::1", "fd00:9::2", 64))
    for name, addresses, text, peer, bits in ours:
        size, ip = rtnl.IFADDRMSG, packed(text)
        plain = rtnl_change.add_address(link.ifindex, ip, bits, flags=u.IFA_F_NODAD)
        told(addresses, f"address/new/{name}", plain, u.RTM_NEWADDR, size, ip)
        gone = rtnl_change.delete_address(link.ifindex, ip, bits)
        told(addresses, f"address/gone/{name}", gone, u.RTM_DELADDR, size, ip)
        point = rtnl_change.add_address(
            link.ifindex, ip, bits, peer=packed(peer), preferred=600, valid=3600,
            flags=u.IFA_F_NODAD | u.IFA_F_NOPREFIXROUTE,
        )  # fmt: skip
        told(addresses, f"address/peer/{name}", point, u.RTM_NEWADDR, size, ip)
        host.change(rtnl_change.delete_address(link.ifindex, ip, bits, peer=packed(peer)))
    asker = Asker(host, u.NETLINK_ROUTE, record, rtnl.IFADDRMSG)
    asker.ask("addresses/ipv4", u.RTM_GETADDR, rtnl.get_addresses(AF_INET), u.NLM_F_DUMP)
    asker.ask("addresses/ipv6", u.RTM_GETADDR, rtnl.get_addresses(AF_INET6), u.NLM_F_DUMP)
    asker.close()

    asker = Asker(host, u.NETLINK_ROUTE, record, rtnl.RTMSG)
    for name, told_routes, gateway, far in (
        ("ipv4", routes4, "10.0.2.2", "192.0.2.1"), ("ipv6", routes6, "fd00:2::2", "2001:db8::1"),
    ):  # fmt: skip
        family = AF_INET if name == "ipv4" else AF_INET6
        asker.ask(f"lookup/none/{name}", u.RTM_GETROUTE, rtnl.get_route(packed(far)))
        via = packed(gateway)
        new = rtnl_change.add_route(family, via=via, oif=link.ifindex, metric=50)
        told(told_routes, f"route/default/{name}", new, u.RTM_NEWROUTE, rtnl.RTMSG, via)
        asker.ask(f"lookup/default/{name}", u.RTM_GETROUTE, rtnl.get_route(packed(far)))
        near = rtnl.get_route(via, link.ifindex)
        asker.ask(f"lookup/link/{name}", u.RTM_GETROUTE, near)
        old = rtnl_change.delete_route(family, via=via, oif=link.ifindex, metric=50)
        told(told_routes, f"route/gone/{name}", old, u.RTM_DELROUTE, rtnl.RTMSG, via)
        host.change(multipath(family, scene, far))
        asker.ask(f"routes/{name}", u.RTM_GETROUTE, rtnl.get_routes(family), u.NLM_F_DUMP)
    asker.close()

    size = rtnl.IFINFOMSG
    down, up = (rtnl_change.set_link(link.ifindex, up=up) for up in (False, True))
    told(links, "link/down", down, u.RTM_NEWLINK, size, b"eth1\0")
    host.change(up)
    wait_until(link.running, "the link running")
    bridge = add_bridge("bridge")
    host.change(bridge)
    index = host.ifindex("bridge")
    host.change(set_master(link.ifindex, index))
    host.change(set_master(link.ifindex, 0))
    record.add("link/left_bridge", links.next(u.RTM_DELLINK, b"eth1\0"), size)
    deleted = rtnl_change.delete_link(index)
    told(links, "link/gone", deleted, u.RTM_DELLINK, size, b"bridge\0")
    for one in (links, four, six, routes4, routes6):
        one.close()


def multipath(family: int, scene: Scene, far: str) -> Change:
    """A route over both links."""
    hops = b""
    for number, link in enumerate(scene.links, 1):
        gateway = f"10.0.{number}.2" if family == AF_INET else f"fd00:{number}::2"
        inner = attrs.build([(u.RTA_GATEWAY, packed(gateway))])
        hops += rtnexthop.pack(rtnexthop.size + len(inner), 0, 0, link.one.ifindex) + inner
    bits = 8 * len(packed(far))
    head = rtmsg.pack(
        family, bits, 0, 0, u.RT_TABLE_MAIN, u.RTPROT_STATIC, u.RT_SCOPE_UNIVERSE, u.RTN_UNICAST, 0
    )
    body = head + attrs.build([(u.RTA_DST, packed(far)), (u.RTA_MULTIPATH, hops)])
    return Change(u.RTM_NEWROUTE, u.NLM_F_ACK | u.NLM_F_CREATE | u.NLM_F_EXCL, body)


def add_bridge(name: str) -> Change:
    body = bytes(rtnl.IFINFOMSG) + attrs.build(
        [
            (u.IFLA_IFNAME, name.encode() + b"\0"),
            (u.IFLA_LINKINFO, [(u.IFLA_INFO_KIND, b"bridge\0")]),
        ]
    )
    return Change(u.RTM_NEWLINK, u.NLM_F_ACK | u.NLM_F_CREATE | u.NLM_F_EXCL, body)


def set_master(ifindex: int, master: int) -> Change:
    head = rtnl.get_link(ifindex)
    number = attrs.build([(u.IFLA_MASTER, master.to_bytes(4, sys.byteorder))])
    return Change(u.RTM_SETLINK, u.NLM_F_ACK, head + number)


def record_sockets(scene: Scene, record: Record) -> None:
    """What sock_diag says of a connection with two subflows, at the client."""
    asker = Asker(scene.client, u.NETLINK_SOCK_DIAG, record, _INET_DIAG_MSG)
    for flavour, family in (("ipv4", AF_INET), ("ipv6", AF_INET6)):
        text = IPS[flavour]
        with scene.listening(text.format(1, 2), text.format(2, 2)) as (listener, _second):
            client = scene.connect(text.format(1, 1), text.format(1, 2))
            server = listener.accept()[0]
            traffic.Connection(client, server, listener).exchange()
            token = record.tokens[f"sockets/{flavour}"] = traffic.info(client).token
            near = Address(packed(text.format(2, 1)), id=OURS)
            scene.join(token, near, Address(packed(text.format(2, 2)), PORT))
            scene.at_client.next(u.MPTCP_EVENT_SUB_ESTABLISHED)
            for what, protocol in (("connections", u.IPPROTO_MPTCP), ("subflows", 6)):
                body = diag.request(family, protocol, diag.CONNECTED)
                asker.ask(f"{what}/{flavour}", u.SOCK_DIAG_BY_FAMILY, body, u.NLM_F_DUMP)
            client.close()
            server.close()
    asker.close()
