"""The daemon's parts from the connection table to the plugins, on a fake kernel, without its loop.

The kernel's events go straight into the table when a test says so; commands go through client and
socket into the kernel. With the whole daemon around it: ``tests/whole.py``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Any
from unittest.mock import Mock

from mptcpd.core.address import SockAddr
from mptcpd.core.commands import ConnectionCommands
from mptcpd.core.config import Config
from mptcpd.core.connections import Connection, Connections
from mptcpd.core.ids import AddressIds
from mptcpd.core.loop import Loop
from mptcpd.core.network import Network
from mptcpd.core.owners import Owners
from mptcpd.core.pm import PathManager
from mptcpd.core.registry import Registry
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.uapi import NETLINK_SOCK_DIAG
from mptcpd.plugin import Plugin
from tests.core.stubs import address, link
from tests.fake.connections import TOKEN, ConnectionTable, Ends
from tests.fake_kernel import FakeKernel


class FakeListeners:
    """``Listeners`` without sockets: ``busy`` are ports that cannot be had."""

    def __init__(self, busy: Iterable[str] = ()) -> None:
        self.held: dict[SockAddr, int] = {}
        self.busy = set(busy)
        self._port = 50000

    def listen(self, address: SockAddr) -> SockAddr:
        if str(address) in self.busy:
            raise OSError(errno.EADDRINUSE, f"{address}: Address already in use")
        if not address.port:
            self._port += 1
            address = SockAddr(address.ip, self._port)
        self.held[address] = self.held.get(address, 0) + 1
        return address

    def close(self, address: SockAddr) -> None:
        self.held[address] -= 1
        if not self.held[address]:
            del self.held[address]


class Daemon:
    """Plugins between a network and connections that the test changes, and a kernel it looks at."""

    def __init__(
        self,
        *plugins: Plugin,
        config: Config | None = None,
        connections: ConnectionTable | None = None,
    ) -> None:
        """``connections``: what an earlier daemon left in the kernel."""
        self.config = config or Config("null", "", notify_flags=frozenset({"existing"}))
        self.kernel = connections or ConnectionTable()
        self.listeners = FakeListeners()
        self.ids = AddressIds()
        listeners: Any = self.listeners
        kernel = FakeKernel(connections=self.kernel)
        self.sockets = DiagClient(kernel.commands(NETLINK_SOCK_DIAG))
        self.commands = ConnectionCommands(kernel.mptcp, self.ids, listeners, self.sockets)
        for plugin in plugins:
            plugin.name = plugin.name or type(plugin).__name__.lower()
        self.registry = Registry(plugins)
        self.owners = Owners(self.registry)
        self.table = Connections(self.owners, self.commands.ended)
        self.network = Network(
            self.registry, self.config.notify_flags, choice=self.config.choice()
        )
        self.now = 0.0
        self.loop = Loop(lambda: self.now)
        self.pms: list[PathManager] = []
        self.registry.start(self._path_manager)
        self.owners.start()

    def _path_manager(self, plugin: Plugin) -> PathManager:
        unused: Any = Mock()
        listeners: Any = self.listeners
        self.pms.append(
            PathManager(
                plugin.name,
                config=self.config,
                endpoints=unused,
                commands=self.commands,
                ids=self.ids,
                listeners=listeners,
                interfaces=self.network.interfaces,
                is_lost=self.network.is_lost,
                connections=self.table.by_token,
                loop=self.loop,
                guard=lambda what, function: self.registry.guard(plugin, what, function),
            )
        )
        return self.pms[-1]

    def have(self, *texts: str) -> None:
        """These addresses appear: "10.0.1.1/24 2" (the interface's number)."""
        for text in texts:
            where, _, number = text.partition(" ")
            if int(number) not in self.network.interfaces:
                self.network.link(link(int(number)))
            self.network.address(address(where, int(number)))

    def lose(self, *texts: str) -> None:
        """These addresses go."""
        for text in texts:
            where, _, number = text.partition(" ")
            self.network.address(address(where, int(number), gone=True))

    def hear(self) -> None:
        """Let the kernel tell what it has to, without answering joins."""
        while self.kernel.events:
            assert self.table.take(self.kernel.events.pop(0))

    def settle(self, verdict: Callable[[Ends], int] = lambda ends: 0) -> list[str]:
        """Let the kernel tell everything and answer every join; what it was asked meanwhile.

        verdict  the error of a join between two addresses, 0 for none
        """
        for _round in range(100):
            self.hear()
            if not self.kernel.pending:
                break
            self.kernel.answer(verdict(self.kernel.pending[0][1]))
        else:
            raise AssertionError("it never settles")
        assert self.registry.failures == 0
        asked, self.kernel.asked = self.kernel.asked, []
        return asked

    def wait(self, seconds: float) -> None:
        """Let time pass, and with it what was put off."""
        self.now += seconds
        self.loop.call_later(0, self.loop.stop)
        self.loop.run()

    def connection(self, token: int = TOKEN) -> Connection:
        return self.table.by_token[token]

    def pairs(self, token: int = TOKEN) -> list[str]:
        """Both IPs of each subflow that the kernel has; the table must have the same."""
        flows = self.connection(token).subflows.values()
        assert {(flow.local, flow.remote) for flow in flows} == self.kernel.up[token].keys()
        return sorted(f"{flow.local.ip} {flow.remote.ip}" for flow in flows)

