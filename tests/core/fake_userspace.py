"""The userspace path manager's side of the kernel: its rules, its words, and the events it sends.

Source  net/mptcp/pm_userspace.c (Linux 6.18), and what was seen of a real kernel.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Any
from unittest.mock import Mock

from mptcpd.core.address import SockAddr, from_packed, sockaddr
from mptcpd.core.commands import ConnectionCommands
from mptcpd.core.config import Config
from mptcpd.core.connections import Connection, Connections
from mptcpd.core.ids import AddressIds
from mptcpd.core.loop import Loop
from mptcpd.core.network import Network
from mptcpd.core.owners import Owners
from mptcpd.core.pm import PathManager
from mptcpd.core.registry import Registry
from mptcpd.nl import mptcp
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp_event import Event
from mptcpd.plugin import Plugin
from tests.core.stubs import address, link

TOKEN = 0x1000
Ends = tuple[SockAddr, SockAddr]


def event(kind: int, token: int, local: str = "", remote: str = "", **fields: Any) -> Event:
    """An event about a path, with its addresses as text."""
    if local:
        here = sockaddr(local)
        fields.update(local_ip=here.packed, local_port=here.port)
    if remote:
        there = sockaddr(remote)
        fields.update(remote_ip=there.packed, remote_port=there.port)
    return Event(kind, token, **fields)


class UserspaceKernel:
    """What ``MptcpClient`` offers for connections, with connections to try it on.

    asked     what was asked of it, in words      events   what it has to tell, oldest first
    up        token -> subflows that are up; pending: those that are being tried
    entries   token -> its list of local addresses: (address, ID)
    lacks     local IPs that nothing can be bound to
    foreign   tokens of connections of the kernel's own path manager
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.events: list[Event] = []
        self.up: dict[int, dict[Ends, int]] = {}
        self.pending: list[tuple[int, Ends, int, int]] = []
        self.entries: dict[int, list[tuple[SockAddr, int]]] = {}
        self.lacks: set[str] = set()
        self.foreign: set[int] = set()
        self._port = 40000

    def open(
        self,
        token: int = TOKEN,
        local: str = "10.0.1.1:5000",
        remote: str = "10.0.1.2:80",
        *,
        server: bool = False,
        flags: int = 0,
    ) -> None:
        """A connection that is created and established."""
        self.up[token] = {(sockaddr(local), sockaddr(remote)): 0}
        self.entries[token] = []
        for kind in (u.MPTCP_EVENT_CREATED, u.MPTCP_EVENT_ESTABLISHED):
            fields = {"server_side": int(server), "flags": flags}
            self.events.append(event(kind, token, local, remote, **fields))

    def close(self, token: int = TOKEN) -> None:
        del self.up[token], self.entries[token]
        self.events.append(Event(u.MPTCP_EVENT_CLOSED, token))

    def peer_announces(self, remote: str, ident: int, token: int = TOKEN) -> None:
        self.events.append(
            event(u.MPTCP_EVENT_ANNOUNCED, token, remote=remote, remote_id=ident)
        )

    def peer_removes(self, ident: int, token: int = TOKEN) -> None:
        self.events.append(Event(u.MPTCP_EVENT_REMOVED, token, remote_id=ident))

    def peer_joins(self, local: str, remote: str, token: int = TOKEN) -> None:
        """The kernel numbers our address itself if it does not know it."""
        ends = sockaddr(local), sockaddr(remote)
        ident = next((i for known, i in self.entries[token] if known.ip == ends[0].ip), None)
        if ident is None:
            taken = {number for _address, number in self.entries[token]}
            ident = next(number for number in range(1, 256) if number not in taken)
            self.entries[token].append((SockAddr(ends[0].ip), ident))
        self._established(token, ends, ident)

    def answer(self, error: int = 0) -> None:
        """What becomes of the oldest subflow that was asked for."""
        token, ends, ident, remote_id = self.pending.pop(0)
        if token not in self.up:
            return
        if error:
            self._tell(u.MPTCP_EVENT_SUB_CLOSED, token, ends, ident, remote_id, error=error)
        else:
            self._established(token, ends, ident, remote_id)

    def _established(self, token: int, ends: Ends, ident: int, remote_id: int = 0) -> None:
        self.up[token][ends] = ident
        self._tell(u.MPTCP_EVENT_SUB_ESTABLISHED, token, ends, ident, remote_id)

    def _tell(
        self, kind: int, token: int, ends: Ends, ident: int, remote_id: int = 0, **fields: Any
    ) -> None:
        local, remote = map(str, ends)
        fields.update(local_id=ident, remote_id=remote_id, backup=0)
        self.events.append(event(kind, token, local, remote, **fields))

    # What the commands ask for.

    def announce(self, token: int, address: mptcp.Address) -> None:
        where, ident = self._where(address), address.id or 0
        self._check("ANNOUNCE", token, f"{where} id {ident}")
        assert (address.flags or 0) & mptcp.FLAGS["signal"]
        self._append("ANNOUNCE", token, where, ident)

    def remove(self, token: int, ident: int) -> None:
        self._check("REMOVE", token, f"id {ident}")
        if ident and ident not in (number for _address, number in self.entries[token]):
            raise refusal("REMOVE", errno.EINVAL, f"address with id {ident} not found")
        self.entries[token] = [entry for entry in self.entries[token] if entry[1] != ident]

    def subflow_create(self, token: int, local: mptcp.Address, remote: mptcp.Address) -> None:
        where, ident = self._where(local), local.id or 0
        backup = " backup" if (local.flags or 0) & mptcp.FLAGS["backup"] else ""
        dev = f" dev {local.ifindex}" if local.ifindex else ""
        there = self._where(remote)
        self._check(
            "SUBFLOW_CREATE", token, f"{where} id {ident} to {there} id {remote.id}{backup}{dev}"
        )
        self._append("SUBFLOW_CREATE", token, where, ident)
        if str(where.ip) in self.lacks:
            raise refusal("SUBFLOW_CREATE", errno.EADDRNOTAVAIL, "connect error: -99")
        self._port += 1
        ends = SockAddr(where.ip, where.port or self._port), there
        self.pending.append((token, ends, ident, remote.id or 0))

    def subflow_destroy(self, token: int, local: mptcp.Address, remote: mptcp.Address) -> None:
        ends = self._where(local), self._where(remote)
        self._check("SUBFLOW_DESTROY", token, f"{ends[0]} to {ends[1]}")
        if ends not in self.up[token]:
            raise refusal("SUBFLOW_DESTROY", errno.ESRCH, "subflow not found")
        ident = self.up[token].pop(ends)
        known = self.entries[token]
        self.entries[token] = [entry for entry in known if entry[0].ip != ends[0].ip]
        self._tell(u.MPTCP_EVENT_SUB_CLOSED, token, ends, ident)

    def set_flags(
        self, address: mptcp.Address, remote: mptcp.Address | None, token: int | None
    ) -> None:
        assert remote is not None and token is not None
        ends = self._where(address), self._where(remote)
        self._check("SET_FLAGS", token, f"{address.flags} {ends[0]} to {ends[1]}")
        if ends not in self.up[token]:
            raise refusal("SET_FLAGS", errno.EINVAL, "subflow not found")

    def dump_addrs(self, token: int | None) -> list[mptcp.Address]:
        assert token is not None
        return [
            mptcp.Address(known.packed, known.port, ident, mptcp.FLAGS["subflow"])
            for known, ident in self.entries[token]
        ]

    def _where(self, address: mptcp.Address) -> SockAddr:
        assert address.ip is not None
        return from_packed(address.ip, address.port)

    def _check(self, command: str, token: int, words: str) -> None:
        self.asked.append(f"{command} {words}")
        if token in self.foreign:
            raise refusal(command, errno.EINVAL, "userspace PM not selected")
        if token not in self.up:
            raise refusal(command, errno.EINVAL, "invalid token")

    def _append(self, command: str, token: int, where: SockAddr, ident: int) -> None:
        """mptcp_userspace_pm_append_new_local_addr."""
        known = self.entries[token]
        if (where, ident) in known:
            return
        if any(where == other or ident == number for other, number in known):
            raise refusal(command, errno.EINVAL, "did not match address and id")
        known.append((where, ident))


