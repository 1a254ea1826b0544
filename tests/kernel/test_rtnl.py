"""Links, addresses and routes as this kernel tells of them: notifications, dumps and look-ups."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from lab import Host
from mptcpd.nl import attrs, rtnl, rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl.client import RouteClient
from mptcpd.nl.errors import NetlinkError
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from mptcpd.nl.rtnl import Address, Link, Route
from mptcpd.nl.rtnl_change import Change
from mptcpd.nl.sock import CommandSocket
from tests.kernel.conftest import TwoHosts
from tests.kernel.watch import RouteWatch

FAMILIES = {"ipv4": AF_INET, "ipv6": AF_INET6}
LINKS = u.RTNLGRP_LINK
ADDRESSES = {"ipv4": u.RTNLGRP_IPV4_IFADDR, "ipv6": u.RTNLGRP_IPV6_IFADDR}
ROUTES = {"ipv4": u.RTNLGRP_IPV4_ROUTE, "ipv6": u.RTNLGRP_IPV6_ROUTE}


def ip(text: str) -> bytes:
    return ip_address(text).packed


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, two_hosts: TwoHosts) -> str:
    if request.param == "ipv6" and not two_hosts.client.has_ipv6:
        pytest.skip("this kernel has no IPv6")
    return str(request.param)


def next_about(watch: RouteWatch, wanted: bytes) -> Address | Route:
    """The next notification of an address or a route to it; others come in between.

    IPv6 gives each link an address and routes of its own, a moment after the link is up.
    """
    while True:
        value = watch.next()
        if isinstance(value, Address) and value.ip == wanted:
            return value
        if isinstance(value, Route) and value.dst == wanted:
            return value


@pytest.fixture
def watched(two_hosts: TwoHosts) -> Iterator[Any]:
    """Opens watches on the client's groups; all that was told until then is dropped."""
    opened: list[RouteWatch] = []

    def watch(*groups: int) -> RouteWatch:
        opened.append(RouteWatch(two_hosts.client, *groups))
        return opened[-1]

    yield watch
    for one in opened:
        one.close()


# --- links -----------------------------------------------------------------------------------


def test_a_link_that_comes_and_goes(two_hosts: TwoHosts, watched: Any) -> None:
    watch, client = watched(LINKS), two_hosts.client
    client.change(rtnl_change.add_veth("new", client.fd, "far", two_hosts.server.fd))
    index = client.ifindex("new")

    def next_of_it() -> Link:
        while True:
            value = watch.next()
            if isinstance(value, Link) and value.ifindex == index:
                return value

    born = next_of_it()
    assert (born.name, born.type, born.gone) == ("new", u.ARPHRD_ETHER, False)
    assert not born.flags & (u.IFF_UP | u.IFF_RUNNING)
    client.change(rtnl_change.set_link(index, up=True))
    while not next_of_it().flags & u.IFF_UP:
        pass
    server = two_hosts.server
    server.change(rtnl_change.set_link(server.ifindex("far"), up=True))
    while not next_of_it().flags & u.IFF_RUNNING:
        pass
    client.change(rtnl_change.set_link(index, up=False))
    while next_of_it().flags & u.IFF_UP:
        pass
    client.change(rtnl_change.delete_link(index))
    while not (last := next_of_it()).gone:
        pass
    assert last.name == "new"
    assert index not in [link.ifindex for link in client.network.links()]


def test_a_link_that_leaves_a_bridge_is_not_gone(two_hosts: TwoHosts, watched: Any) -> None:
    """The bridge says RTM_DELLINK, of family AF_BRIDGE, to the same group."""
    client, index = two_hosts.client, two_hosts.second.one.ifindex
    named: list[tuple[int, attrs.Payload]] = [
        (u.IFLA_IFNAME, b"br0\0"),
        (u.IFLA_LINKINFO, [(u.IFLA_INFO_KIND, b"bridge\0")]),
    ]
    create = u.NLM_F_ACK | u.NLM_F_CREATE | u.NLM_F_EXCL
    client.change(Change(u.RTM_NEWLINK, create, bytes(rtnl.IFINFOMSG) + attrs.build(named)))
    bridge = client.ifindex("br0")
    watch = watched(LINKS)

    def set_master(master: int) -> None:
        number = attrs.build([(u.IFLA_MASTER, struct.pack("=I", master))])
        client.change(Change(u.RTM_SETLINK, u.NLM_F_ACK, rtnl.get_link(index) + number))

    set_master(bridge)
    assert client.link(index).master == bridge
    set_master(0)
    client.change(rtnl_change.set_link(bridge, name="mark"))
    told = []
    while not (isinstance(value := watch.next(), Link) and value.name == "mark"):
        told.append(value)
    of_it = [link for link in told if isinstance(link, Link) and link.ifindex == index]
    assert [link.master for link in of_it][-1] is None
    assert not any(link.gone for link in of_it)
    assert None in told  # what the bridge said
    assert index in [link.ifindex for link in client.network.links()]


