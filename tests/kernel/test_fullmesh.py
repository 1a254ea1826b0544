"""fullmesh on the real kernel: one client, real peers, addresses that come and go."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator

import pytest

from lab import traffic, wait_until
from lab.network import add_address, add_default_route, delete_address
from mptcpd.core.config import Config, parse
from mptcpd.core.connections import Connection
from mptcpd.nl.mptcp import AF_INET
from mptcpd.nl.rtnl_change import delete_route, set_link
from tests.kernel.conftest import TwoHosts
from tests.kernel.joined import CONFIG, Joined, Recorder, World, bundled, pairs

# As /proc/net/tcp has it: a number in host order.
SECOND = f"{int.from_bytes(socket.inet_aton('10.0.2.1'), sys.byteorder):08X}"
FROM_1, FROM_2 = ("10.0.1.1", "10.0.1.2"), ("10.0.2.1", "10.0.1.2")


@pytest.fixture
def world(two_hosts: TwoHosts) -> Iterator[World]:
    with World(two_hosts) as world:
        yield world


class Scene:
    """A client with fullmesh, a server that only looks on, and a connection."""

    def __init__(self, world: World, config: Config = CONFIG, address: str = "10.0.1.2") -> None:
        self.world = world
        self.peer = Recorder()
        self.server: Joined = world.on_server(self.peer)
        self.client = world.on_client(bundled("fullmesh"), config=config)
        self.listen = "::" if ":" in address else "0.0.0.0"
        self.address = address
        self.connect()

    def connect(self) -> None:
        self.sockets = self.world.open(self.address, self.listen)
        self.connection: Connection = self.world.established(self.client, self.sockets.client)
        self.at_server = self.world.established(self.server, self.sockets.server)

    def announce(self, address: str, local_id: int | None = None) -> int:
        """Announce an address of the server; its ID."""
        pm = self.server.pms[self.peer]
        pm.announce(self.at_server, address, local_id, listen=False)
        (ident,) = [i for i, known in self.at_server.announced.items() if str(known.ip) == address]
        return ident

    def expect(self, *expected: tuple[str, str]) -> None:
        """Wait for just these subflows, on both sides."""
        swapped = {(remote, local) for local, remote in expected}
        self.world.until(
            lambda: pairs(self.connection) == set(expected) and pairs(self.at_server) == swapped,
            f"{sorted(expected)}, not {sorted(pairs(self.connection))}",
        )


def test_a_subflow_from_every_address_to_every_address(world: World) -> None:
    scene = Scene(world)
    scene.expect(FROM_1, FROM_2)
    second = scene.announce("10.0.2.2")
    everything = (FROM_1, FROM_2, ("10.0.1.1", "10.0.2.2"), ("10.0.2.1", "10.0.2.2"))
    # 10.0.1.1 reaches 10.0.2.2 over its own interface, by the server that is its router there
    scene.expect(*everything)
    for flow in scene.connection.subflows.values():
        ends = (str(flow.local.ip), str(flow.remote.ip))
        assert (flow.local_id == 0) == (ends[0] == "10.0.1.1")
        assert flow.remote_id == (0 if ends[1] == "10.0.1.2" else second)
        assert flow.ifindex == (
            None if ends == FROM_1 else world.hosts.client.ifindex(f"eth{int(ends[0][5]) - 1}")
        )
    scene.announce("10.0.2.2")  # again: nothing is made twice
    scene.server.pms[scene.peer].remove(scene.at_server, second)
    scene.expect(FROM_1, FROM_2)
    scene.sockets.exchange()
    scene.sockets.close()
    world.until(lambda: not scene.client.table.by_token, "connection_closed")


def test_addresses_that_come_and_go(world: World) -> None:
    first, second = world.hosts.first.one, world.hosts.second.one
    scene = Scene(world)
    scene.expect(FROM_1, FROM_2)
    add_address(second, "10.0.2.7/24")
    scene.expect(FROM_1, FROM_2, ("10.0.2.7", "10.0.1.2"))
    delete_address(second, "10.0.2.7/24")
    scene.expect(FROM_1, FROM_2)
    world.hosts.client.change(set_link(second.ifindex, up=False))
    scene.expect(FROM_1)
    scene.sockets.exchange()
    world.hosts.client.change(set_link(second.ifindex, up=True))
    add_default_route(second, "10.0.2.2", metric=200)  # went with the link
    scene.expect(FROM_1, FROM_2)
    world.hosts.client.change(set_link(first.ifindex, up=False))  # where the first subflow is
    scene.expect(FROM_2)
    scene.sockets.exchange()
    assert scene.client.registry.failures == 0


def test_a_link_that_flaps(world: World) -> None:
    """Gone and back at once, several times: what the loss closed is made again.

    The hold-down for returns gives the peer time to hear of the loss; without it the RM_ADDR could
    reach the peer after the new subflow, and close that.
    """
    second = world.hosts.second.one
    scene = Scene(world)
    scene.expect(FROM_1, FROM_2)
    (before,) = scene.peer.subflows("new_subflow")
    for _time in range(3):
        world.hosts.client.change(set_link(second.ifindex, up=False))
        world.until(lambda: "10.0.2.1" not in str(interfaces(scene.client)), "the loss")
        world.hosts.client.change(set_link(second.ifindex, up=True))
        add_default_route(second, "10.0.2.2", metric=200)
    world.until(lambda: len(scene.peer.subflows("new_subflow")) > 1, "a new subflow")
    scene.expect(FROM_1, FROM_2)
    assert before not in scene.at_server.subflows.values()


def test_a_busy_connection_gets_a_new_subflow_for_what_waits(world: World) -> None:
    """And the peer's program gets every byte once, in order."""
    scene = Scene(world)
    scene.expect(FROM_1, FROM_2)
    client, server = scene.sockets.client, scene.sockets.server
    client.setblocking(False)
    piece, sent = bytes(range(251)) * 257, 0
    # Until nobody takes any more: the server reads nothing yet.
    while select.select([], [client], [], 0.2)[1]:
        sent += client.send(piece[sent % len(piece) :])
    before = {flow.local.port for flow in scene.connection.subflows.values()}
    world.hosts.client.change(set_link(world.hosts.first.one.ifindex, up=False))

    def ports() -> list[set[int]]:
        here, there = scene.connection.subflows.values(), scene.at_server.subflows.values()
        return [{flow.local.port for flow in here}, {flow.remote.port for flow in there}]

    # Old and new are there together for a moment, on either side.
    world.until(
        lambda: all(len(found) == 1 and not found & before for found in ports()),
        "a new subflow instead of the old",
    )
    scene.expect(FROM_2)
    # What waited in the old one is thrown away, not sent to the end: it would only be in the way.
    with world.hosts.client, open("/proc/thread-self/net/tcp") as stream:
        ends = [line.split()[1].split(":") for line in stream][1:]
    left = {int(port, 16) for ip, port in ends if ip == SECOND}
    assert left and not left & before
    received = 0
    while received < sent:
        data = server.recv(len(piece) - received % len(piece))
        assert data and data == piece[received % len(piece) :][: len(data)]
        received += len(data)
    # The peer hears, too, when the path is lost that was renewed.
    first, second = world.hosts.first.one, world.hosts.second.one
    world.hosts.client.change(set_link(first.ifindex, up=True))
    add_default_route(first, "10.0.1.2", metric=100)
    scene.expect(FROM_1, FROM_2)
    world.hosts.client.change(set_link(second.ifindex, up=False))
    scene.expect(FROM_1)
    assert scene.client.registry.failures == 0


