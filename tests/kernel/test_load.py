"""The daemon under load, shortened: what was seen adds up, and the table is right when it is quiet.

The whole size, with numbers, is ``make bench``; here nothing is judged by the clock.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench import machine
from bench.load import TOKENS, Churn, Held
from bench.watched import Daemon, Report, in_kernel
from lab import Host, wait_until
from mptcpd.nl import messages, mptcp_event
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import Address
from mptcpd.nl.mptcp_event import Event
from tests.kernel.conftest import TwoHosts

ABORT = struct.pack("@ii", 1, 0)  # struct linger: close with a reset (MP_FASTCLOSE)


class Watched:
    """Daemons on a host, one after the other."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host, self._folder = host, folder

    def start(self, plugin: str = "count", core: str = "") -> Daemon:
        return Daemon(self.host, self._folder, plugin, core)


@pytest.fixture
def watched(lone_host: Host, tmp_path: Path) -> Watched:
    return Watched(lone_host, tmp_path)


@pytest.fixture
def held(lone_host: Host) -> Iterator[list[Held]]:
    """What is put into the list is closed at the end."""
    found: list[Held] = []
    yield found
    for each in found:
        each.close()


def when_equal(daemon: Daemon) -> Report:
    """What it reports as soon as its table equals what sock_diag says."""

    def look() -> Report | None:
        report = daemon.report()
        return report if report.table == in_kernel(daemon.host) else None

    report = wait_until(look, "the table equals the kernel's", 15.0)
    assert report is not None
    # What plugins were told, added up, is what there is.
    assert report.opened - report.closed == len(report.table), daemon.tail()
    return report


def open_one(host: Host, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A client and a server, established."""
    with host:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, u.IPPROTO_MPTCP)
    client.connect(listener.getsockname())
    server, _peer = listener.accept()
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    return client, server


def listening(host: Host, address: str = "127.0.0.1") -> socket.socket:
    with host:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, u.IPPROTO_MPTCP)
    listener.bind((address, 0))
    listener.listen()
    return listener


def test_thousands_opened_and_closed(watched: Watched) -> None:
    daemon = watched.start()
    daemon.report()
    done = Churn(watched.host, seconds=2.0, rate=2500.0).result()
    report = when_equal(daemon)
    assert report.table == {}
    if not daemon.drops():  # a user who is not root gets no more than net.core.rmem_max
        ends = TOKENS * done.connections
        assert report[:3] == (ends, ends, ends)


def test_adoption_and_again_after_sigkill_under_load(
    watched: Watched, held: list[Held]
) -> None:
    host = watched.host
    host.mptcp.set_limits(subflows=2)
    host.mptcp.add_addr(
        Address(socket.inet_aton("127.4.0.1"), flags=u.MPTCP_PM_ADDR_FLAG_SUBFLOW)
    )
    held.append(Held(host, 50))
    wait_until(
        lambda: all(len(paths) == 2 for paths in in_kernel(host).values()), "second subflows"
    )
    host.mptcp.set_limits(subflows=0)
    held.append(Held(host, 1500, first=10))
    truth = in_kernel(host)
    assert len(truth) > 3000
    daemon = watched.start()
    report = daemon.report()
    assert report.table == truth
    assert report[:3] == (len(truth), len(truth), 0)
    load = Churn(host, seconds=60.0, rate=500.0)
    for _restart in range(3):
        daemon.process.kill()
        daemon.process.wait()
        daemon = watched.start()
        # Others come and go; what is held must be there.
        assert truth.items() <= daemon.report().table.items()
    load.stop()
    assert when_equal(daemon).table == truth


def test_a_small_buffer_loses_nothing_for_long(watched: Watched, held: list[Held]) -> None:
    held.append(Held(watched.host, 200))
    daemon = watched.start(core="event-buffer=8192")
    assert len(daemon.report().table) == len(in_kernel(watched.host))
    for _round in range(2):
        Churn(watched.host, seconds=1.0).result()
        when_equal(daemon)
    assert daemon.drops() > 1000  # or this would be a test of nothing
    held.pop().close()
    assert when_equal(daemon).table == {}


def test_connections_whose_events_were_all_dropped(watched: Watched, held: list[Held]) -> None:
    daemon = watched.start(core="event-buffer=8192")
    daemon.report()
    held.append(Held(watched.host, 1500))
    assert len(when_equal(daemon).table) > 2900
    assert daemon.drops() > 100


def test_addr_adv_alone_sleeps_through_everything(watched: Watched) -> None:
    daemon = watched.start("addr_adv")
    wait_until(daemon.sleeps, "it is ready")
    wait_until(lambda: joined(watched.host), "it has subscribed")
    before = machine.woken(daemon.pid)
    assert Churn(watched.host, seconds=1.0, rate=1000.0).result().connections >= 100
    assert machine.woken(daemon.pid) == before
    (subscriber,) = joined(watched.host)
    assert (subscriber.queued, subscriber.drops) == (0, 0)  # nothing was put into its queue


class Subscriber(NamedTuple):
    """A generic netlink socket that has joined a group: port ID, bytes in its queue, drops."""

    portid: int
    queued: int
    drops: int


def joined(host: Host) -> list[Subscriber]:
    """The subscribers on a host."""
    with host, open("/proc/thread-self/net/netlink") as stream:
        rows = [line.split() for line in stream][1:]
    return [
        Subscriber(int(row[2]), int(row[4]), int(row[8]))
        for row in rows
        if int(row[1]) == u.NETLINK_GENERIC and int(row[3], 16)
    ]


def test_a_forged_event_changes_nothing(watched: Watched, held: list[Held]) -> None:
    host = watched.host
    held.append(Held(host, 5))
    daemon = watched.start()
    before = daemon.report()
    ((portid, _queued, _drops),) = joined(host)
    wait_until(daemon.sleeps, "it waits")
    woken = machine.woken(daemon.pid)
    with host, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, u.NETLINK_GENERIC) as forger:
        for token in before.table:
            lie = mptcp_event.build(Event(u.MPTCP_EVENT_CLOSED, token))
            forger.sendto(messages.build(host.mptcp.family.id, 0, 0, 0, lie), (portid, 0))
    wait_until(lambda: machine.woken(daemon.pid) > woken, "it has received them")
    assert daemon.report() == before


def test_connections_that_their_peer_aborted(watched: Watched) -> None:
    """The kernel sends no CLOSED for those, not even when their own program closes them."""
    daemon = watched.start()
    daemon.report()
    with listening(watched.host) as listener:
        pairs = [open_one(watched.host, listener) for _pair in range(20)]
        assert len(when_equal(daemon).table) == 40
        for client, _server in pairs[:10]:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            client.close()
        wait_until(lambda: len(in_kernel(watched.host)) == 20, "they are gone")
        assert len(when_equal(daemon).table) == 20
        for _client, server in pairs:
            server.close()
        for client, _server in pairs[10:]:
            client.close()
    report = when_equal(daemon)
    assert report.table == {}
    assert report.closed == 40


def test_connections_that_were_never_accepted(two_hosts: TwoHosts, tmp_path: Path) -> None:
    """They end with their listener, and no event tells of it."""
    daemon = Daemon(two_hosts.server, tmp_path)
    daemon.report()
    clients: list[socket.socket] = []
    with listening(two_hosts.server, "10.0.1.2") as listener:
        for _client in range(5):
            with two_hosts.client:
                client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, u.IPPROTO_MPTCP)
            client.connect(listener.getsockname())
            client.sendall(b"x")
            clients.append(client)
        assert len(when_equal(daemon).table) == 5
    assert when_equal(daemon).table == {}
    for client in clients:
        client.close()
