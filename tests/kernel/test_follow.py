"""Endpoints follow links and addresses: lost carriers, renames, moves, DAD, lifetimes, bounces."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from lab import Lab, traffic, wait_until
from lab.network import add_address, delete_address
from mptcpd.nl import rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError
from tests.kernel.started import Shown, endpoints
from tests.kernel.uplinks import Following, Uplinks, change_address
from tests.kernel.watch import EventWatch

SECTIONS = """
interfaces=!docker*
[interface wwan*]
flags=subflow,backup
"""


@pytest.fixture
def net(lab: Lab) -> Uplinks:
    """eth0 with 10.0.1.1 and fd00:1::1, eth1 with 10.0.2.1."""
    return Uplinks(lab, ["10.0.1.1", "fd00:1::1"], "10.0.2.1")


@pytest.fixture
def watch(net: Uplinks) -> Iterator[EventWatch]:
    """The client's MPTCP events."""
    watch = EventWatch(net.client)
    yield watch
    watch.close()


def rename(net: Uplinks, index: int, name: str) -> None:
    """Rename an interface, while it is up where the kernel lets us (Linux 6.2)."""
    change = rtnl_change.set_link(net[index].ifindex, name=name)
    try:
        net.client.change(change)
    except KernelError:
        net[index].down()
        net.client.change(change)
        net[index].up()


# Interfaces