def test_all_links(two_hosts: TwoHosts) -> None:
    found = {link.name: link for link in two_hosts.client.network.links()}
    assert sorted(found) == ["eth0", "eth1", "lo"]
    assert found["lo"].flags & u.IFF_LOOPBACK
    assert found["lo"].type == u.ARPHRD_LOOPBACK
    assert found["eth1"].ifindex == two_hosts.second.one.ifindex
    assert found["eth1"].flags & u.IFF_RUNNING
    two_hosts.second.other.down()
    assert not two_hosts.second.one.running()


# --- addresses -------------------------------------------------------------------------------

OURS = {"ipv4": ("10.9.0.1/24", "10.9.0.2"), "ipv6": ("fd00:9::1/64", "fd00:9::2")}


def test_an_address_that_comes_and_goes(
    family: str, two_hosts: TwoHosts, watched: Any
) -> None:
    """Notifications, and the dump, tell the same of it."""
    client, index = two_hosts.client, two_hosts.second.one.ifindex
    watch, ours = watched(ADDRESSES[family]), ip_interface(OURS[family][0])
    bits = ours.network.prefixlen
    flags = u.IFA_F_NODAD | u.IFA_F_NOPREFIXROUTE
    client.change(rtnl_change.add_address(index, ours.ip.packed, bits, flags=flags))
    new = next_about(watch, ours.ip.packed)
    assert isinstance(new, Address)
    assert (new.ifindex, new.ip, new.prefixlen, new.scope) == (
        index, ours.ip.packed, bits, u.RT_SCOPE_UNIVERSE,
    )  # fmt: skip
    # IFA_F_NOPREFIXROUTE does not fit into the header's eight bits: only IFA_FLAGS has it.
    assert new.flags & u.IFA_F_NOPREFIXROUTE
    assert new.flags & u.IFA_F_PERMANENT
    assert (new.preferred, new.valid, new.peer, new.gone) == (
        rtnl.FOREVER, rtnl.FOREVER, None, False,
    )  # fmt: skip
    assert [a for a in client.network.addresses() if a.ip == ours.ip.packed] == [new]
    client.change(rtnl_change.delete_address(index, ours.ip.packed, bits))
    assert next_about(watch, ours.ip.packed) == new._replace(gone=True)
    assert ours.ip.packed not in [a.ip for a in client.network.addresses()]


def test_an_address_of_a_point_to_point_link(
    family: str, two_hosts: TwoHosts, watched: Any
) -> None:
    """IFA_LOCAL is ours, IFA_ADDRESS the far end's."""
    client, index = two_hosts.client, two_hosts.second.one.ifindex
    watch, ours, peer = watched(ADDRESSES[family]), ip_interface(OURS[family][0]), OURS[family][1]
    client.change(
        rtnl_change.add_address(
            index, ours.ip.packed, ours.network.prefixlen, peer=ip(peer), preferred=60, valid=600,
            flags=u.IFA_F_NODAD,
        )
    )  # fmt: skip
    new = next_about(watch, ours.ip.packed)
    assert isinstance(new, Address)
    assert (new.ip, new.peer) == (ours.ip.packed, ip(peer))
    assert not new.flags & u.IFA_F_PERMANENT
    assert new.preferred is not None
    assert new.valid is not None
    assert 50 <= new.preferred <= 60
    assert 590 <= new.valid <= 600


def test_addresses_of_one_interface(two_hosts: TwoHosts) -> None:
    """Filtered by the kernel, which takes it for a strict request."""
    client = two_hosts.client
    for link in (two_hosts.first, two_hosts.second):
        found = client.network.addresses(link.one.ifindex)
        assert {a.ifindex for a in found} == {link.one.ifindex}
        assert len(found) >= 1 + client.has_ipv6
    everything = client.network.addresses()
    assert {a.ifindex for a in everything} == {1, 2, 3}
    assert client.network.addresses(99) == []


