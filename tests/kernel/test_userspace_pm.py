"""What plugins are told of real connections, and what they can do to them: hooks and commands.

The daemon's parts are joined as in the program and run inside the hosts; events, commands and
outcomes are this kernel's.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from lab import traffic
from mptcpd.core.connections import Connection
from mptcpd.core.owners import CONNECTION_HOOKS, LISTENER_HOOKS
from mptcpd.core.pm import PathManager
from mptcpd.nl import bpf
from mptcpd.nl import uapi as u
from mptcpd.nl.diag import TCP_SYN_SENT
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.rtnl_change import set_link
from mptcpd.nl.sock import CommandSocket
from mptcpd.nl.uapi import NETLINK_SOCK_DIAG
from mptcpd.plugin import KernelError, Plugin, SockAddr, Subflow
from tests.kernel.conftest import TwoHosts
from tests.kernel.joined import ROOT, Joined, Program, Recorder, World
from tests.kernel.watch import EventWatch, use_userspace_pm

# address that is connected to, address that the server's application listens on, second pair
FLAVOURS = {
    "ipv4": ("10.0.1.2", "0.0.0.0", "10.0.2.1", "10.0.2.2"),
    "ipv6": ("fd00:1::2", "::", "fd00:2::1", "fd00:2::2"),
    "ipv4-at-ipv6-server": ("10.0.1.2", "::", "10.0.2.1", "10.0.2.2"),
    "ipv4-mapped": ("::ffff:10.0.1.2", "::", "10.0.2.1", "10.0.2.2"),
}


@pytest.fixture
def world(two_hosts: TwoHosts) -> Iterator[World]:
    with World(two_hosts) as world:
        yield world


class Scene:
    """One connection, and a recorder at each end of it."""

    def __init__(self, world: World, flavour: str = "ipv4") -> None:
        address, listen, self.local, self.remote = FLAVOURS[flavour]
        if ":" in address + listen and not world.hosts.client.has_ipv6:
            pytest.skip("this kernel has no IPv6")
        self.world = world
        self.client, self.server = Recorder("client"), Recorder("server")
        self.client_daemon = world.on_client(self.client)
        self.server_daemon = world.on_server(self.server)
        self.sockets = world.open(address, listen)
        self.at_client = world.established(self.client_daemon, self.sockets.client)
        self.at_server = world.established(self.server_daemon, self.sockets.server)

    @property
    def ours(self) -> PathManager:
        return self.client_daemon.pms[self.client]

    @property
    def theirs(self) -> PathManager:
        return self.server_daemon.pms[self.server]

    def second_subflow(self, *, backup: bool = False) -> tuple[Subflow, Subflow]:
        """Create it from the client; as either side is told of it."""
        ifindex = self.world.hosts.second.one.ifindex
        before = len(self.client.subflows("new_subflow"))
        self.ours.create_subflow(
            self.at_client, self.local, self.remote, ifindex=ifindex, backup=backup
        )
        self.world.until(
            lambda: len(self.client.subflows("new_subflow")) > before
            and len(self.server.subflows("new_subflow")) > before,
            "the second subflow",
        )
        return self.client.subflows("new_subflow")[-1], self.server.subflows("new_subflow")[-1]

    def announced(self, address: SockAddr | str, **options: bool) -> SockAddr:
        """Announce from the server."""
        with self.world.hosts.server:
            return self.theirs.announce(self.at_server, address, **options)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_hook_of_a_connections_life(flavour: str, world: World) -> None:
    scene = Scene(world, flavour)
    client, server, until = scene.client, scene.server, world.until
    local, remote = ip_address(scene.local), ip_address(scene.remote)
    ((created,),) = client.told("new_connection")
    assert created is scene.at_client is scene.ours.connections[created.token]
    assert (created.server_side, scene.at_server.server_side) == (False, True)
    assert created.remote.ip == scene.at_server.local.ip
    assert created.local == scene.at_server.remote
    ((listening,),) = server.told("listener_created")
    assert listening.port == scene.at_server.local.port

    one, other = scene.second_subflow()
    assert (one.local.ip, one.remote.ip) == (local, remote)
    assert (one.local, one.remote) == (other.remote, other.local)
    assert one.ifindex == world.hosts.second.one.ifindex
    assert one.local_id == other.remote_id != 0
    assert (one.backup, one.error) == (False, None)

    scene.ours.set_backup(scene.at_client, one, True)
    until(lambda: server.told("subflow_priority"), "subflow_priority")
    assert server.subflows("subflow_priority") == [other._replace(backup=True)]
    assert one._replace(backup=True) in scene.at_client.subflows.values()
    scene.theirs.set_backup(scene.at_server, other, True)
    scene.theirs.set_backup(scene.at_server, other, False)
    until(lambda: client.told("subflow_priority"), "subflow_priority at the client")
    assert client.subflows("subflow_priority")[-1].backup is False

    scene.announced(scene.remote, listen=False)
    until(lambda: client.told("new_address"), "new_address")
    ((connection, remote_id, address),) = client.told("new_address")
    assert (connection, address.ip) == (created, remote)
    assert dict(created.remote_addresses) == {remote_id: address}
    assert scene.at_server.announced[remote_id].ip == remote
    assert remote in [known.address.ip for known in scene.theirs.addresses(scene.at_server)]

    scene.theirs.remove(scene.at_server, remote_id)
    until(lambda: client.told("address_removed"), "address_removed")
    assert client.told("address_removed") == [(created, remote_id)]
    assert dict(created.remote_addresses) == dict(scene.at_server.announced) == {}
    until(lambda: client.told("subflow_closed"), "its subflow to close")
    until(lambda: server.told("subflow_closed"), "its subflow to close at the server")

    one, other = scene.second_subflow(backup=True)
    assert (one.backup, other.backup) == (True, True)
    scene.theirs.destroy_subflow(scene.at_server, other)
    until(lambda: len(client.told("subflow_closed")) == 2, "the destroyed subflow")
    assert client.subflows("subflow_closed")[1] == one._replace(error=0)
    assert [flow.local for flow in created.subflows.values()] == [created.local]
    scene.sockets.exchange()  # the first subflow goes on

    scene.sockets.close()
    until(lambda: server.told("listener_closed"), "listener_closed")
    until(lambda: server.told("connection_closed"), "connection_closed")
    until(lambda: client.told("connection_closed"), "connection_closed at the client")
    assert server.told("listener_closed") == [(listening,)]
    assert client.told("connection_closed") == [(created,)]
    assert dict(scene.ours.connections) == dict(scene.theirs.connections) == {}
    assert {*client.hooks(), *server.hooks()} == {*CONNECTION_HOOKS, *LISTENER_HOOKS}
    assert scene.client_daemon.unknown_attributes == []
    assert scene.client_daemon.watch.decode_errors == 0


def test_a_subflow_that_does_not_come_up(world: World) -> None:
    """Refused: told later by subflow_closed, once, with the error; not even started: at once."""
    scene = Scene(world)
    scene.ours.create_subflow(scene.at_client, "10.0.2.1", "10.0.2.2:9", remote_id=1)
    world.until(lambda: scene.client.told("subflow_closed"), "the refusal")
    (closed,) = scene.client.subflows("subflow_closed")
    assert (closed.local.ip, str(closed.remote)) == (ip_address("10.0.2.1"), "10.0.2.2:9")
    assert (closed.error, closed.remote_id) == (errno.ECONNREFUSED, 1)
    with pytest.raises(KernelError, match="connect error: -99") as caught:
        scene.ours.create_subflow(scene.at_client, "192.0.2.1", "10.0.2.2")
    assert caught.value.errno == errno.EADDRNOTAVAIL
    with pytest.raises(KernelError, match="families mismatch"):
        scene.ours.create_subflow(scene.at_client, "fd00:2::1", "fd00:2::2")
    with pytest.raises(ValueError, match="one address family"):
        scene.ours.create_subflow(scene.at_client, "fd00:2::1", "10.0.2.2")
    scene.sockets.exchange()
    assert len(scene.at_client.subflows) == 1
    assert "new_subflow" not in scene.client.hooks()


def test_a_subflow_whose_outcome_nobody_told_of(world: World) -> None:
    """A comparison with the kernel finds that it is not there; while it is tried it is awaited."""
    scene = Scene(world)
    watch, client = scene.client_daemon.watch, scene.client
    with world.hosts.client:
        sock = CommandSocket(NETLINK_SOCK_DIAG)
    kernel = DiagClient(sock)
    with contextlib.closing(EventWatch(world.hosts.client)) as events, contextlib.closing(sock):
        scene.ours.create_subflow(scene.at_client, "10.0.2.1", "10.0.2.99:80")  # nobody's address
        (pair,) = scene.at_client.asked
        watch._compare()
        assert list(scene.at_client.asked) == [pair]
        watch._events.filter(bpf.commands(frozenset()))  # as if there were no room for the news
        (trying,) = [flow for flow in kernel.subflows() if flow.state == TCP_SYN_SENT]
        kernel.destroy(trying.path)
        assert events.find(u.MPTCP_EVENT_SUB_CLOSED).remote_port == 80
    assert client.told("subflow_closed") == []
    watch._compare()
    (closed,) = client.subflows("subflow_closed")
    assert (closed.local, closed.remote, closed.error) == (SockAddr(pair[0]), pair[1], 0)
    assert not scene.at_client.asked
    watch._compare()
    assert len(client.told("subflow_closed")) == 1


def test_announce_with_a_listener(world: World) -> None:
    """Port 0 is filled in, the peer can join there, and remove closes both."""
    scene = Scene(world)
    listeners = scene.server_daemon.listeners
    address = scene.announced("10.0.2.2")
    assert (str(address.ip), len(listeners)) == ("10.0.2.2", 1)
    assert address.port not in (0, scene.at_server.local.port)
    world.until(lambda: scene.client.told("new_address"), "the announcement")
    (remote_id,) = scene.at_server.announced
    assert dict(scene.at_client.remote_addresses) == {remote_id: address}
    assert scene.announced("10.0.2.2") == address  # announced again, not on a second port
    assert len(listeners) == 1
    scene.ours.create_subflow(scene.at_client, "10.0.2.1", address, remote_id=remote_id)
    world.until(lambda: scene.server.told("new_subflow"), "a join to the announced port")
    assert scene.server.subflows("new_subflow")[0].local == address
    assert listeners.strangers == 0
    scene.theirs.remove(scene.at_server, remote_id)
    world.until(lambda: scene.client.told("subflow_closed"), "the subflow to close")
    assert (len(listeners), dict(scene.at_server.announced)) == (0, {})
    with pytest.raises(KernelError, match=f"address with id {remote_id} not found"):
        scene.theirs.remove(scene.at_server, remote_id)


def test_the_connections_end_releases_its_listeners(world: World) -> None:
    scene = Scene(world)
    first = scene.announced("10.0.2.2")
    held = scene.announced("10.0.1.2")
    other = world.open()  # a second connection shares one of the ports
    with world.hosts.server:
        connection = world.established(scene.server_daemon, other.server)
        assert scene.theirs.announce(connection, held) == held
    assert len(scene.server_daemon.listeners) == 2
    scene.sockets.client.close()
    scene.sockets.server.close()
    world.until(lambda: scene.server.told("connection_closed"), "connection_closed")
    assert len(scene.server_daemon.listeners) == 1
    world.until(lambda: (first,) in scene.server.told("listener_closed"), "its listener to close")
    assert (held,) not in scene.server.told("listener_closed")
    other.close()
    world.until(lambda: not scene.server_daemon.listeners, "the last listener to close")


def test_a_refused_announce_releases_its_listener(world: World) -> None:
    scene = Scene(world)
    scene.announced("10.0.2.2", listen=False)
    (used,) = scene.at_server.announced
    with world.hosts.server, pytest.raises(KernelError, match="did not match address and id"):
        scene.theirs.announce(scene.at_server, "10.0.1.2", used)
    with world.hosts.server, pytest.raises(OSError, match="192.0.2.1: Cannot assign"):
        scene.theirs.announce(scene.at_server, "192.0.2.1")
    assert len(scene.server_daemon.listeners) == 0
    assert [str(known) for known in scene.at_server.announced.values()] == ["10.0.2.2"]


def test_an_id_that_the_kernel_gave_before_us(world: World) -> None:
    """The peer joins to an address first: the kernel numbers it, and we go by its number."""
    scene = Scene(world, "ipv4-at-ipv6-server")
    scene.second_subflow()  # to 10.0.2.2, which is 1 for the server's kernel from now on
    ids = scene.theirs.ids
    assert (ids.get("10.0.1.2"), ids.get("10.0.2.2")) == (1, 2)
    scene.announced("10.0.2.2", listen=False)
    world.until(lambda: scene.client.told("new_address"), "the announcement")
    assert list(scene.at_client.remote_addresses) == list(scene.at_server.announced) == [1]
    scene.announced("10.0.1.2", listen=False)  # whose own ID is the one just given away
    world.until(lambda: len(scene.client.told("new_address")) == 2, "the second announcement")
    assert list(scene.at_client.remote_addresses) == list(scene.at_server.announced) == [1, 2]


def test_subflows_from_the_first_address_have_id_0(world: World) -> None:
    scene = Scene(world)
    announced = scene.announced("10.0.2.2")
    scene.ours.create_subflow(scene.at_client, "10.0.1.1", announced, remote_id=1)
    world.until(lambda: scene.server.told("new_subflow"), "the subflow")
    (subflow,) = scene.server.subflows("new_subflow")
    assert (subflow.local_id, subflow.remote_id) == (1, 0)


def test_an_announced_address_can_be_removed_after_its_subflow_was_destroyed(world: World) -> None:
    """The kernel then knows no such ID any more; the peer is told all the same."""
    scene = Scene(world, "ipv4-at-ipv6-server")
    scene.announced("10.0.2.2", listen=False)
    (remote_id,) = scene.at_server.announced
    _one, other = scene.second_subflow()
    scene.theirs.destroy_subflow(scene.at_server, other)
    world.until(lambda: scene.client.told("subflow_closed"), "the subflow to close")
    scene.theirs.remove(scene.at_server, remote_id)
    world.until(lambda: scene.client.told("address_removed"), "address_removed")
    assert dict(scene.at_server.announced) == {}


def test_abandoning_an_address_over_a_dead_link(world: World) -> None:
    """Our subflow closes at once, and the peer closes its end though that link is down."""
    scene = Scene(world)
    _one, other = scene.second_subflow()
    world.hosts.client.change(set_link(world.hosts.second.one.ifindex, up=False))
    scene.ours.abandon(scene.at_client, "10.0.2.1")
    world.until(lambda: scene.client.told("subflow_closed"), "our end to close")
    world.until(lambda: scene.server.told("subflow_closed"), "the peer's end to close")
    assert scene.server.subflows("subflow_closed") == [other._replace(error=0)]
    scene.ours.abandon(scene.at_client, "10.0.2.1")  # nothing is left to do
    scene.sockets.exchange()


def test_deny_join_id0_is_told(world: World) -> None:
    world.hosts.server.set_sysctl("net.mptcp.allow_join_initial_addr_port", 0)
    scene = Scene(world)
    assert (scene.at_client.deny_join_id0, scene.at_server.deny_join_id0) == (True, False)


def commands(pm: PathManager, connection: Connection) -> Iterator[tuple[str, str]]:
    """The name of each command and what the kernel says to it."""
    subflow = Subflow(connection.local, connection.remote)
    attempts: dict[str, Callable[[], object]] = {
        "announce": lambda: pm.announce(connection, "10.0.2.1", listen=False),
        "remove": lambda: pm.remove(connection, 1),
        "create_subflow": lambda: pm.create_subflow(connection, "10.0.2.1", "10.0.2.2"),
        "destroy_subflow": lambda: pm.destroy_subflow(connection, subflow),
        "set_backup": lambda: pm.set_backup(connection, subflow, True),
        "addresses": lambda: pm.addresses(connection),
    }
    for name, attempt in attempts.items():
        with pytest.raises(KernelError) as caught:
            attempt()
        yield name, caught.value.words or ""


def test_a_connection_of_the_kernels_own_path_manager(world: World) -> None:
    """It is seen like any other, and every command is refused with the reason."""
    for host in (world.hosts.client, world.hosts.server):
        host.set_sysctl("net.mptcp.pm_type", 0)
    scene = Scene(world)
    said = dict(commands(scene.ours, scene.at_client))
    assert set(said.values()) == {"userspace PM not selected"}, said
    assert len(scene.client_daemon.listeners) == 0


def test_a_token_that_names_no_connection(world: World) -> None:
    scene = Scene(world)
    scene.sockets.close()
    world.until(lambda: scene.client.told("connection_closed"), "connection_closed")
    said = dict(commands(scene.ours, scene.at_client))
    assert set(said.values()) == {"invalid token"}, said


class Picky(Recorder):
    """Takes the connections of one side only."""

    def __init__(self, name: str, server_side: bool, priority: int = 0) -> None:
        super().__init__(name, priority)
        self.server_side = server_side

    def new_connection(self, connection: Connection, pm: PathManager) -> bool:
        self.heard.append(("new_connection", (connection,)))
        return connection.server_side == self.server_side


def test_two_strategies_in_one_daemon(world: World) -> None:
    """Each is asked in its turn and told only of its own connections; everybody of listeners."""
    clients = Picky("clients", server_side=False, priority=-1)
    servers = Picky("servers", server_side=True, priority=1)
    client, server = world.on_client(servers, clients), world.on_server()
    sockets = world.open()
    outward = world.established(client, sockets.client)
    with world.hosts.client:
        listener = traffic.listen(world.hosts.client, "10.0.1.1")
        peer = traffic.connect(world.hosts.server, "10.0.1.1", listener.getsockname()[1])
        accepted = listener.accept()[0]
        inward_sockets = traffic.Connection(peer, accepted, listener)
        inward_sockets.exchange()
    inward = world.established(client, accepted)
    assert server.table.by_token == {}  # no plugin there needs connections
    inward_sockets.close()
    sockets.close()
    world.until(lambda: not client.table.by_token, "both to close")
    life = ["new_connection", "connection_established", "connection_closed"]

    def heard(plugin: Recorder, connection: Connection) -> list[str]:
        return [hook for hook, arguments in plugin.heard if arguments[0] is connection]

    assert heard(clients, outward) == heard(servers, inward) == life
    assert heard(clients, inward) == ["new_connection"]  # asked first, and declined
    assert heard(servers, outward) == []
    world.until(lambda: len(servers.told("listener_closed")) == 1, "listener_closed")
    assert [len(each.told("listener_created")) for each in (clients, servers)] == [1, 1]


class Broken(Plugin):
    """Raises in every hook that it is offered."""

    priority = -1

    def new_connection(self, connection: Connection, pm: PathManager) -> None:
        raise RuntimeError("broken")

    def listener_created(self, address: SockAddr, pm: PathManager) -> None:
        raise RuntimeError("broken, too")


def test_a_plugin_that_raises_stands_in_nobodys_way(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    daemon: Joined = world.on_server(Broken(), recorder)
    sockets = world.open()
    world.established(daemon, sockets.server)
    sockets.close()
    world.until(lambda: recorder.told("connection_closed"), "connection_closed")
    assert recorder.hooks()[:3] == [
        "listener_created", "new_connection", "connection_established",
    ]  # fmt: skip
    assert daemon.registry.failures == 2
    assert "RuntimeError: broken" in caplog.text
    assert 'Plugin "broken": new_connection failed' in caplog.text


def test_the_readmes_plugin_in_the_real_program(two_hosts: TwoHosts, tmp_path: Path) -> None:
    """Copied out of README.md, as a reader would do it."""
    readme = Path(ROOT, "README.md").read_text()
    code = re.findall(r'```python\n("""spare\.py:.*?)```', readme, re.DOTALL)
    (tmp_path / "spare.py").write_text(code[0])
    client, server = two_hosts.client, two_hosts.server
    use_userspace_pm(server)
    text = f"[core]\nplugin-dir={tmp_path}\npm=userspace\naddresses=ipv4"
    daemon = Program(client, tmp_path, text).ready()
    events = EventWatch(server)  # the kernel takes joins while somebody listens for events
    sockets = traffic.open_connection(client, server, "10.0.1.2")
    joined = events.find(u.MPTCP_EVENT_SUB_ESTABLISHED)
    assert (joined.remote_ip, joined.backup) == (ip_address("10.0.2.1").packed, 1)
    sockets.exchange()
    sockets.close()
    events.close()
    assert daemon.end() == 0
    assert "Traceback" not in daemon.said
    assert len(code[0].splitlines()) <= 25
