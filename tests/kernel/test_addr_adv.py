"""addr_adv on this kernel: the daemon runs as its user starts it, the network changes around it."""

from __future__ import annotations

import contextlib
import pathlib
import random
import re
import time
from ipaddress import ip_address

import pytest

from lab import Lab, traffic, wait_until
from lab.network import Interface, Link, add_address, add_default_route, delete_address
from mptcpd.nl import rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import AF_INET, AF_INET6, Address
from tests.kernel.conftest import TwoHosts
from tests.kernel.started import Shown, Started, endpoints, foreign, limits
from tests.kernel.watch import EventWatch, use_userspace_pm


class Net:
    """A client with one link or more to a server, without any default route."""

    def __init__(self, lab: Lab, *addresses: str) -> None:
        self.lab = lab
        self.client, self.server = lab.host("client"), lab.host("server")
        self.links: list[Link] = []
        self.join(*addresses)

    def join(self, *addresses: str) -> Interface:
        name = f"eth{len(self.links)}"
        self.links.append(self.lab.link(self.client, name, addresses, self.server, name, ()))
        return self.links[-1].one

    @property
    def eth0(self) -> Interface:
        return self.links[0].one


@pytest.fixture
def net(lab: Lab) -> Net:
    return Net(lab, "10.0.1.1/24")


def warned(daemon: Started) -> list[str]:
    """Everything that it said beside the usual."""
    usual = re.compile(r"Endpoint \S+: ID \d+ on ifindex \d+\.$")
    return [line for line in daemon.lines if not usual.match(line)]


# The usual


def test_addresses_come_and_go(net: Net, tmp_path: pathlib.Path) -> None:
    with Started(net.client, tmp_path) as daemon:
        assert daemon.until("10.0.1.1") == {"10.0.1.1": Shown(1, "subflow", net.eth0.ifindex)}
        assert limits(net.client) == (3, 3)
        add_address(net.eth0, "10.0.2.1/24")
        add_address(net.eth0, "fd00:1::1/64")
        found = daemon.until("10.0.1.1", "10.0.2.1", "fd00:1::1")
        assert {shown.id for shown in found.values()} == {1, 2, 3}
        assert limits(net.client) == (5, 5)
        delete_address(net.eth0, "10.0.1.1/24")
        delete_address(net.eth0, "fd00:1::1/64")
        daemon.until("10.0.2.1")
        wait_until(lambda: limits(net.client) == (3, 3), "limits for one address")
        assert daemon.stop() == 0
        assert warned(daemon) == []
    assert list(endpoints(net.client)) == ["10.0.2.1"]  # a restart is not to disturb traffic