# --- routes ----------------------------------------------------------------------------------

FAR = {"ipv4": "192.0.2.0", "ipv6": "2001:db8::"}
GATEWAY = {"ipv4": "10.0.2.2", "ipv6": "fd00:2::2"}


def test_a_route_that_comes_and_goes(family: str, two_hosts: TwoHosts, watched: Any) -> None:
    client, index = two_hosts.client, two_hosts.second.one.ifindex
    watch, number = watched(ROUTES[family]), FAMILIES[family]
    bits = 24 if family == "ipv4" else 64
    wanted: dict[str, Any] = {"via": ip(GATEWAY[family]), "oif": index, "metric": 7}
    client.change(rtnl_change.add_route(number, ip(FAR[family]), bits, **wanted))
    new = next_about(watch, ip(FAR[family]))
    assert new == Route(
        number, ip(FAR[family]), bits, None, u.RT_TABLE_MAIN, u.RTN_UNICAST, u.RTPROT_STATIC,
        0, (index,), ip(GATEWAY[family]), None, 7,
    )  # fmt: skip
    assert new in client.network.routes(number)
    client.change(rtnl_change.delete_route(number, ip(FAR[family]), bits, **wanted))
    assert next_about(watch, ip(FAR[family])) == new._replace(gone=True)


def test_routes_go_with_their_link(family: str, two_hosts: TwoHosts) -> None:
    two_hosts.second.one.down()
    left = two_hosts.client.network.routes(FAMILIES[family])
    main = [route for route in left if route.table == u.RT_TABLE_MAIN]
    assert main
    assert not any(two_hosts.second.one.ifindex in route.oifs for route in main)


# --- look-ups --------------------------------------------------------------------------------


def default(family: str, network: RouteClient) -> list[Route]:
    routes = network.routes(FAMILIES[family])
    return [r for r in routes if r.dst_len == 0 and r.table == u.RT_TABLE_MAIN]


def test_look_up_with_a_default_route(family: str, two_hosts: TwoHosts) -> None:
    """The answer is the route that matched: a default route has no destination."""
    network, far = two_hosts.client.network, ip(FAR[family])
    first, second = two_hosts.first.one.ifindex, two_hosts.second.one.ifindex
    assert len(default(family, network)) == 2
    for oif, expected in ((None, first), (first, first), (second, second)):
        found = network.lookup(far, oif)
        assert found is not None
        assert (found.dst, found.dst_len, found.oifs) == (None, 0, (expected,))
        assert found.table == u.RT_TABLE_MAIN
        assert found.type == u.RTN_UNICAST


def test_look_up_of_an_interface_and_its_address(family: str, two_hosts: TwoHosts) -> None:
    """The answer is the interface's own route, though another's is better (has a lower metric)."""
    network, far = two_hosts.client.network, ip(FAR[family])
    form = {"ipv4": "10.0.{}.1", "ipv6": "fd00:{}::1"}[family]
    for number, link in ((1, two_hosts.first), (2, two_hosts.second)):
        index = link.one.ifindex
        found = network.lookup(far, index, ip(form.format(number)))
        assert found is not None
        assert (found.dst, found.oifs, found.priority) == (None, (index,), 100 * number)


def test_look_up_in_a_table_of_the_source_address(family: str, two_hosts: TwoHosts) -> None:
    """A table per uplink, with a rule for its address: found although the main table is empty."""
    host, number, far = two_hosts.client, FAMILIES[family], ip(FAR[family])
    index = two_hosts.second.one.ifindex
    for route in default(family, host.network):
        host.change(
            rtnl_change.delete_route(
                number, via=route.gateway, oif=route.oifs[0], metric=route.priority
            )
        )
    source = ip({"ipv4": "10.0.2.1", "ipv6": "fd00:2::1"}[family])
    assert host.network.lookup(far, index, source) is None
    via = ip(GATEWAY[family])
    host.change(rtnl_change.add_route(number, via=via, oif=index, table=1000))
    assert host.network.lookup(far, index, source) is None
    host.change(rtnl_change.add_rule(number, 1000, source, 8 * len(source)))
    found = host.network.lookup(far, index, source)
    assert found is not None
    assert (found.oifs, found.table, found.gateway) == ((index,), 1000, via)
    assert host.network.lookup(far, index) is None


