"""The kernel has room for few endpoints: who gets one, and who is next when one comes free."""

from __future__ import annotations

import pathlib
import signal
from ipaddress import ip_address

import pytest

from lab import Lab, wait_until
from lab.network import add_address, delete_address
from mptcpd.nl import mptcp
from mptcpd.nl.errors import KernelError
from tests.kernel.started import endpoints, foreign, limits
from tests.kernel.uplinks import Following, Uplinks

BACKUP = "[interface wwan*]\nflags=subflow,backup"


@pytest.fixture
def room(lab: Lab) -> int:
    """How many endpoints this kernel takes (8 in Linux 6.18)."""
    host = lab.host("probe")
    count = 0
    try:
        while count < 255:
            ip = ip_address(f"10.200.0.{count + 1}").packed
            host.mptcp.add_addr(mptcp.Address(ip, 0, count + 1, 0))
            count += 1
    except KernelError as error:
        assert "too many" in (error.words or "")
    return count


def many(link: int, count: int) -> list[str]:
    return [f"10.0.{link}.{number}" for number in range(1, count + 1)]


def test_the_first_of_every_interface_comes_before_any_second(
    lab: Lab, room: int, tmp_path: pathlib.Path
) -> None:
    """However they come: all at the start, or the interface with one address last."""
    net = Uplinks(lab, many(1, room + 2), many(2, 2))
    with Following(net.client, tmp_path) as daemon:
        first = [*many(1, room - 2), *many(2, 2)]
        before = daemon.until(*first)
        net.join(*many(3, 2))
        net.join(*many(4, 1))
        after = daemon.until(*many(1, room - 5), *many(2, 2), *many(3, 2), *many(4, 1))
        kept = {ip: shown for ip, shown in after.items() if ip in before}
        assert kept == {ip: shown for ip, shown in before.items() if ip in after}
        assert limits(net.client) == (8, 8)
        assert daemon.times("wait for a free one") == 1


def test_a_slot_that_comes_free_goes_to_the_next_in_line(
    lab: Lab, room: int, tmp_path: pathlib.Path
) -> None:
    net = Uplinks(lab, many(1, room), many(2, 3))
    with Following(net.client, tmp_path) as daemon:
        left = many(1, room - 3)  # the three that are last in line wait
        daemon.until(*left, *many(2, 3))
        for number in range(room - 2, room + 1):
            gone = left.pop(0)
            delete_address(net[0], f"{gone}/24")
            left.append(f"10.0.1.{number}")
            daemon.until(*left, *many(2, 3))
        net.pull(1)
        daemon.until(*left)
        add_address(net[0], "10.0.1.99/24")
        daemon.until(*left, "10.0.1.99")
        net.plug(1)
        daemon.until(*left, *many(2, 3))  # the sixth of eth0 comes after the third of eth1


def test_what_an_earlier_run_held_goes_to_the_next_in_line(
    lab: Lab, room: int, tmp_path: pathlib.Path
) -> None:
    net = Uplinks(lab, many(1, room + 2))
    with Following(net.client, tmp_path) as daemon:
        daemon.until(*many(1, room))
        daemon.stop(signal.SIGKILL)
    for gone in (2, 3):
        delete_address(net[0], f"10.0.1.{gone}/24")
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", *many(1, room + 2)[3:])


def test_backups_come_last_among_equals(lab: Lab, room: int, tmp_path: pathlib.Path) -> None:
    net = Uplinks(lab)
    for number in range(room):
        net.join(f"10.1.{number}.1", name=f"wwan{number}")
    with Following(net.client, tmp_path, BACKUP) as daemon:
        backups = [f"10.1.{number}.1" for number in range(room)]
        before = daemon.until(*backups)
        assert {shown.flags for shown in before.values()} == {"subflow,backup"}
        eth = net.join("10.2.0.1", "10.2.0.2", name="eth0")
        daemon.until(*backups[:-1], "10.2.0.1")  # not its second address: that comes after theirs
        assert endpoints(net.client)["10.2.0.1"].flags == "subflow"
        eth.down()
        daemon.until(*backups)


def test_others_endpoints_take_room_and_keep_it(
    lab: Lab, room: int, tmp_path: pathlib.Path
) -> None:
    net = Uplinks(lab, many(1, 4))
    theirs = [f"10.9.0.{number}" for number in range(1, room - 1)]
    for number, ip in enumerate(theirs):
        foreign(net.client, ip, 100 + number, "signal")
    before = endpoints(net.client)
    with Following(net.client, tmp_path) as daemon:
        daemon.until(*theirs, *many(1, 2))
        net.join("10.0.2.1")
        after = daemon.until(*theirs, "10.0.1.1", "10.0.2.1")
        assert before.items() <= after.items()
        net.client.mptcp.del_addr(mptcp.Address(None, id=100))
        add_address(net[1], "10.0.2.2/24")  # the kernel tells nobody of room; any change shows it
        wait_until(lambda: "10.0.1.2" in endpoints(net.client), "the room is used")
        assert len(endpoints(net.client)) == room


def test_an_endpoint_is_given_up_for_a_better_one_only(
    lab: Lab, room: int, tmp_path: pathlib.Path
) -> None:
    """When the kernel is full, a change that alters no order alters no endpoint."""
    net = Uplinks(lab, many(1, room), many(2, room))
    with Following(net.client, tmp_path) as daemon:
        half = room // 2
        daemon.until(*many(1, half), *many(2, half))
        before = endpoints(net.client)
        said = daemon.times("Endpoint ")
        add_address(net[0], "10.0.1.77/24")
        delete_address(net[1], f"10.0.2.{room}/24")
        daemon.caught_up()
        assert endpoints(net.client) == before
        assert daemon.times("Endpoint ") == said
