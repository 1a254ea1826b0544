"""check_route: an address is used while a default route serves it, and no longer."""

from __future__ import annotations

import pathlib
from ipaddress import ip_address
from struct import Struct

import pytest

from lab import Host, Lab, wait_until
from lab.network import add_address, delete_address
from mptcpd.nl import rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import Encoder
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from mptcpd.nl.rtnl_change import Change
from mptcpd.nl.sock import CommandSocket
from tests.kernel.started import endpoints
from tests.kernel.uplinks import Following, Uplinks, default_gone

CORE = "notify-flags=existing,skip_link_local,skip_loopback,check_route"
both_families = pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["ipv4", "ipv6"])
IPS = {AF_INET: ("10.0.1.1", "10.0.2.1"), AF_INET6: ("fd00:1::1", "fd00:2::1")}


@pytest.fixture
def net(lab: Lab) -> Uplinks:
    return Uplinks(lab, ["10.0.1.1", "fd00:1::1"], ["10.0.2.1", "fd00:2::1"])


def packed(text: str) -> bytes:
    return ip_address(text).packed


def rule(ip: str, table: int, priority: int = 100) -> Change:
    """``ip rule add from IP lookup TABLE``."""
    source = packed(ip)
    family = AF_INET if len(source) == 4 else AF_INET6
    return rtnl_change.add_rule(family, table, source, 8 * len(source), priority)


def no_rule(ip: str, table: int) -> Change:
    source = packed(ip)
    family = AF_INET if len(source) == 4 else AF_INET6
    return rtnl_change.delete_rule(family, table, source, 8 * len(source))


@both_families
def test_of_several_default_routes_the_last_one_counts(
    net: Uplinks, tmp_path: pathlib.Path, family: int
) -> None:
    ip = IPS[family][0]
    with Following(net.client, tmp_path, CORE) as daemon:
        assert endpoints(net.client) == {}
        for metric in (10, 20):
            net.client.change(net.default_route(0, family, metric=metric))
        daemon.until(ip)
        net.client.change(default_gone(net[0], family, metric=10))
        daemon.caught_up()
        assert list(endpoints(net.client)) == [ip]
        net.client.change(default_gone(net[0], family, metric=20))
        daemon.until()


@both_families
def test_each_interface_needs_one_of_its_own(
    net: Uplinks, tmp_path: pathlib.Path, family: int
) -> None:
    first, second = IPS[family]
    with Following(net.client, tmp_path, CORE) as daemon:
        net.client.change(net.default_route(1, family, metric=200))
        daemon.until(second)
        net.client.change(net.default_route(0, family, metric=100))
        daemon.until(first, second)
        net.client.change(default_gone(net[1], family))
        daemon.until(first)


@both_families
def test_a_table_for_each_uplink(net: Uplinks, tmp_path: pathlib.Path, family: int) -> None:
    """The main table has no default route at all; rules choose by source address."""
    first, second = IPS[family]
    with Following(net.client, tmp_path, CORE) as daemon:
        for index, ip in enumerate((first, second)):
            net.client.change(rule(ip, 100 + index))
        daemon.caught_up()
        assert endpoints(net.client) == {}
        net.client.change(net.default_route(0, family, table=100))
        daemon.until(first)
        net.client.change(net.default_route(1, family, table=101))
        daemon.until(first, second)
        # A table that serves the other uplink's address is of no use.
        net.client.change(no_rule(second, 101), rule(second, 100))
        daemon.until(first)
        net.client.change(no_rule(second, 100), rule(second, 101))
        daemon.until(first, second)
        net.client.change(default_gone(net[0], family, table=100))
        daemon.until(second)