def test_the_last_subflow_stays_until_there_is_another(world: World) -> None:
    """An address that is the only one goes: the connection waits for the next one and lives on."""
    first, second = world.hosts.first.one, world.hosts.second.one
    world.hosts.client.change(set_link(second.ifindex, up=False))
    scene = Scene(world)
    scene.expect(FROM_1)
    delete_address(first, "10.0.1.1/24")
    world.until(lambda: "10.0.1.1" not in str(interfaces(scene.client)), "the address to go")
    scene.expect(FROM_1)
    world.hosts.client.change(set_link(second.ifindex, up=True))
    add_default_route(second, "10.0.2.2", metric=200)
    scene.expect(FROM_2)
    scene.sockets.exchange()


def test_both_paths_are_lost_at_once(world: World) -> None:
    scene = Scene(world)
    scene.expect(FROM_1, FROM_2)
    first, second = world.hosts.first.one, world.hosts.second.one
    for end in (first, second):
        world.hosts.client.change(set_link(end.ifindex, up=False))
    world.until(lambda: len(pairs(scene.connection)) == 1, "one subflow to close")
    world.hosts.client.change(set_link(first.ifindex, up=True))
    add_default_route(first, "10.0.1.2", metric=100)
    world.until(lambda: pairs(scene.connection) == {FROM_1}, "a subflow over the path that is back")
    scene.sockets.exchange()


def interfaces(daemon: Joined) -> list[object]:
    return [interface.addresses for interface in daemon.daemon.network.interfaces.values()]


def test_a_peer_that_denies_joins_to_its_initial_address(world: World) -> None:
    world.hosts.server.set_sysctl("net.mptcp.allow_join_initial_addr_port", 0)
    scene = Scene(world)
    assert scene.connection.deny_join_id0
    scene.announce("10.0.2.2")
    scene.expect(FROM_1, ("10.0.1.1", "10.0.2.2"), ("10.0.2.1", "10.0.2.2"))
    asked = [flow.remote for flow in scene.peer.subflows("new_subflow")]
    assert len(asked) == 2


def test_the_limit(world: World) -> None:
    """It counts the first subflow; a place that comes free is used."""
    said = parse("[fullmesh]\nmax-subflows=3", "f")
    scene = Scene(world, CONFIG._replace(sections=said.sections))
    scene.expect(FROM_1, FROM_2)
    second = scene.announce("10.0.2.2")
    scene.expect(FROM_1, FROM_2, ("10.0.1.1", "10.0.2.2"))
    world.hosts.client.change(set_link(world.hosts.second.one.ifindex, up=False))
    scene.expect(FROM_1, ("10.0.1.1", "10.0.2.2"))
    scene.server.pms[scene.peer].remove(scene.at_server, second)
    scene.expect(FROM_1)


