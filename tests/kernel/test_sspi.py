"""sspi on the real kernel: one subflow per interface, addresses announced and withdrawn."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from lab import traffic
from lab.network import add_address, add_default_route, delete_address
from mptcpd.core.connections import Connection
from mptcpd.nl.rtnl_change import set_link
from mptcpd.plugin import SockAddr
from tests.kernel.conftest import TwoHosts
from tests.kernel.joined import Joined, Recorder, World, bundled, pairs

FROM_1, FROM_2 = ("10.0.1.1", "10.0.1.2"), ("10.0.2.1", "10.0.1.2")


@pytest.fixture
def world(two_hosts: TwoHosts) -> Iterator[World]:
    with World(two_hosts) as world:
        yield world


class Client:
    """A client whose daemon only looks on, and what it hears from a server with sspi."""

    def __init__(self, world: World, listen: str = "10.0.1.2") -> None:
        self.world = world
        self.recorder = Recorder()
        self.server = world.on_server(bundled("sspi"))
        self.daemon: Joined = world.on_client(self.recorder)
        self.sockets, self.connection = self.connect(listen)

    def connect(self, listen: str) -> tuple[traffic.Connection, Connection]:
        sockets = self.world.open("10.0.1.2", listen)
        return sockets, self.world.established(self.daemon, sockets.client)

    @property
    def known(self) -> dict[int, SockAddr]:
        return dict(self.connection.remote_addresses)

    def until_known(self, *addresses: str) -> dict[int, SockAddr]:
        """Wait until the server has announced just these; ID -> address."""
        self.world.until(
            lambda: {str(address.ip) for address in self.known.values()} == set(addresses),
            f"{addresses} announced, not {self.known}",
        )
        return self.known

    def join(self, local: str, remote: SockAddr | str, remote_id: int) -> None:
        """Create a subflow, and wait for the outcome."""
        heard = len(self.recorder.heard)
        pm = self.daemon.pms[self.recorder]
        pm.create_subflow(self.connection, local, remote, remote_id=remote_id)
        self.world.until(lambda: len(self.recorder.heard) > heard, f"a join from {local}")


def second_addresses(world: World) -> set[str]:
    return {"10.0.2.2", "fd00:2::2"} if world.hosts.client.has_ipv6 else {"10.0.2.2"}


def test_a_server_announces_its_other_interfaces(world: World) -> None:
    """With valid IDs, and with a socket that takes joins there, though the application has none."""
    client = Client(world)
    known = client.until_known(*second_addresses(world))
    assert 0 not in known
    port = client.connection.remote.port
    assert {address.port for address in known.values()} == {port}
    assert len(client.server.listeners) == len(known)
    (ident,) = [ident for ident, address in known.items() if str(address.ip) == "10.0.2.2"]
    client.join("10.0.2.1", known[ident], ident)
    assert pairs(client.connection) == {FROM_1, ("10.0.2.1", "10.0.2.2")}
    client.sockets.exchange()
    client.sockets.close()
    world.until(lambda: not client.server.table.by_token, "connection_closed")
    assert len(client.server.listeners) == 0


def test_no_socket_where_the_application_listens_itself(world: World) -> None:
    client = Client(world, "0.0.0.0")
    known = client.until_known(*second_addresses(world))
    six = {address for address in second_addresses(world) if ":" in address}
    assert len(client.server.listeners) == len(six)  # 0.0.0.0 is no IPv6 port
    (ident,) = [ident for ident, address in known.items() if str(address.ip) == "10.0.2.2"]
    client.join("10.0.2.1", known[ident], ident)
    assert pairs(client.connection) == {FROM_1, ("10.0.2.1", "10.0.2.2")}


def test_a_server_withdraws_an_address_that_goes(world: World) -> None:
    second = world.hosts.second.other
    client = Client(world)
    both = second_addresses(world)
    known = client.until_known(*both)
    (ident,) = [ident for ident, address in known.items() if str(address.ip) == "10.0.2.2"]
    client.join("10.0.2.1", known[ident], ident)
    delete_address(second, "10.0.2.2/24")
    client.until_known(*(both - {"10.0.2.2"}))
    world.until(lambda: pairs(client.connection) == {FROM_1}, "its subflow to close")
    assert len(client.server.listeners) == len(both) - 1
    add_address(second, "10.0.2.2/24")
    add_address(second, "10.0.2.9/24")
    known = client.until_known(*both, "10.0.2.9")
    assert len(client.server.listeners) == len(known)
    world.hosts.server.change(set_link(second.ifindex, up=False))
    client.until_known()
    assert len(client.server.listeners) == 0
    client.sockets.exchange()
    assert client.server.registry.failures == 0


def test_a_second_subflow_on_an_interface_is_closed(world: World) -> None:
    client = Client(world, "0.0.0.0")
    client.until_known(*second_addresses(world))
    client.join("10.0.2.1", client.connection.remote, 0)
    world.until(lambda: client.recorder.told("subflow_closed"), "it to close")
    assert pairs(client.connection) == {FROM_1}
    (on_server,) = client.server.table.by_token.values()
    world.until(lambda: pairs(on_server) == {("10.0.1.2", "10.0.1.1")}, "the server to know")
    client.sockets.exchange()


def test_a_server_with_one_interface_keeps_joins(world: World) -> None:
    """The peer's other interfaces have nowhere else to go."""
    world.hosts.server.change(set_link(world.hosts.second.other.ifindex, up=False))
    client = Client(world, "0.0.0.0")
    client.join("10.0.1.1", client.connection.remote, 0)
    client.join("10.0.1.1", client.connection.remote, 0)
    client.sockets.exchange()
    client.sockets.exchange()
    assert "subflow_closed" not in client.recorder.hooks()
    assert len(client.connection.subflows) == 3
    assert client.known == {}


