"""The commands of the kernel's own path manager carried out by this kernel, and its refusals."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from lab import Host, traffic, wait_until
from mptcpd.nl import attrs, genl, mptcp
from mptcpd.nl import uapi as u
from mptcpd.nl.client import MptcpClient
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import Address, Limits
from mptcpd.nl.sock import CommandSocket
from tests.kernel.conftest import TwoHosts
from tests.kernel.refusals import refused
from tests.kernel.watch import EventWatch

PORT = 8080
SIGNAL, SUBFLOW, BACKUP, FULLMESH = (
    u.MPTCP_PM_ADDR_FLAG_SIGNAL, u.MPTCP_PM_ADDR_FLAG_SUBFLOW, u.MPTCP_PM_ADDR_FLAG_BACKUP,
    u.MPTCP_PM_ADDR_FLAG_FULLMESH,
)  # fmt: skip


def ip(text: str) -> bytes:
    return ip_address(text).packed


@pytest.fixture
def pm(lone_host: Host) -> MptcpClient:
    """The endpoints and limits of a host with nothing but lo."""
    return lone_host.mptcp


ENDPOINTS = [
    Address(ip("10.0.0.1"), 0, 1, SIGNAL),
    Address(ip("10.0.0.2"), 0, 2, SUBFLOW | BACKUP),
    Address(ip("10.0.0.3"), 0, 255, SUBFLOW | FULLMESH),
    Address(ip("10.0.0.4"), 0, 4, 0),
    Address(ip("fd00::1"), 0, 5, SUBFLOW),
    Address(ip("10.0.0.6"), 0, 6, SUBFLOW, 1),
    Address(ip("127.0.0.1"), PORT, 7, SIGNAL),
]


def test_add_get_dump_del_flush(pm: MptcpClient) -> None:
    """What was added comes back as it was, one by one and all together."""
    assert pm.dump_addrs() == []
    for endpoint in ENDPOINTS:
        pm.add_addr(endpoint)
        assert endpoint.id is not None
        assert pm.get_addr(endpoint.id) == endpoint
    assert sorted(pm.dump_addrs()) == sorted(ENDPOINTS)
    pm.del_addr(Address(None, id=255))
    assert sorted(pm.dump_addrs()) == sorted(e for e in ENDPOINTS if e.id != 255)
    pm.flush_addrs()
    assert pm.dump_addrs() == []


def test_an_id_is_given_where_none_is_told(pm: MptcpClient) -> None:
    pm.add_addr(Address(ip("10.0.0.1"), flags=SUBFLOW))
    pm.add_addr(Address(ip("10.0.0.2"), flags=SUBFLOW))
    assert [(found.ip, found.flags) for found in pm.dump_addrs()] == [
        (ip("10.0.0.1"), SUBFLOW), (ip("10.0.0.2"), SUBFLOW),
    ]  # fmt: skip
    assert len({found.id for found in pm.dump_addrs()} - {0, None}) == 2


def test_laminar(pm: MptcpClient) -> None:
    """Linux 6.18; older kernels take any flag and keep it."""
    endpoint = Address(ip("10.0.0.1"), 0, 1, u.MPTCP_PM_ADDR_FLAG_LAMINAR)
    pm.add_addr(endpoint)
    assert pm.get_addr(1) == endpoint


def test_limits(pm: MptcpClient) -> None:
    before = pm.get_limits()
    pm.set_limits()
    assert pm.get_limits() == before
    pm.set_limits(subflows=5)
    assert pm.get_limits() == before._replace(subflows=5)
    pm.set_limits(add_addr_accepted=3)
    assert pm.get_limits() == Limits(add_addr_accepted=3, subflows=5)
    pm.set_limits(0, 0)
    assert pm.get_limits() == Limits(0, 0)


@pytest.mark.parametrize(
    ("name", "limits"),
    [("MPTCP_PM_ATTR_SUBFLOWS", (1000, None)), ("MPTCP_PM_ATTR_RCV_ADD_ADDRS", (None, 1000))],
)
def test_limits_beyond_the_kernel_s(
    name: str, limits: tuple[int | None, int | None], pm: MptcpClient
) -> None:
    words = "limit greater than maximum"
    error = refused(lambda: pm.set_limits(*limits), errno.EINVAL, words, name)
    maximum = re.search(r"\((\d+)\)", error.words or "")
    assert maximum is not None
    pm.set_limits(int(maximum[1]), int(maximum[1]))
    assert pm.get_limits() == Limits(int(maximum[1]), int(maximum[1]))


def test_set_flags(pm: MptcpClient) -> None:
    """Of an endpoint, found by its ID or by its address."""
    pm.add_addr(Address(ip("10.0.0.1"), 0, 1, SUBFLOW))
    pm.set_flags(Address(None, id=1, flags=BACKUP))
    assert pm.get_addr(1).flags == SUBFLOW | BACKUP
    pm.set_flags(Address(ip("10.0.0.1"), flags=FULLMESH))
    assert pm.get_addr(1).flags == SUBFLOW | FULLMESH
    pm.set_flags(Address(None, id=1, flags=0))
    assert pm.get_addr(1).flags == SUBFLOW


ADDR = "MPTCP_PM_ATTR_ADDR"
# What is asked of a path manager with the endpoints 1 (signal) and 2 (subflow), and its answer.
REFUSALS: list[tuple[str, Callable[[MptcpClient], object], int, str, str | None]] = [
    ("no address", lambda c: c.add_addr(Address(None, id=3)), errno.EINVAL, "missing family", ADDR),
    ("an address twice", lambda c: c.add_addr(Address(ip("10.0.0.1"), flags=SIGNAL)),
     errno.EEXIST, "duplicate", None),
    ("an ID twice", lambda c: c.add_addr(Address(ip("10.0.0.9"), id=1, flags=SIGNAL)),
     errno.EBUSY, "duplicate", None),
    ("a port without signal", lambda c: c.add_addr(Address(ip("10.0.0.9"), 1, flags=SUBFLOW)),
     errno.EINVAL, "flags", ADDR),
    ("a port elsewhere", lambda c: c.add_addr(Address(ip("192.0.2.1"), 1, flags=SIGNAL)),
     errno.EADDRNOTAVAIL, "listen socket", None),
    ("signal and fullmesh", lambda c: c.add_addr(Address(ip("10.0.0.9"), flags=SIGNAL | FULLMESH)),
     errno.EINVAL, "flags", ADDR),
    ("implicit", lambda c: c.add_addr(Address(ip("10.0.0.9"), flags=u.MPTCP_PM_ADDR_FLAG_IMPLICIT)),
     errno.EINVAL, "IMPLICIT|implicit|flags", ADDR),
    ("deleting another", lambda c: c.del_addr(Address(None, id=99)), errno.EINVAL, "not found",
     ADDR),
    ("getting another", lambda c: c.get_addr(99), errno.EINVAL, "not found", ADDR),
    ("flags of another", lambda c: c.set_flags(Address(None, id=99, flags=BACKUP)), errno.EINVAL,
     "not found", ADDR),
    ("flags of nothing", lambda c: c.set_flags(Address(None, flags=BACKUP)), errno.EOPNOTSUPP,
     "ID", ADDR),
    ("fullmesh of signal", lambda c: c.set_flags(Address(None, id=1, flags=FULLMESH)),
     errno.EINVAL, "flags", ADDR),
]  # fmt: skip


@pytest.mark.parametrize(("call", "number", "words", "attribute"), [row[1:] for row in REFUSALS],
                         ids=[row[0] for row in REFUSALS])  # fmt: skip
def test_refusals(
    call: Callable[[MptcpClient], object], number: int, words: str, attribute: str | None,
    pm: MptcpClient,
) -> None:  # fmt: skip
    endpoints = [Address(ip("10.0.0.1"), 0, 1, SIGNAL), Address(ip("10.0.0.2"), 0, 2, SUBFLOW)]
    for endpoint in endpoints:
        pm.add_addr(endpoint)
    with pytest.raises(KernelError) as caught:
        call(pm)
    error = caught.value
    # Kernels before 6.18 say EINVAL for all; what happened is at the end of their words.
    assert error.reason == number, error
    assert re.search(words, error.words or ""), error
    assert error.attribute == attribute, error
    assert pm.dump_addrs() == endpoints


def test_more_endpoints_than_the_kernel_has_room_for(pm: MptcpClient) -> None:
    room = 0
    with pytest.raises(KernelError) as caught:
        for room in range(300):
            pm.add_addr(Address(bytes([10, 1, room // 250, 1 + room % 250]), flags=SUBFLOW))
    assert caught.value.reason == errno.ERANGE
    assert "too many addresses" in (caught.value.words or "")
    assert len(pm.dump_addrs()) == room >= 8


def test_malformed_and_missing_attributes_are_named(pm: MptcpClient, lone_host: Host) -> None:
    """What no builder of ours would send: in a nest, at the top, and not there at all."""
    with lone_host:
        commands = CommandSocket(u.NETLINK_GENERIC)
    short = attrs.build([(u.MPTCP_PM_ATTR_ADDR, [(u.MPTCP_PM_ADDR_ATTR_ID, b"")])])
    try:
        for body, numbers, name in (
            (genl.header(u.MPTCP_PM_CMD_DEL_ADDR) + short, (errno.ERANGE, errno.EINVAL),
             "MPTCP_PM_ADDR_ATTR_ID"),
            (genl.header(u.MPTCP_PM_CMD_SET_LIMITS) + attrs.build([(3, b"12")]),
             (errno.ERANGE, errno.EINVAL), "MPTCP_PM_ATTR_SUBFLOWS"),
            (mptcp.dump_addrs(), (errno.EINVAL,), ADDR),  # GET_ADDR, but not as a dump
        ):  # fmt: skip
            with pytest.raises(KernelError) as caught:
                commands.request(pm.family.id, body, "COMMAND", mptcp.NAMES)
            assert caught.value.errno in numbers
            assert caught.value.attribute == name
    finally:
        commands.close()


def test_endpoints_act_on_a_connection(two_hosts: TwoHosts) -> None:
    """Adding one makes a subflow, deleting it closes the subflow; flags reach the peer."""
    client, server = two_hosts.client, two_hosts.server
    connection = traffic.open_connection(client, server, "10.0.1.2")
    events = EventWatch(server)

    def subflows() -> int:
        return traffic.info(connection.client).subflows

    index = two_hosts.second.one.ifindex
    client.mptcp.add_addr(Address(ip("10.0.2.1"), id=5, flags=SUBFLOW, ifindex=index))
    wait_until(lambda: subflows() == 1, "a second subflow")
    client.mptcp.set_flags(Address(None, id=5, flags=BACKUP))
    assert events.find(u.MPTCP_EVENT_SUB_PRIORITY).backup == 1
    client.mptcp.del_addr(Address(None, id=5))
    wait_until(lambda: subflows() == 0, "the second subflow gone")
    # The first subflow has ID 0: its endpoint needs the address with it.
    client.mptcp.del_addr(Address(ip("10.0.1.1"), id=0))
    assert events.find(u.MPTCP_EVENT_REMOVED).remote_id == 5
    assert events.find(u.MPTCP_EVENT_REMOVED).remote_id == 0
    events.close()
    connection.close()


def test_signalled_endpoints_are_announced(two_hosts: TwoHosts) -> None:
    events = EventWatch(two_hosts.client)
    two_hosts.server.mptcp.add_addr(Address(ip("10.0.2.2"), id=6, flags=SIGNAL))
    connection = traffic.open_connection(two_hosts.client, two_hosts.server, "10.0.1.2")
    announced = events.find(u.MPTCP_EVENT_ANNOUNCED)
    assert (announced.remote_id, announced.remote_ip) == (6, ip("10.0.2.2"))
    two_hosts.server.mptcp.flush_addrs()
    assert events.find(u.MPTCP_EVENT_REMOVED).remote_id == 6
    events.close()
    connection.close()


def as_nobody() -> dict[str, int | str]:
    """Run in a child: what each command answers to a user without rights (0: done)."""
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    client = MptcpClient(CommandSocket(u.NETLINK_GENERIC))
    address = Address(ip("10.0.0.1"), 80, 1, SIGNAL)
    calls: dict[str, Callable[[], Any]] = {
        "add": lambda: client.add_addr(address),
        "del": lambda: client.del_addr(address),
        "get": lambda: client.get_addr(1),
        "dump": lambda: client.dump_addrs(),
        "flush": lambda: client.flush_addrs(),
        "set_limits": lambda: client.set_limits(1, 1),
        "get_limits": lambda: client.get_limits(),
        "set_flags": lambda: client.set_flags(address),
        "announce": lambda: client.announce(1, address),
        "remove": lambda: client.remove(1, 1),
        "create": lambda: client.subflow_create(1, address, address),
        "destroy": lambda: client.subflow_destroy(1, address, address),
    }
    found: dict[str, int | str] = {}
    for name, call in calls.items():
        try:
            call()
            found[name] = 0
        except KernelError as error:
            found[name] = error.errno
    return found


def test_without_rights(lone_host: Host) -> None:
    """Every command is refused with EPERM, or only reads."""
    with open("/proc/self/uid_map") as stream:
        if int(stream.read().split()[2]) < 65535:
            pytest.skip("no second user to become in this user namespace: run as root")
    lone_host.mptcp.add_addr(Address(ip("10.0.0.1"), id=1, flags=SUBFLOW))
    found = lone_host.call(as_nobody).result()
    reading = {name: found.pop(name) for name in ("get", "dump", "get_limits")}
    assert set(found.values()) == {errno.EPERM}, found
    # Linux 6.18 lets everybody read; older kernels ask for the right for all.
    assert set(reading.values()) <= {0, errno.EPERM}, reading
