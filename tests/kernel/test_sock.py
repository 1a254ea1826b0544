"""The sockets on a network of their own: forged messages, overruns, batches and buffers."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab import Host, Lab, traffic
from mptcpd.nl import bpf, genl, messages, mptcp, mptcp_event, rtnl, rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl.client import MptcpClient, RouteClient
from mptcpd.nl.errors import NetlinkError, Overrun
from mptcpd.nl.mptcp import Limits
from mptcpd.nl.sock import CommandSocket, EventSocket


@contextmanager
def opened(host: Host, protocol: int, timeout: float = 5.0) -> Iterator[CommandSocket]:
    with host:
        commands = CommandSocket(protocol, timeout=timeout)
    try:
        yield commands
    finally:
        commands.close()


@contextmanager
def listening(
    host: Host, protocol: int, *groups: int, receive_buffer: int = 1 << 20
) -> Iterator[EventSocket]:
    with host:
        events = EventSocket(protocol, groups, receive_buffer=receive_buffer)
    try:
        yield events
    finally:
        events.close()


@contextmanager
def forging(host: Host, protocol: int) -> Iterator[socket.socket]:
    """A socket of a process that has the right to send to others (CAP_NET_ADMIN)."""
    with host, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as sock:
        yield sock


# --- messages that no kernel sent ------------------------------------------------------------


def test_a_forged_answer_does_not_come_before_the_kernel_s(lone_host: Host) -> None:
    """Type, sequence number and port ID are right, and it is there first; it is dropped."""
    lone_host.mptcp.set_limits(3, 4)
    with (
        opened(lone_host, u.NETLINK_GENERIC) as commands,
        forging(lone_host, u.NETLINK_GENERIC) as forger,
    ):
        client = MptcpClient(commands)
        lie = genl.header(u.MPTCP_PM_CMD_GET_LIMITS) + mptcp.set_limits(7, 7)[genl.HEADER :]
        for count in range(1, 4):
            seq = commands._seq + 1
            forged = messages.build(client.family.id, 0, seq, commands.portid, lie)
            forger.sendto(forged, (commands.portid, 0))
            assert client.get_limits() == Limits(add_addr_accepted=4, subflows=3)
            assert commands.foreign == count
        assert commands.stray == 0


def test_a_forged_answer_in_a_dump(lone_host: Host) -> None:
    with (
        opened(lone_host, u.NETLINK_ROUTE) as commands,
        forging(lone_host, u.NETLINK_ROUTE) as forger,
    ):
        done = messages.build(u.NLMSG_DONE, u.NLM_F_MULTI, 1, commands.portid, bytes(4))
        forger.sendto(done, (commands.portid, 0))
        assert [link.name for link in RouteClient(commands).links()] == ["lo"]
        assert commands.foreign == 1


def test_a_flood_of_forged_messages_and_a_full_queue(lone_host: Host) -> None:
    """They cost answers, not the truth: an error, at once, and afterwards all is well."""
    with (
        opened(lone_host, u.NETLINK_GENERIC, timeout=1.0) as commands,
        forging(lone_host, u.NETLINK_GENERIC) as forger,
    ):
        client = MptcpClient(commands)
        before = client.get_limits()
        forger.setblocking(False)
        for size in (4096, 16):  # until not even the smallest has room
            with pytest.raises(BlockingIOError):
                while True:
                    forger.sendto(bytes(size), (commands.portid, 0))
        with pytest.raises(NetlinkError):
            client.get_limits()
        assert client.get_limits() == before
        assert commands.foreign + commands.stray > 0


def test_forged_events_are_dropped_and_counted(lone_host: Host) -> None:
    """Sent to us alone, and to the whole group."""
    body = bytes(rtnl.IFINFOMSG)
    with (
        listening(lone_host, u.NETLINK_ROUTE, u.RTNLGRP_LINK) as events,
        forging(lone_host, u.NETLINK_ROUTE) as forger,
    ):
        forged = messages.build(u.RTM_NEWLINK, 0, 0, 0, body)
        forger.sendto(forged, (events.portid, 0))
        forger.sendto(forged, (0, 1 << (u.RTNLGRP_LINK - 1)))
        lone_host.change(rtnl_change.set_link(1, mtu=1400))
        forger.sendto(forged, (events.portid, 0))
        told = [m for datagram in events.receive() for m in messages.split(datagram)]
        assert [rtnl.parse_link(m.type, m.payload).name for m in told] == ["lo"]
        assert events.foreign == 3


# --- overruns --------------------------------------------------------------------------------


def open_and_close_listeners(host: Host, count: int) -> None:
    """Two events each."""
    for _each in range(count):
        traffic.listen(host, "127.0.0.1").close()


def kinds(events: EventSocket) -> list[int]:
    """Read until nothing is left."""
    found = []
    while datagrams := events.receive():
        for datagram in datagrams:
            for message in messages.split(datagram):
                found.append(mptcp_event.parse(message.payload).kind)
    return found


def test_an_overrun_of_events_and_on(lone_host: Host) -> None:
    """Overrun is raised once, what came before it is not lost, and receiving goes on."""
    group = lone_host.mptcp.events_group
    with listening(lone_host, u.NETLINK_GENERIC, group, receive_buffer=1) as events:
        for _again in range(3):
            open_and_close_listeners(lone_host, 30)
            with pytest.raises(Overrun):
                events.receive()
            before = kinds(events)
            assert 0 < len(before) < 60
            assert before[:2] == [u.MPTCP_EVENT_LISTENER_CREATED, u.MPTCP_EVENT_LISTENER_CLOSED]
            open_and_close_listeners(lone_host, 1)
            assert kinds(events) == before[:2]


def test_a_filter_keeps_unwanted_events_away(lone_host: Host) -> None:
    """The kernel drops them before they reach the queue: they cannot overrun it either."""
    group = lone_host.mptcp.events_group
    for wanted in (
        [u.MPTCP_EVENT_LISTENER_CLOSED],
        [u.MPTCP_EVENT_LISTENER_CREATED, u.MPTCP_EVENT_CREATED],
        [],
    ):
        with listening(lone_host, u.NETLINK_GENERIC, group, receive_buffer=1) as events:
            events.filter(bpf.commands(wanted))
            open_and_close_listeners(lone_host, 1)
            assert kinds(events) == wanted[:1]
            if not wanted:
                open_and_close_listeners(lone_host, 100)
                assert kinds(events) == []
            events.filter(bpf.commands([u.MPTCP_EVENT_LISTENER_CREATED]))  # takes its place
            open_and_close_listeners(lone_host, 1)
            assert kinds(events) == [u.MPTCP_EVENT_LISTENER_CREATED]


def test_a_big_buffer_holds_what_a_small_one_loses(lone_host: Host) -> None:
    group = lone_host.mptcp.events_group
    with listening(lone_host, u.NETLINK_GENERIC, group) as events:
        open_and_close_listeners(lone_host, 100)
        pair = [u.MPTCP_EVENT_LISTENER_CREATED, u.MPTCP_EVENT_LISTENER_CLOSED]
        assert kinds(events) == pair * 100  # in several batches


def test_the_receive_buffer_is_raised_above_what_others_may(lone_host: Host) -> None:
    """SO_RCVBUFFORCE, where we have the right of the first user namespace."""
    with open("/proc/sys/net/core/rmem_max") as stream:
        allowed = int(stream.read())
    wanted = 4 * allowed
    with listening(lone_host, u.NETLINK_ROUTE, receive_buffer=wanted) as events:
        size = events._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert size in (2 * wanted, 2 * allowed)


# --- rights and places -----------------------------------------------------------------------


def join_as_nobody() -> list[int | None]:
    """Run in a child: what joining a group says to a user without rights."""
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    group = MptcpClient(CommandSocket(u.NETLINK_GENERIC)).events_group
    found: list[int | None] = []
    for protocol, wanted in ((u.NETLINK_GENERIC, group), (u.NETLINK_ROUTE, u.RTNLGRP_LINK)):
        try:
            EventSocket(protocol, (wanted,))
            found.append(None)
        except OSError as error:
            found.append(error.errno)
    return found


def test_groups_without_rights(lone_host: Host) -> None:
    """The events of MPTCP are for CAP_NET_ADMIN alone, links are for everybody."""
    with open("/proc/self/uid_map") as stream:
        if int(stream.read().split()[2]) < 65535:
            pytest.skip("no second user to become in this user namespace: run as root")
    assert lone_host.call(join_as_nobody).result() == [errno.EPERM, None]


def test_a_socket_stays_in_the_namespace_it_was_opened_in(lab: Lab) -> None:
    """Asked from outside, it answers for the host it belongs to."""
    one, other = lab.host("one"), lab.host("other")
    with opened(one, u.NETLINK_GENERIC) as first, opened(other, u.NETLINK_GENERIC) as second:
        MptcpClient(first).set_limits(1, 1)
        MptcpClient(second).set_limits(2, 2)
        assert MptcpClient(first).get_limits() == Limits(1, 1)
        assert MptcpClient(second).get_limits() == Limits(2, 2)