def test_look_up_of_a_neighbour(family: str, two_hosts: TwoHosts) -> None:
    found = two_hosts.client.network.lookup(ip(GATEWAY[family]))
    assert found is not None
    network = {"ipv4": "10.0.2.0", "ipv6": "fd00:2::"}[family]
    assert (found.dst, found.gateway) == (ip(network), None)
    assert found.oifs == (two_hosts.second.one.ifindex,)


def test_look_up_without_a_default_route(family: str, two_hosts: TwoHosts) -> None:
    """Not at all, and not by the interface asked for."""
    client, far = two_hosts.client, ip(FAR[family])
    second = two_hosts.second.one.ifindex
    for route in default(family, client.network):
        if route.oifs == (second,):
            client.change(
                rtnl_change.delete_route(
                    FAMILIES[family], via=route.gateway, oif=second, metric=route.priority
                )
            )
    assert client.network.lookup(far, second) is None
    assert client.network.lookup(far) is not None
    assert two_hosts.server.network.lookup(far) is None
    assert client.network.lookup(far, 99) is None  # an interface that has just gone


@pytest.mark.parametrize("kind", [u.RTN_UNREACHABLE, u.RTN_PROHIBIT, u.RTN_BLACKHOLE])
def test_look_up_of_what_a_route_forbids(kind: int, family: str, two_hosts: TwoHosts) -> None:
    far, number = ip(FAR[family]), FAMILIES[family]
    two_hosts.client.change(rtnl_change.add_route(number, far, 24, kind=kind))
    assert two_hosts.client.network.lookup(far) is None


# --- dumps while things change ---------------------------------------------------------------

MANY = 1500  # addresses: more than the kernel puts into one datagram (32 KiB)


@pytest.fixture
def many(lone_host: Host) -> Host:
    for number in range(MANY):
        lone_host.change(rtnl_change.add_address(1, bytes([10, 1, number >> 8, number & 255]), 32))
    return lone_host


class Meddler:
    """Changes an address of a host whenever a dump has been read in part, ``times`` times."""

    def __init__(self, host: Host, times: int) -> None:
        self.host, self.left, self.datagrams = host, times, 0
        with host:
            self.commands = CommandSocket(u.NETLINK_ROUTE)
        self._recv = self.commands._recv
        self.commands._recv = self.recv  # type: ignore[assignment]

    def recv(self, buffer: bytearray, size: int, flags: int) -> tuple[int, Any]:
        result = self._recv(buffer, size, flags)
        self.datagrams += 1
        # The sequence number tells a dump's first datagram from those after it.
        if self.left and self.datagrams_of_this(buffer) == 1:
            self.left -= 1
            label = bytes([10, 2, self.left >> 8, self.left & 255])
            self.host.change(rtnl_change.add_address(1, label, 32))
        return result

    def datagrams_of_this(self, buffer: bytearray) -> int:
        seq = buffer[8:12]
        self._seen = [*getattr(self, "_seen", []), bytes(seq)]
        return self._seen.count(bytes(seq))


@pytest.mark.parametrize("times", [0, 1, 5])
def test_a_dump_that_changes_interrupt_is_repeated(times: int, many: Host) -> None:
    """The kernel itself marks it (NLM_F_DUMP_INTR); the result is whole and has no doubles."""
    meddler = Meddler(many, times)
    found = RouteClient(meddler.commands).addresses()
    meddler.commands.close()
    assert meddler.left == 0
    ips = [address.ip for address in found if address.ip[:1] == b"\x0a"]
    assert len(ips) == len(set(ips)) == MANY + times
    assert sorted(found) == sorted(many.network.addresses())


def test_a_dump_that_never_comes_to_rest(many: Host) -> None:
    meddler = Meddler(many, 1000)
    with pytest.raises(NetlinkError, match="RTM_GETADDR: interrupted by changes 20 times"):
        RouteClient(meddler.commands).addresses()
    meddler.left = 0
    found = RouteClient(meddler.commands).addresses()
    meddler.commands.close()
    assert sorted(found) == sorted(many.network.addresses())