def test_a_pulled_cable_takes_every_address_of_the_interface(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    with Following(net.client, tmp_path) as daemon:
        before = daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")
        net.pull(0)
        assert daemon.until("10.0.2.1") == {"10.0.2.1": before["10.0.2.1"]}
        net.plug(0)
        assert daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1") == before


def test_ipv6_addresses_that_the_kernel_drops_on_the_way_down(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    with Following(net.client, tmp_path) as daemon:
        before = daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")
        net[0].down()
        daemon.until("10.0.2.1")
        net[0].up()
        assert "fd00:1::1" not in net.addresses(0)
        wait_until(net[0].running, "eth0 runs")
        daemon.until("10.0.1.1", "10.0.2.1")
        add_address(net[0], "fd00:1::1/64")
        assert daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1") == before


def test_what_changes_while_there_is_no_carrier_counts_when_it_is_back(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")
        net.pull(0)
        daemon.until("10.0.2.1")
        delete_address(net[0], "10.0.1.1/24")
        add_address(net[0], "10.0.1.9/24")
        daemon.caught_up()
        assert list(endpoints(net.client)) == ["10.0.2.1"]
        net.plug(0)
        daemon.until("10.0.1.9", "fd00:1::1", "10.0.2.1")


def test_the_subflow_goes_with_the_carrier_and_returns_with_it(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    net.server.mptcp.set_limits(subflows=2)
    net.client.change(net.default_route(1))
    with Following(net.client, tmp_path, "addresses=ipv4") as daemon:
        daemon.until("10.0.1.1", "10.0.2.1")
        connection = traffic.open_connection(net.client, net.server, "10.0.1.2")
        with connection.client, connection.server, connection.listener:

            def subflows() -> int:
                return traffic.info(connection.client).subflows

            wait_until(lambda: subflows() == 1, "a subflow over eth1")
            net.pull(1)
            wait_until(lambda: subflows() == 0, "no subflow over a dead link")
            net.plug(1)
            wait_until(lambda: subflows() == 1, "a subflow over eth1 again")
            connection.exchange()


def test_what_remains_is_made_anew_if_so_configured(
    net: Uplinks, watch: EventWatch, tmp_path: pathlib.Path
) -> None:
    """The subflow over the path that remains is another one, after one was lost."""
    net.server.mptcp.set_limits(subflows=2)
    for index in (0, 1):
        net.client.change(net.default_route(index, metric=100 + index))
    core = "addresses=ipv4\n[addr_adv]\nrenew-on-loss=yes"
    with Following(net.client, tmp_path, core) as daemon:
        before = daemon.until("10.0.1.1", "10.0.2.1")
        connection = traffic.open_connection(net.client, net.server, "10.0.1.2")
        with connection.client, connection.server, connection.listener:
            first = watch.find(u.MPTCP_EVENT_SUB_ESTABLISHED)
            net.pull(0)
            second = watch.find(u.MPTCP_EVENT_SUB_ESTABLISHED)
            assert first.local_ip == second.local_ip == ip_address("10.0.2.1").packed
            assert first.local_port != second.local_port
            assert daemon.until("10.0.2.1") == {"10.0.2.1": before["10.0.2.1"]}
            connection.exchange()
            wait_until(lambda: traffic.info(connection.client).subflows == 1, "one of the two")


def test_a_renamed_interface_gets_the_settings_of_its_new_name(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    with Following(net.client, tmp_path, SECTIONS) as daemon:
        before = daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")["10.0.2.1"]
        rename(net, 1, "wwan0")
        backup = before._replace(flags="subflow,backup")
        wait_until(lambda: endpoints(net.client).get("10.0.2.1") == backup, "flags of [wwan*]")
        rename(net, 1, "docker7")
        daemon.until("10.0.1.1", "fd00:1::1")
        rename(net, 1, "eth9")
        assert daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")["10.0.2.1"] == before


def test_a_new_name_that_only_makes_it_a_backup_closes_no_subflow(
    net: Uplinks, watch: EventWatch, tmp_path: pathlib.Path
) -> None:
    net.server.mptcp.set_limits(subflows=2)
    net.client.change(net.default_route(1))
    with Following(net.client, tmp_path, f"addresses=ipv4\n{SECTIONS}") as daemon:
        daemon.until("10.0.1.1", "10.0.2.1")
        connection = traffic.open_connection(net.client, net.server, "10.0.1.2")
        server = EventWatch(net.server)
        with connection.client, connection.server, connection.listener:
            watch.find(u.MPTCP_EVENT_SUB_ESTABLISHED)
            try:
                net.client.change(rtnl_change.set_link(net[1].ifindex, name="wwan0"))
            except KernelError:
                pytest.skip("this kernel renames no interface that is up (before Linux 6.2)")
            assert server.find(u.MPTCP_EVENT_SUB_PRIORITY).backup == 1
            assert endpoints(net.client)["10.0.2.1"].flags == "subflow,backup"
            assert watch.so_far() == []
        server.close()


def test_an_interface_moves_to_another_namespace_and_back(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    other = net.lab.host("other")
    with Following(net.client, tmp_path) as daemon:
        before = daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")
        net.client.change(rtnl_change.set_link(net[1].ifindex, netns=other.fd))
        daemon.until("10.0.1.1", "fd00:1::1")
        other.change(rtnl_change.set_link(other.ifindex("eth1"), netns=net.client.fd))
        number = net.client.ifindex("eth1")
        net.client.change(rtnl_change.set_link(number, up=True))
        daemon.caught_up()
        assert "10.0.2.1" not in endpoints(net.client)  # the move took the address, too
        add_address(net[1]._replace(ifindex=number), "10.0.2.1/24")
        after = daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")
        assert after["10.0.2.1"] == before["10.0.2.1"]._replace(ifindex=number)


# Addresses


def start_dad(net: Uplinks, index: int, milliseconds: int) -> None:
    """Let the kernel look for duplicates of new IPv6 addresses, for so long."""
    for setting, value in (
        ("conf.{}.accept_dad", 1),
        ("conf.{}.dad_transmits", 1),
        ("conf.{}.router_solicitation_delay", 0),  # DAD waits for a random part of it
        ("neigh.{}.retrans_time_ms", milliseconds),
    ):
        net.client.set_sysctl("net.ipv6." + setting.format(net[index].name), value)


def test_a_tentative_address_is_used_when_dad_has_ended(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    start_dad(net, 1, 300)
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")
        change_address(net[1], "fd00:2::1", flags=0)
        assert net.addresses(1)["fd00:2::1"].flags & u.IFA_F_TENTATIVE
        wait_until(lambda: "fd00:2::1" in endpoints(net.client), "it is used")
        assert not net.addresses(1)["fd00:2::1"].flags & u.IFA_F_TENTATIVE
        number = net[1].ifindex
        assert endpoints(net.client)["fd00:2::1"] == Shown(4, "subflow", number)


def test_a_duplicate_address_is_not_used(net: Uplinks, tmp_path: pathlib.Path) -> None:
    start_dad(net, 1, 50)
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")
        change_address(net[1], "fd00:2::2", flags=0)  # the server's
        wait_until(
            lambda: net.addresses(1)["fd00:2::2"].flags & u.IFA_F_DADFAILED, "DAD has failed"
        )
        daemon.caught_up()
        assert "fd00:2::2" not in endpoints(net.client)


@pytest.mark.parametrize("ip", ["10.0.2.7", "fd00:2::7"])
def test_a_deprecated_address_is_not_used(
    net: Uplinks, tmp_path: pathlib.Path, ip: str
) -> None:
    change_address(net[1], ip, preferred=1000, valid=2000)
    with Following(net.client, tmp_path) as daemon:
        before = daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1", ip)[ip]
        change_address(net[1], ip, preferred=900, valid=3000)  # a lifetime is no reason
        daemon.caught_up()
        assert daemon.times(f"Endpoint {ip}: ") == 1
        change_address(net[1], ip, preferred=0, valid=2000)
        daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")
        change_address(net[1], ip, preferred=1000, valid=2000)
        assert daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1", ip)[ip] == before


def test_a_preferred_lifetime_ends_by_itself(net: Uplinks, tmp_path: pathlib.Path) -> None:
    with Following(net.client, tmp_path) as daemon:
        change_address(net[1], "fd00:2::7", preferred=1, valid=1000)
        daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1", "fd00:2::7")
        daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")
        assert net.addresses(1)["fd00:2::7"].flags & u.IFA_F_DEPRECATED


def test_flags_that_do_not_matter_change_nothing(net: Uplinks, tmp_path: pathlib.Path) -> None:
    with Following(net.client, tmp_path) as daemon:
        before = daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")
        for ip in ("10.0.1.1", "fd00:1::1"):
            change_address(net[0], ip, flags=u.IFA_F_NOPREFIXROUTE)
        net.client.change(rtnl_change.set_link(net[0].ifindex, mtu=1400))
        daemon.caught_up()
        assert endpoints(net.client) == before
        assert daemon.times("Endpoint ") == len(before)


def test_a_point_to_point_address_under_two_peers(net: Uplinks, tmp_path: pathlib.Path) -> None:
    """It is one address, there as long as either is; the peers are none of ours."""
    with Following(net.client, tmp_path) as daemon:
        for peer in ("10.5.0.2", "10.5.0.3"):
            change_address(net[1], "10.5.0.1", peer=peer)
        daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1", "10.5.0.1")
        for peer in ("10.5.0.2", "10.5.0.3"):
            daemon.caught_up()
            assert "10.5.0.1" in endpoints(net.client)
            local, far = (bytes((10, 5, 0, end)) for end in (1, int(peer[-1])))
            net.client.change(rtnl_change.delete_address(net[1].ifindex, local, 32, far))
        daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")
        assert daemon.times("Endpoint 10.5.0.1: ") == 1


@pytest.mark.parametrize("first", ["added", "deleted"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_an_address_moves_to_another_interface_with_its_id(
    net: Uplinks, tmp_path: pathlib.Path, first: str, way: str
) -> None:
    here, there = (net[0], net[1]) if way == "up" else (net[1], net[0])
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1")
        add_address(here, "10.0.9.1/24")
        before = daemon.until("10.0.1.1", "fd00:1::1", "10.0.2.1", "10.0.9.1")["10.0.9.1"]
        delete_address(net[0], "10.0.1.1/24")  # its ID is lower, and free now
        daemon.until("fd00:1::1", "10.0.2.1", "10.0.9.1")
        if first == "added":
            add_address(there, "10.0.9.1/24")
            daemon.caught_up()
        delete_address(here, "10.0.9.1/24")
        if first == "deleted":
            daemon.until("fd00:1::1", "10.0.2.1")
            add_address(there, "10.0.9.1/24")
        moved = before._replace(ifindex=there.ifindex)
        wait_until(lambda: endpoints(net.client).get("10.0.9.1") == moved, "it has moved")


# What was lost, and what bounces


def test_lost_notifications_lead_to_the_same_end(net: Uplinks, tmp_path: pathlib.Path) -> None:
    with Following(net.client, tmp_path, "addresses=ipv4", small_buffer=True) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1")
        for flags in (u.IFA_F_NOPREFIXROUTE, 0):  # so many that what comes after them is lost
            daemon.freeze()
            for _ in range(100):
                change_address(net[1], "10.0.2.1", flags=flags)
            if flags:
                net.pull(0)
                delete_address(net[1], "10.0.2.1/24")
                add_address(net[1], "10.0.2.3/24")
            else:
                net.plug(0)
                delete_address(net[1], "10.0.2.1/24")
            daemon.thaw()
            daemon.until(*(["10.0.2.3"] if flags else ["10.0.1.1", "10.0.2.3"]))
        assert daemon.times("reading links and addresses anew") == 2


def test_a_bouncing_link_is_believed_when_it_stays(net: Uplinks, tmp_path: pathlib.Path) -> None:
    core = "hold-down-return=1s\naddresses=ipv4"
    with Following(net.client, tmp_path, core) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1")
        for _ in range(5):
            net.pull(0)
            daemon.until("10.0.2.1")
            back = time.monotonic()
            net.plug(0)
            daemon.caught_up()
            assert "10.0.1.1" not in endpoints(net.client)
        daemon.until("10.0.1.1", "10.0.2.1")
        assert time.monotonic() - back > 0.9
        assert daemon.times("Endpoint 10.0.1.1: ") == 2


def test_a_link_that_comes_up_for_the_first_time_is_believed_at_once(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    net[0].down()
    with Following(net.client, tmp_path, "hold-down-return=60s\naddresses=ipv4") as daemon:
        daemon.until("10.0.2.1")
        net[0].up()
        daemon.until("10.0.1.1", "10.0.2.1")


def test_a_short_loss_is_not_believed_if_so_configured(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    core = "hold-down-loss=1s\nhold-down-return=0\naddresses=ipv4"
    with Following(net.client, tmp_path, core) as daemon:
        before = daemon.until("10.0.1.1", "10.0.2.1")
        for _ in range(5):
            net.pull(0)
            daemon.caught_up()
            net.plug(0)
        daemon.caught_up()
        assert endpoints(net.client) == before
        assert daemon.times("Endpoint 10.0.1.1: ") == 1
        gone = time.monotonic()
        net.pull(0)
        daemon.until("10.0.2.1")
        assert time.monotonic() - gone > 0.9