def test_nothing_of_loopback_and_link_local(net: Net, tmp_path: pathlib.Path) -> None:
    """lo has 127.0.0.1, eth0 a link-local address that the kernel made by itself."""
    ours = [value for value in net.client.network.addresses() if value.scope != 0]
    assert {value.scope for value in ours} >= {u.RT_SCOPE_HOST, u.RT_SCOPE_LINK}
    with Started(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        daemon.stop()
    assert list(endpoints(net.client)) == ["10.0.1.1"]


def test_existing_addresses_only_if_wanted(net: Net, tmp_path: pathlib.Path) -> None:
    with Started(net.client, tmp_path, "--notify-flags=skip_link_local", "--debug") as daemon:
        daemon.until_ready()
        add_address(net.eth0, "10.0.2.1/24")
        daemon.until("10.0.2.1")


def test_carrier_lost_and_back(net: Net, tmp_path: pathlib.Path) -> None:
    net.join("10.0.2.1/24")
    with Started(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1")
        net.links[0].other.down()  # the cable is pulled
        daemon.until("10.0.2.1")
        net.links[0].other.up()
        daemon.until("10.0.1.1", "10.0.2.1")
        net.eth0.down()  # the administrator's doing
        daemon.until("10.0.2.1")
        net.eth0.up()
        daemon.until("10.0.1.1", "10.0.2.1")
        assert warned(daemon) == []


def test_an_interface_is_deleted(net: Net, tmp_path: pathlib.Path) -> None:
    net.join("10.0.2.1/24", "10.0.2.2/24")
    with Started(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1", "10.0.2.2")
        net.client.change(rtnl_change.delete_link(net.links[1].one.ifindex))
        daemon.until("10.0.1.1")
        name = net.join("10.0.3.1/24").name
        found = daemon.until("10.0.1.1", "10.0.3.1")
        assert found["10.0.3.1"].ifindex == net.client.ifindex(name)


def test_an_interface_is_renamed_and_moved(net: Net, tmp_path: pathlib.Path) -> None:
    with Started(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        other = net.join("10.0.2.1/24")
        daemon.until("10.0.1.1", "10.0.2.1")
        net.client.change(rtnl_change.set_link(other.ifindex, up=False))
        net.client.change(rtnl_change.set_link(other.ifindex, name="wan", up=True))
        daemon.until("10.0.1.1", "10.0.2.1")
        net.client.change(rtnl_change.set_link(other.ifindex, netns=net.server.fd))
        daemon.until("10.0.1.1")


def test_one_ip_on_two_interfaces(net: Net, tmp_path: pathlib.Path) -> None:
    second = net.join("10.0.1.1/32")
    with Started(net.client, tmp_path) as daemon:
        assert daemon.until("10.0.1.1")["10.0.1.1"].ifindex == net.eth0.ifindex
        delete_address(net.eth0, "10.0.1.1/24")
        wait_until(
            lambda: [e.ifindex for e in endpoints(net.client).values()] == [second.ifindex],
            "the endpoint on the other interface",
        )
        delete_address(second, "10.0.1.1/32")
        daemon.until()
        assert warned(daemon) == []


def test_the_far_end_of_a_point_to_point_link_is_not_ours(
    net: Net, tmp_path: pathlib.Path
) -> None:
    peer = ip_address("10.5.0.2").packed
    local = ip_address("10.5.0.1").packed
    net.client.change(rtnl_change.add_address(net.eth0.ifindex, local, 32, peer=peer))
    with Started(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "10.5.0.1")


# Flags and limits


@pytest.mark.parametrize(
    ("flags", "shown", "accepted"),
    [
        ("subflow", "subflow", 3),
        ("signal", "signal", 0),
        ("signal,subflow,backup", "signal,subflow,backup", 3),
        ("fullmesh,subflow,", "subflow,fullmesh", 3),
        ("", "", 0),
    ],
)
def test_address_flags(
    net: Net, tmp_path: pathlib.Path, flags: str, shown: str, accepted: int
) -> None:
    with Started(net.client, tmp_path, f"--addr-flags={flags}") as daemon:
        assert daemon.until("10.0.1.1")["10.0.1.1"].flags == shown
        assert limits(net.client) == (3, accepted)


def test_the_command_line_counts_more_than_the_file(net: Net, tmp_path: pathlib.Path) -> None:
    core = "load-plugins=addr_adv\naddr-flags=signal\nnotify-flags=\n"
    notify = "--notify-flags=existing,skip_link_local"
    with Started(net.client, tmp_path, notify, core=core) as daemon:
        assert daemon.until("10.0.1.1")["10.0.1.1"].flags == "signal"


def test_limits_stay_above_what_was_found(net: Net, tmp_path: pathlib.Path) -> None:
    net.client.mptcp.set_limits(subflows=4, add_addr_accepted=1)
    with Started(net.client, tmp_path, "--addr-flags=signal") as daemon:
        daemon.until("10.0.1.1")
        assert limits(net.client) == (4, 1)
        add_address(net.eth0, "10.0.2.1/24")
        add_address(net.eth0, "10.0.3.1/24")
        daemon.until("10.0.1.1", "10.0.2.1", "10.0.3.1")
        assert limits(net.client) == (5, 1)
        for text in ("10.0.1.1/24", "10.0.2.1/24", "10.0.3.1/24"):
            delete_address(net.eth0, text)
        daemon.until()
        wait_until(lambda: limits(net.client) == (4, 1), "limits as they were found")


# Routes


def test_a_default_route_comes_late_and_goes(net: Net, tmp_path: pathlib.Path) -> None:
    add_address(net.eth0, "fd00:1::1/64")
    second = net.join("10.0.2.1/24")
    flags = "--notify-flags=existing,skip_link_local,skip_loopback,check_route"
    with Started(net.client, tmp_path, flags) as daemon:
        wait_until(lambda: limits(net.client) == (2, 2), "the daemon at work")
        add_default_route(net.eth0, "10.0.1.2")
        daemon.until("10.0.1.1")
        add_default_route(second, "10.0.2.2", metric=200)
        daemon.until("10.0.1.1", "10.0.2.1")
        add_default_route(net.eth0, "fd00:1::2")
        daemon.until("10.0.1.1", "10.0.2.1", "fd00:1::1")
        net.client.change(rtnl_change.delete_route(AF_INET6, oif=net.eth0.ifindex))
        daemon.until("10.0.1.1", "10.0.2.1")
        net.client.change(rtnl_change.delete_route(AF_INET, oif=net.eth0.ifindex))
        daemon.until("10.0.2.1")
        assert warned(daemon) == []


def test_a_default_route_in_a_table_of_the_address(net: Net, tmp_path: pathlib.Path) -> None:
    """A machine with two uplinks has "ip rule from ADDRESS lookup TABLE" for each."""
    source = ip_address("10.0.1.1").packed
    flags = "--notify-flags=existing,skip_link_local,skip_loopback,check_route"
    with Started(net.client, tmp_path, flags) as daemon:
        wait_until(lambda: limits(net.client) == (2, 2), "the daemon at work")
        via = ip_address("10.0.1.2").packed
        route = rtnl_change.add_route(AF_INET, via=via, oif=net.eth0.ifindex, table=100)
        net.client.change(route)
        net.client.change(rtnl_change.add_rule(AF_INET, 100, source, 32))
        daemon.until("10.0.1.1")
        net.client.change(rtnl_change.delete_rule(AF_INET, 100, source, 32))
        daemon.until()


@pytest.mark.parametrize("kind", [u.RTN_UNREACHABLE, u.RTN_BLACKHOLE, u.RTN_PROHIBIT])
def test_a_default_route_that_leads_nowhere(
    net: Net, tmp_path: pathlib.Path, kind: int
) -> None:
    flags = "--notify-flags=existing,skip_link_local,skip_loopback,check_route"
    for family in (AF_INET, AF_INET6):
        net.client.change(rtnl_change.add_route(family, kind=kind, metric=5))
    add_address(net.eth0, "fd00:1::1/64")
    with Started(net.client, tmp_path, flags) as daemon:
        second = net.join("10.0.2.1/24")
        add_default_route(second, "10.0.2.2", metric=1)
        daemon.until("10.0.2.1")
        assert warned(daemon) == []


# IPv6


def test_a_tentative_address_waits(net: Net, tmp_path: pathlib.Path) -> None:
    net.client.set_sysctl("net.ipv6.conf.eth0.accept_dad", 1)
    net.client.set_sysctl("net.ipv6.neigh.eth0.retrans_time_ms", 200)
    ip = ip_address("fd00:1::1").packed

    def tentative() -> bool:
        (found,) = [value for value in net.client.network.addresses() if value.ip == ip]
        return bool(found.flags & u.IFA_F_TENTATIVE)

    with Started(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        net.client.change(rtnl_change.add_address(net.eth0.ifindex, ip, 64))
        assert tentative()
        while True:
            there = "fd00:1::1" in endpoints(net.client)
            if not tentative():
                break
            assert not there  # it was tentative before and after
        daemon.until("10.0.1.1", "fd00:1::1")


def test_a_duplicate_address_is_never_used(net: Net, tmp_path: pathlib.Path) -> None:
    """And one that is no longer preferred is not used any more."""
    net.client.set_sysctl("net.ipv6.conf.eth0.accept_dad", 1)
    net.client.set_sysctl("net.ipv6.neigh.eth0.retrans_time_ms", 200)
    add_address(net.links[0].other, "fd00:1::7/64")
    ip = ip_address("fd00:1::7").packed

    def failed() -> bool:
        found = [value for value in net.client.network.addresses() if value.ip == ip]
        return bool(found and found[0].flags & u.IFA_F_DADFAILED)

    with Started(net.client, tmp_path) as daemon:
        net.client.change(rtnl_change.add_address(net.eth0.ifindex, ip, 64))
        wait_until(failed, "the address found to be a duplicate")
        add_address(net.eth0, "fd00:1::8/64")
        daemon.until("10.0.1.1", "fd00:1::8")
        other = ip_address("fd00:1::8").packed
        net.client.change(
            rtnl_change.add_address(
                net.eth0.ifindex, other, 64, flags=u.IFA_F_NODAD, preferred=0, valid=60
            )
        )
        daemon.until("10.0.1.1")


# Endpoints of others, and of an earlier run


def test_somebody_elses_endpoint_is_left_alone(net: Net, tmp_path: pathlib.Path) -> None:
    foreign(net.client, "10.0.1.1", 1, "signal")
    foreign(net.client, "10.9.9.9", 2, "signal")
    before = endpoints(net.client)
    with Started(net.client, tmp_path) as daemon:
        for text in ("10.0.2.1/24", "10.0.3.1/24"):
            add_address(net.eth0, text)
        found = daemon.until("10.0.1.1", "10.9.9.9", "10.0.2.1", "10.0.3.1")
        assert before.items() <= found.items()
        assert warned(daemon) == ["Somebody else's endpoint for 10.0.1.1 is left as it is."]
        net.eth0.down()
        daemon.until("10.0.1.1", "10.9.9.9")
        assert endpoints(net.client) == before
        assert daemon.stop() == 0
    assert endpoints(net.client) == before


def test_somebody_elses_endpoint_in_a_full_kernel(net: Net, tmp_path: pathlib.Path) -> None:
    foreign(net.client, "10.0.1.1", 1, "signal")
    for number in range(2, 12):
        add_address(net.eth0, f"10.0.{number}.1/24")
    with Started(net.client, tmp_path) as daemon:
        wait_until(lambda: len(endpoints(net.client)) == 8, "8 endpoints")
        daemon.until_said("is not used for now")
        before = endpoints(net.client)
        delete_address(net.eth0, "10.0.11.1/24")  # it waits
        add_address(net.eth0, "10.0.12.1/24")
        delete_address(net.eth0, "10.0.2.1/24")
        wait_until(lambda: "10.0.9.1" in endpoints(net.client), "the next in line")
        # Nobody else gave way, not even for a moment: an ID that is added anew changes.
        after = endpoints(net.client)
        for ip in set(before) - {"10.0.2.1"}:
            assert after[ip] == before[ip]
        assert len(warned(daemon)) == 2


@pytest.mark.parametrize("end", ["terminated", "killed"])
def test_a_restart_keeps_what_is_still_right(
    net: Net, tmp_path: pathlib.Path, end: str
) -> None:
    add_address(net.eth0, "10.0.2.1/24")
    add_address(net.eth0, "10.0.3.1/24")
    foreign(net.client, "10.9.9.9", 2, "signal")
    with Started(net.client, tmp_path) as daemon:
        before = daemon.until("10.0.1.1", "10.0.2.1", "10.0.3.1", "10.9.9.9")
        if end == "terminated":
            assert daemon.stop() == 0
    assert endpoints(net.client) == before
    delete_address(net.eth0, "10.0.1.1/24")
    add_address(net.eth0, "10.0.4.1/24")
    with Started(net.client, tmp_path) as daemon:
        after = daemon.until("10.0.2.1", "10.0.3.1", "10.0.4.1", "10.9.9.9")
        assert {ip: after[ip] for ip in after if ip in before} == {
            ip: before[ip] for ip in before if ip in after
        }
        wait_until(lambda: limits(net.client) == (5, 5), "limits for three addresses")
        assert not any("Traceback" in line or "refused" in line for line in daemon.lines)


def test_an_id_that_was_given_to_another(net: Net, tmp_path: pathlib.Path) -> None:
    """An administrator flushes the endpoints and adds his own; ours go, his must not."""
    with Started(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        net.client.mptcp.flush_addrs()
        foreign(net.client, "10.9.9.1", 1, "signal")
        foreign(net.client, "10.9.9.2", 2, "signal")
        foreign(net.client, "10.9.9.3", 3, "signal")
        before = endpoints(net.client)
        delete_address(net.eth0, "10.0.1.1/24")
        daemon.until_said("The endpoint of 10.0.1.1 (ID 1) was gone already.")
        add_address(net.eth0, "10.0.2.1/24")
        after = daemon.until("10.9.9.1", "10.9.9.2", "10.9.9.3", "10.0.2.1")
        assert before.items() <= after.items()


def test_an_implicit_endpoint_gives_way(two_hosts: TwoHosts, tmp_path: pathlib.Path) -> None:
    """The kernel makes one when a peer joins to an address that has none."""
    client, server = two_hosts.client, two_hosts.server
    use_userspace_pm(client)
    with contextlib.ExitStack() as stack:
        # At every address of the server, or the join would find nobody.
        listener = stack.enter_context(traffic.listen(server, "0.0.0.0"))
        port = listener.getsockname()[1]
        ours = stack.enter_context(traffic.connect(client, "10.0.1.2", port))
        theirs = stack.enter_context(listener.accept()[0])
        watch = stack.enter_context(contextlib.closing(EventWatch(client)))
        connection = traffic.Connection(ours, theirs, listener)
        connection.exchange()
        watch.find(u.MPTCP_EVENT_ESTABLISHED)
        client.mptcp.subflow_create(
            connection.token,
            Address(ip_address("10.0.2.1").packed, id=5),
            Address(ip_address("10.0.2.2").packed, port),
        )
        wait_until(lambda: endpoints(server), "the implicit endpoint")
        ((ip, implicit),) = endpoints(server).items()
        assert (ip, implicit.flags) == ("10.0.2.2", "implicit")
        with Started(server, tmp_path, "--addr-flags=signal") as daemon:
            wait_until(lambda: endpoints(server)[ip].flags == "signal", "an endpoint of ours")
            assert endpoints(server)[ip].id == implicit.id
            wait_until(lambda: "10.0.1.2" in endpoints(server), "the other endpoints")
            assert warned(daemon) == []


# Too many


def test_more_addresses_than_the_kernel_has_room_for(net: Net, tmp_path: pathlib.Path) -> None:
    for number in range(2, 13):
        add_address(net.eth0, f"10.0.{number}.1/24")
    first = [f"10.0.{number}.1" for number in range(1, 9)]
    with Started(net.client, tmp_path) as daemon:
        daemon.until(*first)
        assert limits(net.client) == (8, 8)
        for number in (8, 3, 5):
            delete_address(net.eth0, f"10.0.{number}.1/24")
        left = [f"10.0.{number}.1" for number in (1, 2, 4, 6, 7, 9, 10, 11)]
        daemon.until(*left)
        (warning,) = warned(daemon)
        assert warning == (
            "10.0.9.1 is not used for now: the kernel has room for 8 endpoints. "
            "Addresses beyond that wait for a free one."
        )
        for number in (9, 10, 11, 12):
            delete_address(net.eth0, f"10.0.{number}.1/24")
        daemon.until(*(f"10.0.{number}.1" for number in (1, 2, 4, 6, 7)))
        wait_until(lambda: limits(net.client) == (7, 7), "limits for five addresses")


@pytest.mark.parametrize(("seed", "left"), [(1, 0), (2, 5), (3, 7), (4, 60)])
def test_a_storm(net: Net, tmp_path: pathlib.Path, seed: int, left: int) -> None:
    """200 addresses are added and removed in any order, again and again, while a link flaps."""
    dice = random.Random(seed)
    delete_address(net.eth0, "10.0.1.1/24")
    ends = (net.eth0, net.join())
    add_address(net.join(), "10.2.0.1/24")
    flapping = net.links[2].other
    with Started(net.client, tmp_path) as daemon:
        daemon.until("10.2.0.1")
        present: dict[str, Interface] = {}
        began = time.monotonic()
        for step in range(1500):
            text = f"10.1.{dice.randrange(200)}.1/32"
            if text in present:
                delete_address(present.pop(text), text)
            else:
                present[text] = dice.choice(ends)
                add_address(present[text], text)
            if not step % 50:
                flapping.down()
                flapping.up()
        for text in dice.sample(list(present), len(present) - left):
            delete_address(present.pop(text), text)
        took = time.monotonic() - began
        print(f"1500 changes in {took:.2f} s")
        usable = {text.partition("/")[0] for text in present} | {"10.2.0.1"}

        def settled() -> bool:
            now = endpoints(net.client)
            return len(now) == min(8, len(usable)) and "10.2.0.1" in now and set(now) <= usable

        wait_until(settled, f"endpoints for {len(usable)} addresses", 20)
        top = min(8, 2 + len(usable))
        wait_until(lambda: limits(net.client) == (top, top), "limits")
        # Nothing comes late: after one more change, and what it leads to, all is as it should be.
        add_address(ends[0], "10.3.0.1/32")
        delete_address(ends[0], "10.3.0.1/32")
        for text, end in present.items():
            delete_address(end, text)
        daemon.until("10.2.0.1")
        assert daemon.stop() == 0
        said = warned(daemon)
        assert all("is not used for now: the kernel has room for 8" in line for line in said)
        assert len(said) <= 1


def test_a_flapping_interface_ends_right(net: Net, tmp_path: pathlib.Path) -> None:
    """However it ends, up or down."""
    net.join("10.0.2.1/24")
    with Started(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1")
        other = net.links[0].other
        for _ in range(50):
            other.down()
            other.up()
        daemon.until("10.0.1.1", "10.0.2.1")
        for _ in range(50):
            other.down()
            other.up()
        other.down()
        daemon.until("10.0.2.1")
        assert warned(daemon) == []
