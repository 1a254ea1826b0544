"""A scenario's host and its peer on a fake kernel.

The peer is as far as the host can tell: it takes joins at 10.0.N.2, where it listens on port 80.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable

from mptcpd.core.address import SockAddr, sockaddr
from mptcpd.nl.mptcp import AF_INET
from mptcpd.plugin import Subflow
from tests.fake.network import NetworkTable
from tests.fake_kernel import FakeKernel
from tests.whole import Driven

PORT = 80


class FakeWorld:
    """See ``tests.scenario.World``."""

    def __init__(self, kernel: FakeKernel | None = None) -> None:
        self.kernel = FakeKernel(network=NetworkTable()) if kernel is None else kernel
        self.userspace = True
        self._tokens = itertools.count(0x1000)
        self._ports = itertools.count(33000)

    def link(self, name: str, *addresses: str) -> None:
        network = self.kernel.network
        link = network.add_link(name)
        for text in addresses:
            network.add_address(link, text)
        network.set_link(link, up=True)
        network.set_link(link, carrier=True)

    def address(self, what: str, name: str, address: str) -> None:
        network = self.kernel.network
        if what == "add":
            network.add_address(network.find(name), address)
        else:
            network.delete_address(network.find(name), address)

    def interface(self, what: str, name: str) -> None:
        self.kernel.network.set_link(self.kernel.network.find(name), up=what == "up")

    def cable(self, what: str, name: str) -> None:
        self.kernel.network.set_link(self.kernel.network.find(name), carrier=what == "plug")

    def rename(self, name: str, to: str) -> None:
        self.kernel.network.set_link(self.kernel.network.find(name), name=to)

    def delete(self, name: str) -> None:
        self.kernel.network.delete_link(self.kernel.network.find(name))

    def route(self, what: str, name: str) -> None:
        network = self.kernel.network
        change = {"add": network.add_route, "delete": network.delete_route}[what]
        change(network.find(name), AF_INET)

    def connect(self, remote: SockAddr) -> None:
        table, token = self.kernel.connections, next(self._tokens)
        # The route: the address of the host in the peer's network.
        local = SockAddr(remote.ip - 1, next(self._ports))
        if not self.userspace:
            table.foreign.add(token)
        table.open(token, str(local), f"{remote.ip}:{remote.port or PORT}")

    def serve(self, port: int) -> None:
        self.kernel.listens(sockaddr(f"0.0.0.0:{port}"), True)

    def accept(self, local: SockAddr) -> None:
        remote = SockAddr(local.ip + 1, next(self._ports))
        self.kernel.connections.open(next(self._tokens), str(local), str(remote), server=True)

    def close(self, token: int) -> None:
        self.kernel.connections.close(token)

    def peer_announce(self, token: int, address: SockAddr, ident: int) -> None:
        # An announcement without a port is told with the connection's.
        port = address.port or self.kernel.connections.first[token][1].port
        self.kernel.connections.peer_announces(str(SockAddr(address.ip, port)), ident, token)

    def peer_remove(self, token: int, ident: int) -> None:
        self.kernel.connections.peer_removes(ident, token)

    def peer_destroy(self, token: int, flow: Subflow) -> None:
        self.kernel.connections.peer_destroys((flow.local, flow.remote), token)

    def peer_backup(self, token: int, flow: Subflow, backup: bool) -> None:
        ends = flow.local, flow.remote
        self.kernel.connections.peer_prefers(ends, int(backup), token)

    def ifindex(self, name: str) -> int:
        return self.kernel.network.find(name).index

    def settle(self, loop: Driven, arrived: Callable[[], bool]) -> None:
        connections = self.kernel.connections
        for _join in range(100):
            connections.react()
            self.kernel.tell()
            loop.settle(self.busy)
            if connections.later:
                continue
            if not connections.pending:
                return
            remote = connections.pending[0].ends[1]
            there = str(remote.ip).endswith(".2") and remote.port == PORT
            connections.answer(0 if there else errno.ECONNREFUSED)
        raise AssertionError("it goes on asking for subflows")

    def busy(self) -> bool:
        """Whether notifications wait to be read."""
        return any(each.groups and each.due() is not None for each in self.kernel.sockets)
