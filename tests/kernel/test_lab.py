"""The lab that the other kernel tests stand on: hosts, links, children, traffic; nothing left."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from lab import ChildFailed, Host, Lab, Missing, process, rights, traffic, wait_until
from lab.network import add_address, delete_address
from mptcpd.nl import mptcp
from mptcpd.nl import uapi as u
from tests.kernel.conftest import TwoHosts, alive, build_two_hosts

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def here() -> str:
    return os.readlink("/proc/thread-self/ns/net")


# Hosts


def test_a_host_is_entered_and_left(lab: Lab) -> None:
    one, other = lab.host("one"), lab.host("other")
    outside = here()
    with one:
        first = here()
        with other:
            second = here()
        assert here() == first
        with pytest.raises(RuntimeError, match="inside"), other:
            raise RuntimeError("inside")
        assert here() == first
    assert here() == outside
    assert len({outside, first, second}) == 3


def test_a_host_begins_with_lo_alone(lone_host: Host) -> None:
    (link,) = lone_host.network.links()
    assert (link.name, bool(link.flags & u.IFF_UP)) == ("lo", True)
    assert lone_host.mptcp.dump_addrs() == []
    assert lone_host.sysctl("net.mptcp.enabled") == "1"


def test_a_socket_stays_where_it_was_opened(lab: Lab) -> None:
    one, other = lab.host("one"), lab.host("other")
    with one:
        ours = socket.create_server(("127.0.0.1", 0))
    name = ours.getsockname()
    with other, pytest.raises(ConnectionRefusedError):
        socket.create_connection(name)
    with ours, one:
        socket.create_connection(name).close()


def test_settings_are_each_hosts_own(lab: Lab) -> None:
    one, other = lab.host("one"), lab.host("other")
    before = other.sysctl("net.mptcp.add_addr_timeout")
    one.set_sysctl("net.mptcp.add_addr_timeout", 7)
    assert one.sysctl("net.mptcp.add_addr_timeout") == "7"
    assert other.sysctl("net.mptcp.add_addr_timeout") == before != "7"


def test_a_host_that_is_closed_is_gone() -> None:
    """No descriptor stays open, and so no namespace."""
    before = sorted(os.listdir("/proc/self/fd"))
    with Lab() as lab:
        one, other = lab.host("one"), lab.host("other")
        lab.link(one, "eth0", "10.0.1.1/24", other, "eth0", "10.0.1.2/24")
        assert one.mptcp.get_limits().subflows == 2
        assert one.call(int, "1").result() == 1
        one.popen(["sleep", "60"], stdout=subprocess.PIPE)
    assert sorted(os.listdir("/proc/self/fd")) == before
    lab.close()


# Children


def test_a_program_runs_inside_and_is_killed(lab: Lab) -> None:
    host = lab.host("one")
    command = "readlink /proc/self/ns/net; sleep 60 & echo $!; wait"
    child = host.popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with host:
        assert child.stdout.readline().strip() == here()
    grandchild = int(child.stdout.readline())
    assert alive(child.pid) and alive(grandchild)
    host.close()
    assert child.returncode == -signal.SIGKILL
    wait_until(lambda: not alive(grandchild), "the program's own child is gone")


def test_a_function_runs_inside(lone_host: Host) -> None:
    call = lone_host.call(lambda a, b: (here(), os.getpid(), a + b), 2, 3)
    where, pid, total = call.result()
    with lone_host:
        assert where == here()
    assert (pid, total) == (call.pid, 5)
    assert not call.running


def test_a_function_that_raises(lone_host: Host) -> None:
    def broken() -> None:
        raise LookupError("on purpose")

    with pytest.raises(ChildFailed, match="LookupError: on purpose"):
        lone_host.call(broken).result()


def test_a_function_that_is_killed(lone_host: Host) -> None:
    call = lone_host.call(signal.pause)
    assert call.running
    os.kill(call.pid, signal.SIGKILL)
    with pytest.raises(ChildFailed, match="without a result"):
        call.result()


def test_a_function_that_takes_too_long(lone_host: Host) -> None:
    call = lone_host.call(signal.pause)
    with pytest.raises(TimeoutError, match="pause"):
        call.result(0.05)
    assert not alive(call.pid)


HELD = """
import signal, sys
from lab import Lab
lab = Lab()
host = lab.host("one")
program = host.popen(["sleep", "60"])
function = host.call(signal.pause)
print(program.pid, function.pid, flush=True)
signal.pause()
"""


@pytest.mark.usefixtures("namespaces")
def test_children_die_with_a_parent_that_is_killed() -> None:
    command = [sys.executable, "-c", HELD]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2 and all(alive(pid) for pid in children)
        parent.kill()
    wait_until(lambda: not any(alive(pid) for pid in children), "the children are gone")


# Links


def test_two_hosts(two_hosts: TwoHosts) -> None:
    """The fixture is as it says: a datagram gets through on each link, in each family."""
    families = [("10.0.{}.1", "10.0.{}.2")]
    if two_hosts.client.has_ipv6:
        families.append(("fd00:{}::1", "fd00:{}::2"))
    for ours, theirs in families:
        for index, link in ((1, two_hosts.first), (2, two_hosts.second)):
            assert link.one.running() and link.other.running()
            source, target = ours.format(index), theirs.format(index)
            family = socket.AF_INET6 if ":" in target else socket.AF_INET
            with two_hosts.server:
                receiver = socket.socket(family, socket.SOCK_DGRAM)
            with two_hosts.client:
                sender = socket.socket(family, socket.SOCK_DGRAM)
            with receiver, sender:
                receiver.bind((target, 0))
                receiver.settimeout(5)
                before = link.other.read().rx_bytes
                sender.sendto(b"hello", (target, receiver.getsockname()[1]))
                data, peer = receiver.recvfrom(16)
                assert (data, peer[0]) == (b"hello", source)
                after = link.other.read().rx_bytes
                assert before is not None and after is not None and after > before


def test_an_end_that_goes_down_takes_the_others_carrier(two_hosts: TwoHosts) -> None:
    near, far = two_hosts.first.one, two_hosts.first.other
    far.down()
    wait_until(lambda: not near.running(), "no carrier")
    assert near.read().flags & u.IFF_UP
    assert two_hosts.second.one.running()
    far.up()
    wait_until(near.running, "carrier again")


def test_addresses_come_and_go(two_hosts: TwoHosts) -> None:
    end = two_hosts.first.one

    def addresses() -> list[bytes]:
        return [one.ip for one in two_hosts.client.network.addresses(end.ifindex)]

    ip = socket.inet_aton("10.0.1.77")
    add_address(end, "10.0.1.77/24")
    assert ip in addresses()
    delete_address(end, "10.0.1.77/24")
    assert ip not in addresses()


def test_a_limited_link_is_as_fast_as_it_says(lab: Lab) -> None:
    client, server = lab.host("client"), lab.host("server")
    rate = 40_000_000
    lab.link(client, "eth0", "10.0.1.1/24", server, "eth0", "10.0.1.2/24", rate=rate)
    connection = traffic.open_connection(client, server, "10.0.1.2")
    begin = time.monotonic()
    traffic.Transfer(client, server, connection, 2_000_000).result()
    reached = 2_000_000 * 8 / (time.monotonic() - begin)
    assert 0.1 * rate < reached < rate  # a machine that is busy has its share in it


# Traffic


def test_a_connection_with_two_subflows(lab: Lab) -> None:
    """What the lab is for, without a daemon: an endpoint, a join, data over both links."""
    two_hosts = build_two_hosts(lab, rate=50_000_000)  # without a limit one link could do it all
    client, server = two_hosts.client, two_hosts.server
    second = mptcp.Address(
        socket.inet_aton("10.0.2.1"),
        flags=u.MPTCP_PM_ADDR_FLAG_SUBFLOW,
        ifindex=two_hosts.second.one.ifindex,
    )
    client.mptcp.add_addr(second)
    connection = traffic.open_connection(client, server, "10.0.1.2")
    assert connection.token == traffic.info(connection.client).token != 0
    wait_until(lambda: traffic.info(connection.client).subflows == 1, "a second subflow")
    transfer = traffic.Transfer(client, server, connection, 6_000_001)
    sent, received = transfer.result()
    assert sent == received and sent.size == 6_000_001 == transfer.received
    assert not transfer.running
    for link in (two_hosts.first, two_hosts.second):
        assert (link.other.read().rx_bytes or 0) > 1_000_000


def test_a_connection_over_ipv6(two_hosts: TwoHosts) -> None:
    if not two_hosts.client.has_ipv6:
        pytest.skip("this kernel has no IPv6")
    connection = traffic.open_connection(
        two_hosts.client, two_hosts.server, "fd00:1::2", source="fd00:1::1"
    )
    assert connection.client.getsockname()[0] == "fd00:1::1"
    connection.close()


def test_a_connection_that_is_no_mptcp(two_hosts: TwoHosts) -> None:
    """A server without MPTCP: the fallback is an error, not a connection with one path."""
    listener = traffic.listen(two_hosts.server, "10.0.1.2")
    port = listener.getsockname()[1]
    listener.close()
    with two_hosts.server:
        plain = socket.create_server(("10.0.1.2", port))
    with plain, traffic.connect(two_hosts.client, "10.0.1.2", port) as sock:
        assert traffic.fell_back(sock)


# Waiting


def test_waiting_ends_when_it_is_true() -> None:
    values = iter([0, 0, 3, 4])
    assert wait_until(lambda: next(values), "three") == 3


def test_waiting_ends_at_the_deadline() -> None:
    with pytest.raises(TimeoutError, match=r"pigs fly \(at last: False\)"):
        wait_until(lambda: False, "pigs fly", timeout=0.02)


# Rights


def is_root() -> bool:
    """Root of the machine, not of a user namespace."""
    with open("/proc/self/uid_map") as stream:
        return os.getuid() == 0 and stream.read().split() == ["0", "0", str(2**32 - 1)]


def as_ordinary_user() -> int:
    """In a child: everything, by a user who has no rights but to make user namespaces."""
    if is_root():
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        # A process that changed its user may not write its own uid_map; one that logged in as that
        # user may. PR_SET_DUMPABLE is 4.
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
    with Lab() as lab:
        client, server = lab.host("client"), lab.host("server")
        lab.link(client, "eth0", "10.0.1.1/24", server, "eth0", "10.0.1.2/24", rate=100_000_000)
        client.set_sysctl("net.mptcp.add_addr_timeout", 7)
        client.mptcp.set_limits(subflows=3)
        connection = traffic.open_connection(client, server, "10.0.1.2")
        sent, received = traffic.Transfer(client, server, connection, 1_000_000).result(10)
        assert sent == received
    assert not is_root()
    return received.size


@pytest.mark.usefixtures("namespaces")
def test_as_an_ordinary_user() -> None:
    assert process.Call(as_ordinary_user).result() == 1_000_000


def without_namespaces() -> str:
    """In a child: no room for network namespaces, as where an administrator allows none."""
    rights.enter_user_namespace()
    with open("/proc/sys/user/max_net_namespaces", "w") as stream:
        stream.write("0")
    before = here(), os.readlink("/proc/self/ns/user")
    with pytest.raises(Missing) as missing:
        Lab()
    assert (here(), os.readlink("/proc/self/ns/user")) == before
    return str(missing.value)


@pytest.mark.usefixtures("namespaces")
def test_no_right_to_make_namespaces() -> None:
    """It is said in one line, and the process is where it was."""
    said = process.Call(without_namespaces).result()
    assert said == (
        "no right to make namespaces (No space left on device): run as root, "
        "or let ordinary users make them: sysctl -w user.max_net_namespaces=10000"
    )