def refusal(command: str, number: int, words: str) -> KernelError:
    return KernelError(f"MPTCP_PM_CMD_{command}", number, words)


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

    def __init__(self, *plugins: Plugin, config: Config | None = None) -> None:
        self.config = config or Config("null", "", notify_flags=frozenset({"existing"}))
        self.kernel = UserspaceKernel()
        self.listeners = FakeListeners()
        self.ids = AddressIds()
        listeners: Any = self.listeners
        self.commands = ConnectionCommands(self.kernel, self.ids, listeners)
        for plugin in plugins:
            plugin.name = plugin.name or type(plugin).__name__.lower()
        self.registry = Registry(plugins)
        self.owners = Owners(self.registry)
        self.table = Connections(self.owners, self.commands.ended)
        self.network = Network(
            self.registry, self.config.notify_flags, choice=self.config.choice()
        )
        self.loop = Loop(lambda: 0.0)
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
                connections=self.table.by_token,
                loop=self.loop,
                guard=unused,
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

    def connection(self, token: int = TOKEN) -> Connection:
        return self.table.by_token[token]

    def pairs(self, token: int = TOKEN) -> list[str]:
        """Both IPs of each subflow that the kernel has; the table must have the same."""
        flows = self.connection(token).subflows.values()
        assert {(flow.local, flow.remote) for flow in flows} == self.kernel.up[token].keys()
        return sorted(f"{flow.local.ip} {flow.remote.ip}" for flow in flows)


__all__ = ["TOKEN", "Daemon", "FakeListeners", "UserspaceKernel", "event", "refusal"]
