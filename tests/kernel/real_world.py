"""A scenario's host and its peer on the real kernel, in namespaces of their own."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from lab import Lab, traffic
from lab.network import Interface, Link, add_address, delete_address
from mptcpd.core.address import SockAddr, from_packed
from mptcpd.nl import rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import AF_INET, FLAGS, Address
from mptcpd.nl.sock import EventSocket
from mptcpd.plugin import Subflow
from tests.scenario import Told
from tests.whole import Driven

PORT = 80
_PATIENCE = 5.0  # seconds until what must come has come


class RealWorld:
    """See ``tests.scenario.World``. The daemon is to run inside ``host``."""

    def __init__(self, lab: Lab) -> None:
        self.host, self.peer = lab.host("host"), lab.host("peer")
        self._lab = lab
        self.told: Told | None = None
        self._links: dict[str, Link] = {}
        self._sockets: list[socket.socket] = []
        self._ends: dict[int, tuple[socket.socket, int]] = {}  # our socket, and the peer's token
        self._listeners: dict[int, socket.socket] = {}
        # The kernel is slow to tell of a carrier where both ends of a veth have the same number.
        for number in range(4):
            self.peer.change(
                rtnl_change.add_veth(f"x{number}", self.peer.fd, f"y{number}", self.peer.fd)
            )
        with self.peer:
            # The kernel takes joins while somebody listens for events.
            self._peers_events = EventSocket(u.NETLINK_GENERIC)
            self._peers_events.join(self.peer.mptcp.events_group)
        self._sockets.append(traffic.listen(self.peer, "0.0.0.0", PORT))

    def end(self) -> None:
        """Close what is open."""
        for sock in [*self._sockets, *(ours for ours, _theirs in self._ends.values())]:
            sock.close()
        self._peers_events.close()

    def link(self, name: str, *addresses: str) -> None:
        number = len(self._links) + 1
        theirs = [f"10.0.{number}.2/24", f"fd00:{number}::2/64"]
        self._links[name] = self._lab.link(
            self.host, name, addresses, self.peer, f"e{number}", theirs
        )

    def address(self, what: str, name: str, address: str) -> None:
        end = Interface(self.host, name, self.ifindex(name))
        {"add": add_address, "delete": delete_address}[what](end, address)

    def interface(self, what: str, name: str) -> None:
        self._end(name, up=what == "up")

    def _end(self, name: str, *, up: bool) -> None:
        end = self._links[name].one
        (end.up if up else end.down)()

    def cable(self, what: str, name: str) -> None:
        far: Interface = self._links[name].other
        (far.up if what == "plug" else far.down)()

    def rename(self, name: str, to: str) -> None:
        self.host.change(rtnl_change.set_link(self.ifindex(name), name=to))
        self._links[to] = self._links.pop(name)

    def delete(self, name: str) -> None:
        self.host.change(rtnl_change.delete_link(self.ifindex(name)))

    def route(self, what: str, name: str) -> None:
        make = {"add": rtnl_change.add_route, "delete": rtnl_change.delete_route}[what]
        index = self.ifindex(name)
        self.host.change(make(AF_INET, oif=index, metric=100 + index))

    def connect(self, remote: SockAddr) -> None:
        ours = traffic.connect(self.host, str(remote.ip), remote.port or PORT)
        theirs = self._sockets[0].accept()[0]
        self._joined(ours, theirs)

    def serve(self, port: int) -> None:
        self._listeners[port] = traffic.listen(self.host, "0.0.0.0", port)
        self._sockets.append(self._listeners[port])

    def accept(self, local: SockAddr) -> None:
        theirs = traffic.connect(self.peer, str(local.ip), local.port)
        self._joined(self._listeners[local.port].accept()[0], theirs, server=True)

    def _joined(self, ours: socket.socket, theirs: socket.socket, server: bool = False) -> None:
        for sock in (ours, theirs):
            sock.settimeout(_PATIENCE)
        first, second = (theirs, ours) if server else (ours, theirs)
        traffic.Connection(first, second, self._sockets[0]).exchange()
        self._sockets.append(theirs)
        self._ends[traffic.info(ours).token] = ours, traffic.info(theirs).token

    def close(self, token: int) -> None:
        self._ends.pop(token)[0].close()

    def peer_announce(self, token: int, address: SockAddr, ident: int) -> None:
        announced = Address(address.packed, address.port, ident, FLAGS["signal"])
        self.peer.mptcp.announce(self._ends[token][1], announced)

    def peer_remove(self, token: int, ident: int) -> None:
        self.peer.mptcp.remove(self._ends[token][1], ident)

    def peer_destroy(self, token: int, flow: Subflow) -> None:
        self.peer.mptcp.subflow_destroy(self._ends[token][1], *_theirs(flow))

    def peer_backup(self, token: int, flow: Subflow, backup: bool) -> None:
        local, remote = _theirs(flow)
        local = local._replace(flags=FLAGS["backup"] if backup else 0)
        self.peer.mptcp.set_flags(local, remote, self._ends[token][1])

    def ifindex(self, name: str) -> int:
        return self.host.ifindex(name)

    def settle(self, loop: Driven, arrived: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not arrived() and time.monotonic() < deadline:
            loop.turn(0.005)
        self._catch_up(loop, deadline)

    def _catch_up(self, loop: Driven, deadline: float) -> None:
        """Let the daemon read all that the kernel has told: a listener is the mark in the events.
        Notifications of the network come in the same turn or before."""
        assert self.told is not None
        with traffic.listen(self.host, "127.0.0.1") as mark:
            where = from_packed(socket.inet_aton("127.0.0.1"), mark.getsockname()[1])
        line = f"listener_closed {self.told.word(where)}"
        while line not in self.told.lines:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the daemon does not say {line}")
            loop.turn(0.005)
        marks = (line, line.replace("closed", "created"))
        self.told.lines[:] = [told for told in self.told.lines if told not in marks]


def _theirs(flow: Subflow) -> tuple[Address, Address]:
    """The ends of one of our subflows as the peer sees them."""
    return (
        Address(flow.remote.packed, flow.remote.port), Address(flow.local.packed, flow.local.port)
    )  # fmt: skip

