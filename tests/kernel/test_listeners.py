"""Listening sockets for announced ports on the real kernel: who gets in, and who does not."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from lab import Host, traffic
from mptcpd.core.listeners import BACKLOG, Listeners
from mptcpd.core.loop import Loop
from mptcpd.nl import uapi as u
from tests.kernel.conftest import TwoHosts
from tests.kernel.joined import Recorder, World


class Scene:
    """Listeners of a host, with a loop that runs as long as a test waits."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.loop = Loop()
        self.listeners = Listeners(self.loop)

    def until(self, condition: Callable[[], object]) -> None:
        """Serve until it is true. Errors: AssertionError after 5 s."""

        def look() -> None:
            if condition():
                self.loop.stop()
            else:
                self.loop.call_later(0.005, look)

        look()
        deadline = self.loop.call_later(5, self.loop.stop)
        self.loop.run()
        deadline.cancel()
        assert condition()


@pytest.fixture
def scene(lone_host: Host) -> Iterator[Scene]:
    scene = Scene(lone_host)
    with lone_host:
        yield scene
    scene.listeners.close_all()
    scene.loop.close()


def can_connect(address: str, port: int, protocol: int = u.IPPROTO_MPTCP) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, protocol) as sock:
        sock.settimeout(5)
        try:
            sock.connect((address, port))
        except ConnectionRefusedError:
            return False
        return True


def test_counted(scene: Scene) -> None:
    held = scene.listeners.listen("127.0.0.1")
    assert held.port
    assert scene.listeners.listen(held) == scene.listeners.listen(str(held)) == held
    assert len(scene.listeners) == 1
    for _user in range(2):
        scene.listeners.close(held)
        assert can_connect("127.0.0.1", held.port)
    scene.listeners.close(held)
    assert not can_connect("127.0.0.1", held.port)
    with pytest.raises(KeyError):
        scene.listeners.close(held)
    assert len(scene.listeners) == 0


def test_port_0_is_a_new_port_each_time(scene: Scene) -> None:
    one, other = scene.listeners.listen("127.0.0.1"), scene.listeners.listen("127.0.0.1")
    assert one.port != other.port
    assert len(scene.listeners) == 2


def test_everything_is_closed_in_the_end(scene: Scene) -> None:
    before = set(os.listdir("/proc/self/fd"))
    held = [scene.listeners.listen(address) for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1")]
    scene.listeners.listen(held[0])
    scene.listeners.close_all()
    assert set(os.listdir("/proc/self/fd")) == before
    assert not any(can_connect(str(address.ip), address.port) for address in held)


def test_an_ipv6_listener_takes_no_ipv4_port(scene: Scene) -> None:
    if not scene.host.has_ipv6:
        pytest.skip("this kernel has no IPv6")
    held = scene.listeners.listen("[::1]:0")
    assert can_connect("::1", held.port)
    with socket.socket() as ours:
        ours.bind(("0.0.0.0", held.port))
        ours.listen()


def test_the_sockets_options(scene: Scene) -> None:
    opened: list[socket.socket] = []

    def spy(*arguments: int) -> socket.socket:
        opened.append(socket.socket(*arguments))
        return opened[-1]

    listeners = Listeners(scene.loop, spy)
    listeners.listen("127.0.0.1")
    (sock,) = opened
    assert not sock.get_inheritable()
    assert sock.proto == u.IPPROTO_MPTCP
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    # tcpi_sacked is the backlog while a socket listens (net/ipv4/tcp.c: tcp_get_info).
    assert int.from_bytes(info[28:32], sys.byteorder) == BACKLOG
    listeners.close_all()
    assert sock.fileno() == -1


def test_errors_name_the_address(scene: Scene) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r"192.0.2.1:80: Cannot assign requested address") as caught:
        scene.listeners.listen("192.0.2.1:80")
    assert caught.value.errno == errno.EADDRNOTAVAIL
    with socket.socket() as theirs:
        theirs.bind(("0.0.0.0", 0))
        theirs.listen()
        with pytest.raises(OSError, match="Address already in use") as caught:
            scene.listeners.listen(f"127.0.0.1:{theirs.getsockname()[1]}")
    assert caught.value.errno == errno.EADDRINUSE
    assert (len(scene.listeners), set(os.listdir("/proc/self/fd"))) == (0, before)


@pytest.mark.parametrize("protocol", [u.IPPROTO_MPTCP, socket.IPPROTO_TCP])
def test_strangers_are_reset(scene: Scene, protocol: int) -> None:
    held = scene.listeners.listen("127.0.0.1")
    strangers = [socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) for _ in range(200)]
    try:
        for stranger in strangers:  # more than the backlog, and than are turned away in one go
            stranger.settimeout(5)
            stranger.connect(("127.0.0.1", held.port))
            if stranger is strangers[99]:
                scene.until(lambda: scene.listeners.strangers == 100)
        scene.until(lambda: scene.listeners.strangers == 200)
        for stranger in strangers:
            with pytest.raises(ConnectionResetError):
                stranger.recv(1)
    finally:
        for stranger in strangers:
            stranger.close()


@pytest.fixture
def world(two_hosts: TwoHosts) -> Iterator[World]:
    with World(two_hosts) as world:
        yield world


def test_the_port_can_be_had_again_while_joins_through_it_live(world: World) -> None:
    """As after a restart of the daemon."""
    recorder, peer = Recorder(), Recorder()
    server, client = world.on_server(recorder), world.on_client(peer)
    sockets = world.open()
    connection = world.established(client, sockets.client)
    with world.hosts.server:
        held = server.listeners.listen("10.0.2.2")
        client.pms[peer].create_subflow(connection, "10.0.2.1", held)
        # The port is not the connection's own, so the join needs the announcement, too.
        server.pms[recorder].announce(world.established(server, sockets.server), held, listen=False)
        client.pms[peer].create_subflow(connection, "10.0.2.1", held, remote_id=1)
        world.until(lambda: peer.told("new_subflow"), "the join")
        server.listeners.close(held)
        assert server.listeners.listen(held) == held
    assert traffic.info(sockets.client).subflows == 1
