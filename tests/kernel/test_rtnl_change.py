"""Every change of the network, made on the real kernel and read back from it."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address

import pytest

from lab import Host, Lab
from mptcpd.nl import attrs, rtnl, rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import tc_tbf_qopt, tcmsg
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from mptcpd.nl.sock import CommandSocket
from tests.kernel.conftest import TwoHosts

V4 = ip_address("10.9.0.1").packed
FAR4 = ip_address("198.51.100.0").packed
V6 = ip_address("fd00:9::1").packed
FAR6 = ip_address("2001:db8:9::").packed
GATEWAY = {AF_INET: ip_address("10.0.1.2").packed, AF_INET6: ip_address("fd00:1::2").packed}
RTM_GETQDISC = 38  # linux/rtnetlink.h; nothing but this test asks for it
FAR = {AF_INET: (FAR4, 24), AF_INET6: (FAR6, 64)}
both_families = pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["ipv4", "ipv6"])


def address(host: Host, ip: bytes) -> rtnl.Address | None:
    found = [one for one in host.network.addresses() if one.ip == ip]
    assert len(found) < 2
    return found[0] if found else None


def route(host: Host, family: int, table: int = u.RT_TABLE_MAIN) -> rtnl.Route | None:
    dst, _bits = FAR[family]
    found = [r for r in host.network.routes(family) if (r.dst, r.table) == (dst, table)]
    assert len(found) < 2
    return found[0] if found else None


def names(host: Host) -> list[str]:
    return sorted(link.name for link in host.network.links())


def need_ipv6(family: int, host: Host) -> None:
    if family == AF_INET6 and not host.has_ipv6:
        pytest.skip("this kernel has no IPv6")


def test_veth_is_born_in_two_namespaces(lab: Lab) -> None:
    one, other = lab.host("one"), lab.host("other")
    one.change(rtnl_change.add_veth("west", one.fd, "east", other.fd))
    assert names(one) == ["lo", "west"]
    assert names(other) == ["east", "lo"]
    other.change(rtnl_change.delete_link(other.ifindex("east")))
    assert names(one) == names(other) == ["lo"]


def test_link_up_and_down(two_hosts: TwoHosts) -> None:
    client, index = two_hosts.client, two_hosts.first.one.ifindex
    client.change(rtnl_change.set_link(index, up=False))
    assert not client.link(index).flags & u.IFF_UP
    client.change(rtnl_change.set_link(index, up=True))
    assert client.link(index).flags & u.IFF_UP


def test_link_name_and_mtu(two_hosts: TwoHosts) -> None:
    client, index = two_hosts.client, two_hosts.first.one.ifindex
    client.change(rtnl_change.set_link(index, up=False))
    client.change(rtnl_change.set_link(index, name="wan", mtu=1400))
    assert client.link(index).name == "wan"
    assert client.ifindex("wan") == index
    (dumped,) = client_attributes(client, index)
    assert attrs.u32("IFLA_MTU", dumped[u.IFLA_MTU]) == 1400


def client_attributes(host: Host, index: int) -> list[dict[int, bytes]]:
    """The attributes of a link as the kernel sends them, for those that we do not parse."""
    with host:
        commands = CommandSocket(u.NETLINK_ROUTE)
    try:
        answers = commands.request(
            u.RTM_GETLINK, rtnl.get_link(index), "RTM_GETLINK", flags=0, header=rtnl.IFINFOMSG
        )
    finally:
        commands.close()
    return [attrs.parse(answer, rtnl.IFINFOMSG) for answer in answers]


def test_link_moves(two_hosts: TwoHosts) -> None:
    third = two_hosts.lab.host("third")
    two_hosts.client.change(rtnl_change.set_link(two_hosts.first.one.ifindex, netns=third.fd))
    assert names(two_hosts.client) == ["eth1", "lo"]
    assert names(third) == ["eth0", "lo"]
    assert not third.link(third.ifindex("eth0")).flags & u.IFF_UP


def test_address_comes_changes_and_goes(lone_host: Host) -> None:
    lone_host.change(rtnl_change.add_address(1, V4, 24, preferred=100, valid=200))
    found = address(lone_host, V4)
    assert found is not None
    assert (found.prefixlen, found.scope, found.ifindex) == (24, u.RT_SCOPE_UNIVERSE, 1)
    assert found.preferred is not None and 90 < found.preferred <= 100
    assert found.valid is not None and 190 < found.valid <= 200
    lone_host.change(rtnl_change.add_address(1, V4, 24, preferred=0, valid=200))
    found = address(lone_host, V4)
    assert found is not None and found.flags & u.IFA_F_DEPRECATED
    lone_host.change(rtnl_change.delete_address(1, V4, 24))
    assert address(lone_host, V4) is None


def test_address_of_ipv6(two_hosts: TwoHosts) -> None:
    client, index = two_hosts.client, two_hosts.first.one.ifindex
    need_ipv6(AF_INET6, client)
    client.set_sysctl("net.ipv6.conf.eth0.accept_dad", 1)
    client.change(rtnl_change.add_address(index, V6, 64))
    found = address(client, V6)
    assert found is not None and found.flags & u.IFA_F_TENTATIVE
    client.change(rtnl_change.delete_address(index, V6, 64))
    assert address(client, V6) is None
    client.change(rtnl_change.add_address(index, V6, 64, flags=u.IFA_F_NODAD))
    found = address(client, V6)
    assert found is not None and not found.flags & u.IFA_F_TENTATIVE
    client.change(
        rtnl_change.add_address(index, V6, 64, flags=u.IFA_F_NODAD, preferred=0, valid=60)
    )
    found = address(client, V6)
    assert found is not None and found.flags & u.IFA_F_DEPRECATED


def test_address_with_peer_and_scope(lone_host: Host) -> None:
    peer = ip_address("10.9.0.2").packed
    change = rtnl_change.add_address(1, V4, 32, peer=peer, scope=u.RT_SCOPE_HOST)
    lone_host.change(change)
    found = address(lone_host, V4)
    assert found is not None and found.scope == u.RT_SCOPE_HOST
    assert address(lone_host, peer) is None
    lone_host.change(rtnl_change.delete_address(1, V4, 32, peer=peer))
    assert address(lone_host, V4) is None


@both_families
def test_route_through_a_gateway(two_hosts: TwoHosts, family: int) -> None:
    client, index = two_hosts.client, two_hosts.first.one.ifindex
    need_ipv6(family, client)
    dst, bits = FAR[family]
    via = GATEWAY[family]
    client.change(rtnl_change.add_route(family, dst, bits, via=via, oif=index, metric=7))
    found = route(client, family)
    assert found is not None
    assert (found.gateway, found.oifs, found.priority) == (via, (index,), 7)
    assert found.protocol == u.RTPROT_STATIC
    client.change(rtnl_change.delete_route(family, dst, bits, via=via, oif=index, metric=7))
    assert route(client, family) is None


@both_families
def test_route_on_the_link_in_a_table(two_hosts: TwoHosts, family: int) -> None:
    client, index = two_hosts.client, two_hosts.second.one.ifindex
    need_ipv6(family, client)
    dst, bits = FAR[family]
    client.change(rtnl_change.add_route(family, dst, bits, oif=index, table=1000))
    found = route(client, family, 1000)
    assert found is not None and found.oifs == (index,) and found.gateway is None
    assert route(client, family) is None
    client.change(rtnl_change.delete_route(family, dst, bits, table=1000))
    assert route(client, family, 1000) is None


@both_families
def test_default_route(two_hosts: TwoHosts, family: int) -> None:
    """The fixture's two default routes lead out by either link; one deleted, the other stays."""
    client, first, second = two_hosts.client, two_hosts.first.one, two_hosts.second.one
    need_ipv6(family, client)
    target = FAR[family][0][:-1] + b"\1"
    found = client.network.lookup(target)
    assert found is not None and found.dst is None and found.oifs == (first.ifindex,)
    client.change(rtnl_change.delete_route(family, oif=first.ifindex))
    found = client.network.lookup(target)
    assert found is not None and found.oifs == (second.ifindex,)


