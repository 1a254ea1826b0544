"""Events of MPTCP as this kernel sends them: real connections, through EventSocket, in order."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

import pytest

from lab import traffic
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import AF_INET, AF_INET6, Address
from mptcpd.nl.mptcp_event import Event
from tests.kernel.conftest import TwoHosts
from tests.kernel.watch import EventWatch, use_userspace_pm

PORT = 8080
FLAVOURS = {"ipv4": "10.0.{}.{}", "ipv6": "fd00:{}::{}", "mapped": "::ffff:10.0.{}.{}"}


class Scene(NamedTuple):
    """Two hosts whose path managers are userspace ones, and what their kernels tell."""

    hosts: TwoHosts
    client: EventWatch
    server: EventWatch


@pytest.fixture
def scene(two_hosts: TwoHosts) -> Iterator[Scene]:
    for host in (two_hosts.client, two_hosts.server):
        use_userspace_pm(host)
    watches = EventWatch(two_hosts.client), EventWatch(two_hosts.server)
    yield Scene(two_hosts, *watches)
    for watch in watches:
        watch.close()


def packed(text: str) -> bytes:
    return ip_address(text).packed


def swapped(event: Event) -> Event:
    """The same path as the other side sees it."""
    return event._replace(
        local_ip=event.remote_ip, remote_ip=event.local_ip, local_port=event.remote_port,
        remote_port=event.local_port, local_id=event.remote_id, remote_id=event.local_id,
    )  # fmt: skip


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_life_of_a_connection(flavour: str, scene: Scene) -> None:
    """Created, established, a second subflow there and gone, closed: in this order, both sides."""
    if flavour == "ipv6" and not scene.hosts.client.has_ipv6:
        pytest.skip("this kernel has no IPv6")
    text = FLAVOURS[flavour]
    client1, client2 = (text.format(link, 1) for link in (1, 2))
    server1, server2 = (text.format(link, 2) for link in (1, 2))
    family = AF_INET if flavour == "ipv4" else AF_INET6
    hosts = scene.hosts
    with (
        traffic.listen(hosts.server, server1, PORT) as listener,
        traffic.listen(hosts.server, server2, PORT),
        traffic.connect(hosts.client, server1, PORT) as client,
    ):
        listening = [scene.server.next() for _each in range(2)]
        created = scene.client.next()
        token, port = traffic.info(client).token, client.getsockname()[1]
        assert created.kind == u.MPTCP_EVENT_CREATED
        assert created._replace(flags=None, server_side=None) == Event(
            u.MPTCP_EVENT_CREATED, token, family, 0, 0, packed(client1), packed(server1), port, PORT
        )
        assert not created.server_side  # 0 on older kernels, not sent by newer ones
        # Before any data the client may not make subflows, and is not told that it may.
        with listener.accept()[0] as server:
            theirs = traffic.info(server).token
            for kind in (u.MPTCP_EVENT_CREATED, u.MPTCP_EVENT_ESTABLISHED):
                event = scene.server.next()
                assert event.server_side == 1
                assert event._replace(flags=None, server_side=None) == swapped(
                    created._replace(kind=kind, token=theirs, flags=None, server_side=None)
                )
            traffic.Connection(client, server, listener).exchange()
            assert scene.client.next() == created._replace(kind=u.MPTCP_EVENT_ESTABLISHED)

            near = Address(packed(client2), id=7)
            hosts.client.mptcp.subflow_create(token, near, Address(packed(server2), PORT))
            joined = scene.client.next()
            assert joined._replace(local_port=0, remote_id=0) == Event(
                u.MPTCP_EVENT_SUB_ESTABLISHED, token, family, 7, 0, packed(client2),
                packed(server2), 0, PORT, 0,
            )  # fmt: skip
            assert scene.server.next() == swapped(joined)._replace(token=theirs)

            end = Address(packed(client2), joined.local_port or 0)
            hosts.client.mptcp.subflow_destroy(token, end, Address(packed(server2), PORT))
            closed = joined._replace(kind=u.MPTCP_EVENT_SUB_CLOSED)
            assert scene.client.next()._replace(error=None) == closed
            assert scene.server.next()._replace(error=None) == swapped(closed)._replace(
                token=theirs
            )
            client.close()
            assert scene.client.next() == Event(u.MPTCP_EVENT_CLOSED, token)
        assert scene.server.next() == Event(u.MPTCP_EVENT_CLOSED, theirs)
    listening += [scene.server.next() for _each in range(2)]
    assert listening == [
        Event(kind, family=family, local_ip=packed(address), local_port=PORT)
        for kind in (u.MPTCP_EVENT_LISTENER_CREATED, u.MPTCP_EVENT_LISTENER_CLOSED)
        for address in (server1, server2)[:: 1 if kind == u.MPTCP_EVENT_LISTENER_CREATED else -1]
    ]


@pytest.fixture
def connection(scene: Scene) -> Iterator[traffic.Connection]:
    """Over the first link, IPv4; all events until now are read."""
    connection = traffic.open_connection(scene.hosts.client, scene.hosts.server, "10.0.1.2", PORT)
    scene.client.find(u.MPTCP_EVENT_ESTABLISHED)
    scene.server.find(u.MPTCP_EVENT_ESTABLISHED)
    yield connection
    connection.close()


def test_announced_and_removed(scene: Scene, connection: traffic.Connection) -> None:
    token, theirs = connection.token, traffic.info(connection.server).token
    announce = scene.hosts.server.mptcp.announce
    for number, (text, port) in enumerate((("10.0.2.2", 0), ("10.0.2.2", 9999), ("fd00:2::2", 0))):
        if ":" in text and not scene.hosts.server.has_ipv6:
            continue
        ident = 3 + number
        announce(theirs, Address(packed(text), port, ident, u.MPTCP_PM_ADDR_FLAG_SIGNAL))
        event = scene.client.next()
        assert event == Event(
            u.MPTCP_EVENT_ANNOUNCED, token, remote_id=ident, remote_ip=packed(text),
            remote_port=port or PORT,
        )  # fmt: skip
        scene.hosts.server.mptcp.remove(theirs, ident)
        assert scene.client.next() == Event(u.MPTCP_EVENT_REMOVED, token, remote_id=ident)
    assert scene.server.so_far() == []  # who announces is told nothing


def test_only_the_peer_is_told_of_a_priority(
    scene: Scene, connection: traffic.Connection
) -> None:
    local_port = connection.client.getsockname()[1]
    near, far = Address(packed("10.0.1.1")), Address(packed("10.0.1.2"))
    for flags, backup in ((u.MPTCP_PM_ADDR_FLAG_BACKUP, 1), (0, 0)):
        scene.hosts.client.mptcp.set_flags(
            near._replace(flags=flags), far, connection.token
        )
        event = scene.server.next()
        assert event == Event(
            u.MPTCP_EVENT_SUB_PRIORITY, traffic.info(connection.server).token, AF_INET, 0, 0,
            far.ip, near.ip, PORT, local_port, backup,
        )  # fmt: skip
    assert scene.client.so_far() == []


def test_a_join_that_is_refused(scene: Scene, connection: traffic.Connection) -> None:
    """The command itself succeeds: it means started. What became of it is an event."""
    near, far = Address(packed("10.0.2.1"), id=5), Address(packed("10.0.2.2"), 1)
    scene.hosts.client.mptcp.subflow_create(connection.token, near, far)
    event = scene.client.next()
    assert event.name == "MPTCP_EVENT_SUB_CLOSED"
    assert (event.token, event.local_id, event.error) == (
        connection.token, 5, errno.ECONNREFUSED,
    )  # fmt: skip
    assert (event.local_ip, event.remote_ip, event.remote_port) == (near.ip, far.ip, 1)


def test_a_backup_subflow_bound_to_an_interface(
    scene: Scene, connection: traffic.Connection
) -> None:
    index = scene.hosts.second.one.ifindex
    near = Address(
        packed("10.0.2.1"), id=5, flags=u.MPTCP_PM_ADDR_FLAG_BACKUP, ifindex=index
    )
    with traffic.listen(scene.hosts.server, "10.0.2.2", PORT):
        far = Address(packed("10.0.2.2"), PORT)
        scene.hosts.client.mptcp.subflow_create(connection.token, near, far)
        event = scene.client.next()
        assert (event.kind, event.ifindex) == (u.MPTCP_EVENT_SUB_ESTABLISHED, index)
        told = scene.server.find(u.MPTCP_EVENT_SUB_ESTABLISHED)
        assert (told.backup, told.ifindex) == (1, None)


def test_a_server_that_wants_no_joins_to_its_first_address(scene: Scene) -> None:
    scene.hosts.server.set_sysctl("net.mptcp.allow_join_initial_addr_port", 0)
    connection = traffic.open_connection(scene.hosts.client, scene.hosts.server, "10.0.1.2", PORT)
    deny = u.MPTCP_PM_EV_FLAG_DENY_JOIN_ID0
    for kind in (u.MPTCP_EVENT_CREATED, u.MPTCP_EVENT_ESTABLISHED):
        event = scene.client.next()
        assert (event.kind, (event.flags or 0) & deny) == (kind, deny)
    assert not (scene.server.find(u.MPTCP_EVENT_CREATED).flags or 0) & deny
    connection.close()


def test_connections_of_the_kernel_s_path_manager_are_told_of_as_well(two_hosts: TwoHosts) -> None:
    watch = EventWatch(two_hosts.client)
    index = two_hosts.second.one.ifindex
    subflow = u.MPTCP_PM_ADDR_FLAG_SUBFLOW
    two_hosts.client.mptcp.add_addr(Address(packed("10.0.2.1"), id=9, flags=subflow, ifindex=index))
    connection = traffic.open_connection(two_hosts.client, two_hosts.server, "10.0.1.2", PORT)
    kinds = [watch.next().kind for _each in range(2)]
    joined = watch.next()
    assert [*kinds, joined.kind] == [
        u.MPTCP_EVENT_CREATED, u.MPTCP_EVENT_ESTABLISHED, u.MPTCP_EVENT_SUB_ESTABLISHED,
    ]  # fmt: skip
    assert (joined.token, joined.local_id, joined.local_ip) == (
        connection.token, 9, packed("10.0.2.1"),
    )  # fmt: skip
    two_hosts.client.mptcp.del_addr(Address(None, id=9))
    gone = watch.next()
    assert (gone.kind, gone.local_id) == (u.MPTCP_EVENT_SUB_CLOSED, 9)
    connection.close()
    assert watch.next().kind == u.MPTCP_EVENT_CLOSED
    watch.close()


def test_a_plain_tcp_peer_makes_no_connection(scene: Scene) -> None:
    """What fell back to plain TCP had no CREATED, yet may have a CLOSED."""
    with scene.hosts.server:
        listener = socket.create_server(("10.0.1.2", PORT))
    client = traffic.connect(scene.hosts.client, "10.0.1.2", PORT)
    assert traffic.fell_back(client)
    client.close()
    listener.close()
    assert {event.kind for event in scene.client.so_far()} <= {u.MPTCP_EVENT_CLOSED}
    assert scene.server.so_far() == []


def test_many_connections_in_order(scene: Scene) -> None:
    """For each token: created, established, closed, and none is missing."""
    count = 40
    with traffic.listen(scene.hosts.server, "10.0.1.2", PORT) as listener:
        tokens = set()
        for _each in range(count):
            client = traffic.connect(scene.hosts.client, "10.0.1.2", PORT)
            server = listener.accept()[0]
            server.settimeout(10)
            traffic.Connection(client, server, listener).exchange()
            tokens.add(traffic.info(client).token)
            client.close()
            server.close()
    told: dict[int | None, list[int]] = {}
    for event in scene.client.so_far():
        told.setdefault(event.token, []).append(event.kind)
    assert set(told) == tokens
    assert {tuple(kinds) for kinds in told.values()} == {
        (u.MPTCP_EVENT_CREATED, u.MPTCP_EVENT_ESTABLISHED, u.MPTCP_EVENT_CLOSED)
    }