class Scene:
    """A client with sspi, and a server that only looks on."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.peer = Recorder()
        self.server: Joined = world.on_server(self.peer)
        self.client = world.on_client(bundled("sspi"))
        self.sockets = world.open("10.0.1.2", "0.0.0.0")
        self.connection = world.established(self.client, self.sockets.client)

    def expect(self, *expected: tuple[str, str]) -> None:
        self.world.until(
            lambda: pairs(self.connection) == set(expected),
            f"{expected}, not {pairs(self.connection)}",
        )


def test_a_client_uses_each_interface_once(world: World) -> None:
    second = world.hosts.second.one
    add_address(second, "10.0.2.5/24")
    scene = Scene(world)
    scene.expect(FROM_1, FROM_2)
    pm = scene.server.pms[scene.peer]
    (at_server,) = scene.server.table.by_token.values()
    pm.announce(at_server, "10.0.2.2", listen=False)
    world.until(lambda: scene.connection.remote_addresses, "the announcement")
    scene.expect(FROM_1, FROM_2)
    delete_address(second, "10.0.2.1/24")  # takes 10.0.2.5 with it, which was secondary to it
    scene.expect(FROM_1)
    add_address(second, "10.0.2.5/24")
    add_default_route(second, "10.0.2.2", metric=200)
    scene.sockets.exchange()
    add_address(second, "10.0.2.6/24")
    world.until(lambda: len(pairs(scene.connection)) == 2, "a subflow from eth1 again")
    assert scene.client.registry.failures == 0


def test_a_client_goes_on_to_the_peers_next_address(world: World) -> None:
    """Where the initial address refuses, an announced one is tried."""
    world.hosts.server.set_sysctl("net.mptcp.allow_join_initial_addr_port", 0)
    scene = Scene(world)
    scene.expect(FROM_1)
    pm = scene.server.pms[scene.peer]
    (at_server,) = scene.server.table.by_token.values()
    port = at_server.local.port
    pm.announce(at_server, f"10.0.2.2:{port + 1 if port < 65535 else 1024}", 9, listen=False)
    world.until(lambda: scene.connection.remote_addresses, "the announcement")
    pm.announce(at_server, "10.0.2.2", 10, listen=False)
    scene.expect(FROM_1, ("10.0.2.1", "10.0.2.2"))
    assert {flow.remote.port for flow in scene.connection.subflows.values()} == {port}


@pytest.mark.parametrize("plugin", ["sspi", "fullmesh"])
def test_a_peer_that_moves_to_a_new_subflow(world: World, plugin: str) -> None:
    """Its path is lost, and its daemon replaces the others: we must not close the new ones."""
    server, client = world.on_server(bundled("sspi")), world.on_client(bundled(plugin))
    sockets = world.open("10.0.1.2", "0.0.0.0")
    connection = world.established(client, sockets.client)
    world.until(lambda: len(connection.subflows) == 2, "the second subflow")
    sockets.client.setblocking(False)
    sent = 0
    while select.select([], [sockets.client], [], 0.2)[1]:  # until nobody takes any more
        sent += sockets.client.send(bytes(1 << 16))
    world.hosts.client.change(set_link(world.hosts.first.one.ifindex, up=False))
    while sent:
        world.until(lambda: select.select([sockets.server], [], [], 0)[0], "more of the data")
        sent -= len(sockets.server.recv(1 << 20))
    world.until(
        lambda: {str(flow.local.ip) for flow in connection.subflows.values()} == {"10.0.2.1"},
        "only the path that remains",
    )
    assert (server.registry.failures, client.registry.failures) == (0, 0)


def test_both_sides(world: World) -> None:
    """Two daemons with sspi, two interfaces each: two subflows, and it stays so."""
    server, client = world.on_server(bundled("sspi")), world.on_client(bundled("sspi"))
    sockets = world.open("10.0.1.2", "0.0.0.0")
    connection = world.established(client, sockets.client)
    world.until(
        lambda: {local for local, _remote in pairs(connection)} == {"10.0.1.1", "10.0.2.1"}
        and {remote for _local, remote in pairs(connection)} == {"10.0.1.2", "10.0.2.2"},
        "a subflow on each interface of each side",
    )
    sockets.exchange()
    assert len(pairs(connection)) == 2
    sockets.close()
    world.until(lambda: not client.table.by_token and not server.table.by_token, "the end")
    assert (server.registry.failures, client.registry.failures) == (0, 0)
    assert len(server.listeners) == 0