@both_families
def test_unreachable(two_hosts: TwoHosts, family: int) -> None:
    client = two_hosts.client
    need_ipv6(family, client)
    dst, bits = FAR[family]
    assert client.network.lookup(dst[:-1] + b"\1") is not None
    client.change(rtnl_change.add_route(family, dst, bits, kind=u.RTN_UNREACHABLE))
    found = route(client, family)
    assert found is not None and found.type == u.RTN_UNREACHABLE
    assert client.network.lookup(dst[:-1] + b"\1") is None
    client.change(rtnl_change.delete_route(family, dst, bits))
    assert route(client, family) is None


def test_preferred_source(two_hosts: TwoHosts) -> None:
    client, index = two_hosts.client, two_hosts.first.one.ifindex
    source = ip_address("10.0.2.1").packed
    client.change(
        rtnl_change.add_route(AF_INET, FAR4, 24, via=GATEWAY[AF_INET], oif=index, prefsrc=source)
    )
    found = client.network.lookup(FAR4[:-1] + b"\1")
    assert found is not None and found.prefsrc == source


@both_families
def test_rule_by_source(two_hosts: TwoHosts, family: int) -> None:
    """Packets from one address take the table of their own, the others do not."""
    client, first, second = two_hosts.client, two_hosts.first.one, two_hosts.second.one
    need_ipv6(family, client)
    four = family == AF_INET
    source = ip_address("10.0.1.1" if four else "fd00:1::1").packed
    other = ip_address("10.0.2.1" if four else "fd00:2::1").packed
    via = ip_address("10.0.2.2" if four else "fd00:2::2").packed
    target = FAR[family][0][:-1] + b"\1"

    def taken(src: bytes) -> tuple[int, ...]:
        found = client.network.lookup(target, src=src)
        assert found is not None
        return found.oifs

    client.change(rtnl_change.add_route(family, via=via, oif=second.ifindex, table=100))
    assert taken(source) == (first.ifindex,)
    client.change(rtnl_change.add_rule(family, 100, source, 8 * len(source), 50))
    assert taken(source) == (second.ifindex,)
    assert taken(other) == (first.ifindex,)
    with pytest.raises(KernelError) as refused:
        client.change(rtnl_change.add_rule(family, 100, source, 8 * len(source), 50))
    assert refused.value.errno == errno.EEXIST
    client.change(rtnl_change.delete_rule(family, 100, source, 8 * len(source)))
    assert taken(source) == (first.ifindex,)