def test_a_rule_that_forbids_comes_before_the_main_table(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    with Following(net.client, tmp_path, CORE) as daemon:
        for index in (0, 1):
            net.client.change(net.default_route(index, metric=100 + index))
        daemon.until("10.0.1.1", "10.0.2.1")
        net.client.change(rtnl_change.add_route(AF_INET, table=7, kind=u.RTN_UNREACHABLE))
        net.client.change(rule("10.0.1.1", 7))
        daemon.until("10.0.2.1")
        net.client.change(rtnl_change.delete_route(AF_INET, table=7))
        daemon.until("10.0.1.1", "10.0.2.1")


@pytest.mark.parametrize("kind", [u.RTN_UNREACHABLE, u.RTN_BLACKHOLE, u.RTN_PROHIBIT])
def test_a_route_to_nowhere_takes_the_place_of_a_default_route(
    net: Uplinks, tmp_path: pathlib.Path, kind: int
) -> None:
    with Following(net.client, tmp_path, CORE) as daemon:
        net.client.change(net.default_route(0, metric=100))
        daemon.until("10.0.1.1")
        net.client.change(rtnl_change.add_route(AF_INET, kind=kind, metric=50))
        daemon.until()
        net.client.change(rtnl_change.delete_route(AF_INET, metric=50))
        daemon.until("10.0.1.1")
        assert "Unable" not in daemon.said


def test_what_is_no_default_route_is_none(net: Uplinks, tmp_path: pathlib.Path) -> None:
    with Following(net.client, tmp_path, CORE) as daemon:
        for dst, length in (("192.0.2.0", 24), ("0.0.0.0", 1), ("128.0.0.0", 1)):
            net.client.change(
                rtnl_change.add_route(AF_INET, packed(dst), length, oif=net[0].ifindex)
            )
        daemon.caught_up()
        assert endpoints(net.client) == {}


def test_routes_that_go_with_an_address_or_a_link(net: Uplinks, tmp_path: pathlib.Path) -> None:
    """The kernel drops them in silence, some of them."""
    add_address(net[0], "10.0.1.8/32")
    add_address(net[0], "10.0.1.9/32")
    delete_address(net[1], "10.0.2.1/24")
    with Following(net.client, tmp_path, CORE) as daemon:
        net.client.change(net.default_route(0, prefsrc=packed("10.0.1.9")))
        daemon.until("10.0.1.1", "10.0.1.8", "10.0.1.9")
        delete_address(net[0], "10.0.1.9/32")  # and the route that prefers it
        daemon.until()
        net.client.change(net.default_route(0))
        daemon.until("10.0.1.1", "10.0.1.8")
        net[0].down()
        daemon.until()
        net[0].up()
        wait_until(net[0].running, "eth0 runs")
        daemon.caught_up()
        assert endpoints(net.client) == {}
        net.client.change(net.default_route(0))
        daemon.until("10.0.1.1", "10.0.1.8")


def test_a_pulled_cable_leaves_routes_but_no_endpoints(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    with Following(net.client, tmp_path, CORE) as daemon:
        for family in IPS:
            net.client.change(net.default_route(0, family))
        daemon.until("10.0.1.1", "fd00:1::1")
        net.pull(0)
        daemon.until()
        assert any(not route.dst_len for route in net.client.network.routes(AF_INET))
        net.plug(0)
        daemon.until("10.0.1.1", "fd00:1::1")


def test_a_route_that_was_there_before(net: Uplinks, tmp_path: pathlib.Path) -> None:
    net.client.change(net.default_route(1), net.default_route(0, AF_INET6))
    with Following(net.client, tmp_path, CORE) as daemon:
        daemon.until("10.0.2.1", "fd00:1::1")


# Nexthop objects (ip nexthop): routes that refer to one go with it.

_NHMSG = Struct("=BBBxI")  # family, scope, protocol, flags; linux/nexthop.h
_RTMSG = Struct("=8BI")
NHA_ID, NHA_OIF, RTA_NH_ID = 1, 5, 30
NEW = u.NLM_F_ACK | u.NLM_F_CREATE


def ask(host: Host, kind: int, flags: int, body: bytes) -> None:
    with host:
        commands = CommandSocket(u.NETLINK_ROUTE)
    try:
        commands.request(kind, body, "nexthop", flags=flags)
    finally:
        commands.close()


@both_families
def test_a_nexthop_object_goes_with_its_routes(
    net: Uplinks, tmp_path: pathlib.Path, family: int
) -> None:
    encoder = Encoder(64)
    nexthop = encoder.start(_NHMSG.pack(family, 0, 0, 0)).u32(NHA_ID, 1)
    nexthop_bytes = nexthop.u32(NHA_OIF, net[0].ifindex).finish()
    head = _RTMSG.pack(family, 0, 0, 0, u.RT_TABLE_MAIN, 4, u.RT_SCOPE_UNIVERSE, u.RTN_UNICAST, 0)
    route = encoder.start(head).u32(RTA_NH_ID, 1).finish()
    gone = encoder.start(_NHMSG.pack(0, 0, 0, 0)).u32(NHA_ID, 1).finish()
    with Following(net.client, tmp_path, CORE) as daemon:
        for _ in range(2):
            ask(net.client, u.RTM_NEWNEXTHOP, NEW, nexthop_bytes)
            ask(net.client, u.RTM_NEWROUTE, NEW, route)
            daemon.until(IPS[family][0])
            ask(net.client, u.RTM_DELNEXTHOP, u.NLM_F_ACK, gone)
            daemon.until()