def test_an_address_without_a_default_route(world: World) -> None:
    """Not used where routes are checked; used as soon as there is one, and left with the last."""
    second = world.hosts.second.one
    world.hosts.client.change(delete_route(AF_INET, oif=second.ifindex))
    scene = Scene(world, CONFIG._replace(notify_flags=CONFIG.notify_flags | {"check_route"}))
    assert (pairs(scene.connection), dict(scene.connection.asked)) == ({FROM_1}, {})
    add_default_route(second, "10.0.2.2", metric=200)
    scene.expect(FROM_1, FROM_2)
    world.hosts.client.change(delete_route(AF_INET, oif=second.ifindex))
    scene.expect(FROM_1)
    scene.sockets.exchange()


def test_ipv6_and_both_families(world: World) -> None:
    if not world.hosts.client.has_ipv6:
        pytest.skip("this kernel has no IPv6")
    scene = Scene(world, address="fd00:1::2")
    six = (("fd00:1::1", "fd00:1::2"), ("fd00:2::1", "fd00:1::2"))
    scene.expect(*six)
    scene.announce("10.0.2.2")  # an IPv6 socket can have IPv4 subflows, too
    scene.expect(*six, ("10.0.1.1", "10.0.2.2"), ("10.0.2.1", "10.0.2.2"))


def test_an_ipv4_connection_cannot_use_an_ipv6_address(world: World) -> None:
    scene = Scene(world)
    scene.expect(FROM_1, FROM_2)
    scene.announce("fd00:2::2")
    world.until(lambda: len(scene.connection.remote_addresses) == 1, "the announcement")
    scene.announce("10.0.2.2")
    scene.expect(FROM_1, FROM_2, ("10.0.1.1", "10.0.2.2"), ("10.0.2.1", "10.0.2.2"))
    assert scene.client.registry.failures == 0


def test_what_failed_is_tried_again_when_it_is_announced_again(world: World) -> None:
    scene = Scene(world)
    scene.expect(FROM_1, FROM_2)
    scene.sockets.listener.close()  # new joins are refused from now on
    ident = scene.announce("10.0.2.2")
    world.until(lambda: scene.connection.remote_addresses, "the announcement")
    plugin = next(iter(scene.client.pms))
    world.until(lambda: not plugin.joins.pending(scene.connection), "the refusals")  # type: ignore[attr-defined]
    scene.expect(FROM_1, FROM_2)
    scene.server.pms[scene.peer].remove(scene.at_server, ident)
    world.until(lambda: not scene.connection.remote_addresses, "the withdrawal")
    with world.hosts.server:
        scene.server.listeners.listen(f"10.0.2.2:{scene.at_server.local.port}")
    scene.announce("10.0.2.2")
    scene.expect(FROM_1, FROM_2, ("10.0.1.1", "10.0.2.2"), ("10.0.2.1", "10.0.2.2"))


def test_connections_that_are_not_ours(world: World) -> None:
    """Of peers, and from this host to itself: declined, so that the next plugin gets them."""
    other = Recorder("other", priority=1)
    server = world.on_server(bundled("fullmesh"), other)
    sockets = world.open()
    connection = world.established(server, sockets.server)
    assert connection.owner.plugin is other
    local = traffic.open_connection(world.hosts.server, world.hosts.server, "127.0.0.1")
    inner = world.established(server, local.client)
    assert inner.owner.plugin is other
    local.close()


def test_connections_found_at_the_start(world: World) -> None:
    scene_server = world.on_server(Recorder())
    sockets = world.open("10.0.1.2", "0.0.0.0")
    client = world.on_client(bundled("fullmesh"))
    connection = world.established(client, sockets.client)
    world.until(lambda: pairs(connection) == {FROM_1, FROM_2}, "the second subflow")
    assert len(scene_server.table.by_token) == 1


def test_a_path_that_was_lost_while_the_daemon_was_away(world: World) -> None:
    scene = Scene(world)
    scene.expect(FROM_1, FROM_2)
    world.end(scene.client)
    world.hosts.first.other.down()
    wait_until(lambda: not world.hosts.first.one.running(), "the carrier is lost")
    after = world.on_client(bundled("fullmesh"))
    connection = world.established(after, scene.sockets.client)
    world.until(lambda: pairs(connection) == {FROM_2}, "the lost path is left")
    scene.sockets.exchange()
    assert after.registry.failures == 0


def test_the_kernels_own_connections_are_left_alone(world: World) -> None:
    world.hosts.client.set_sysctl("net.mptcp.pm_type", 0)
    scene = Scene(world)
    scene.announce("10.0.2.2")
    world.until(lambda: scene.connection.remote_addresses, "the announcement")
    assert pairs(scene.connection) == {FROM_1}
    plugin = next(iter(scene.client.pms))
    assert plugin.joins.followed() == []  # type: ignore[attr-defined]
    assert scene.client.registry.failures == 0