def qdisc(host: Host, ifindex: int) -> tuple[str, int, int, int]:
    """Kind, rate, burst in ticks, limit of the root qdisc; zeros for other kinds than tbf."""
    with host:
        commands = CommandSocket(u.NETLINK_ROUTE)
    try:
        answers = commands.dump(
            RTM_GETQDISC, tcmsg.pack(0, 0, 0, ifindex, 0, 0, 0), "RTM_GETQDISC", header=tcmsg.size
        )
    finally:
        commands.close()
    for answer in answers:
        header = tcmsg.unpack_from(answer)
        found = attrs.parse(answer, tcmsg.size)
        kind = attrs.string("TCA_KIND", found[u.TCA_KIND])
        if header[3] == ifindex and kind == "tbf":
            options = attrs.parse(found[u.TCA_OPTIONS])
            values = tc_tbf_qopt.unpack(options[u.TCA_TBF_PARMS])
            return kind, values[5], values[13], values[12]
        if header[3] == ifindex:
            return kind, 0, 0, 0
    return "none", 0, 0, 0


def test_tbf(two_hosts: TwoHosts) -> None:
    client, index = two_hosts.client, two_hosts.first.one.ifindex
    before = qdisc(client, index)
    assert before[0] != "tbf"
    client.change(rtnl_change.set_tbf(index, 2_500_000, 16384, 125_000))
    # 16384 bytes at 2.5 MB/s are 6.5536 ms; the kernel counts in ticks of 64 ns.
    assert qdisc(client, index) == ("tbf", 2_500_000, 6_553_600 // 64, 125_000)
    client.change(rtnl_change.set_tbf(index, 1_000_000, 16384, 50_000))
    assert qdisc(client, index) == ("tbf", 1_000_000, 16_384_000 // 64, 50_000)
    client.change(rtnl_change.delete_qdisc(index))
    assert qdisc(client, index)[0] != "tbf"


@pytest.mark.parametrize(
    ("change", "number", "attribute"),
    [
        (rtnl_change.delete_address(1, V4, 24), errno.EADDRNOTAVAIL, None),
        (rtnl_change.delete_link(999), errno.ENODEV, None),
        (rtnl_change.set_link(1, name="x" * 40), errno.ERANGE, "IFLA_IFNAME"),
        (rtnl_change.delete_route(AF_INET, FAR4, 24), errno.ESRCH, None),
        (rtnl_change.delete_rule(AF_INET, 999), errno.ENOENT, None),
        (rtnl_change.delete_qdisc(1), errno.ENOENT, None),
    ],
    ids=["no address", "no link", "a long name", "no route", "no rule", "no qdisc"],
)
def test_refusals(
    lone_host: Host, change: rtnl_change.Change, number: int, attribute: str | None
) -> None:
    with pytest.raises(KernelError) as refused:
        lone_host.change(change)
    assert refused.value.errno == number
    assert refused.value.command.startswith("RTM_")
    assert refused.value.attribute == attribute


def test_a_refusal_in_the_kernels_words(lone_host: Host) -> None:
    with pytest.raises(KernelError, match="RTM_NEWROUTE: Nexthop has invalid gateway"):
        lone_host.change(rtnl_change.add_route(AF_INET, via=GATEWAY[AF_INET], oif=1))


def test_a_second_link_of_the_same_name(two_hosts: TwoHosts) -> None:
    with pytest.raises(KernelError) as refused:
        two_hosts.lab.link(two_hosts.client, "eth0", (), two_hosts.server, "eth2", ())
    assert refused.value.errno == errno.EEXIST
    with two_hosts.server, pytest.raises(OSError):
        socket.if_nametoindex("eth2")
