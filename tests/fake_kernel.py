"""A kernel for tests that need none: a function from request bytes to reply bytes.

``ask`` answers what is sent to NETLINK_GENERIC (nlctrl and mptcp_pm), NETLINK_ROUTE and
NETLINK_SOCK_DIAG, with the rules, errors and words of Linux 6.18. What happens in it is done to its
tables (``endpoints``, ``connections``, ``network``), and ``tell`` sends what they have to tell to
the sockets that have joined the group. ``plugged`` puts it in the place of the system's netlink,
so that the whole daemon runs in one process and without privilege.

It behaves unless told otherwise: ``moods`` says how the next answers and notifications go wrong.

Kept honest by tests/scenarios, which run against this and against the real kernel and must come to
the same, and by tests/captures, whose recorded requests it answers as the recorded kernel did. What
it does not know: what endpoints do to connections, and whatever the daemon never asks.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address
from typing import Any
from unittest import mock

from mptcpd.cli import service
from mptcpd.core.address import SockAddr, from_packed
from mptcpd.core.listeners import Listeners
from mptcpd.nl import mptcp_event, sock
from mptcpd.nl import uapi as u
from mptcpd.nl.client import MptcpClient
from mptcpd.nl.mptcp_event import Event
from mptcpd.nl.sock import CommandSocket
from tests.fake import wire
from tests.fake.connections import ConnectionTable
from tests.fake.diag import SockDiag
from tests.fake.endpoints import EndpointTable
from tests.fake.mptcp_pm import MptcpPm
from tests.fake.network import NetworkTable
from tests.fake.sockets import Item, Libc, ListeningSocket, NetlinkSocket, Poll, Standin
from tests.fake.wire import Refusal, Request

_ANY = {4: ip_address("0.0.0.0"), 6: ip_address("::")}
Mood = Callable[[list[Item]], list[Item]]
_PROTOCOLS = (u.NETLINK_GENERIC, u.NETLINK_ROUTE, u.NETLINK_SOCK_DIAG)
_PORTS = itertools.count(1000)
_ROUTE_GROUPS = frozenset(
    value for name, value in vars(u).items() if name.startswith("RTNLGRP_")
)


class FakeKernel:
    """The kernel of one host.

    moods    what happens to the next answers, by protocol; each is used once
    rumours  what happens to the next notifications of a group, by protocol; each is used once
    room     messages of groups that a socket's receive buffer holds
    enabled  net.mptcp.enabled              clock  seconds since it was started
    heard    the addresses at which somebody of the host listens
    """

    def __init__(
        self,
        endpoints: EndpointTable | None = None,
        connections: ConnectionTable | None = None,
        network: NetworkTable | None = None,
    ) -> None:
        self.endpoints = EndpointTable() if endpoints is None else endpoints
        self.connections = ConnectionTable() if connections is None else connections
        self.network = NetworkTable() if network is None else network
        if network is not None:
            self.endpoints.is_local = network.has
            self.connections.is_local = lambda ip: network.has(ip.packed)
        self.endpoints.listens = lambda endpoint, begins: self.listens(
            from_packed(endpoint.ip or b"", endpoint.port), begins
        )
        self.pm = MptcpPm(self.endpoints, self.connections)
        self.diag = SockDiag(self.connections)
        self.moods: dict[int, list[Mood]] = {protocol: [] for protocol in _PROTOCOLS}
        self.rumours: dict[int, list[Mood]] = {protocol: [] for protocol in _PROTOCOLS}
        self.room = 10_000
        self.enabled = True
        self.clock = 0.0
        self.heard: set[SockAddr] = set()
        self.sockets: list[NetlinkSocket] = []
        self._next_port = 40000

    def ask(self, protocol: int, datagram: bytes, *, capped: bool = True) -> list[bytes]:
        """The datagrams that answer the requests of this one."""
        answers = []
        for request in wire.requests(datagram):
            if request.flags & u.NLM_F_REQUEST:
                answers += self._answer(protocol, request, capped)
        return answers

    def _answer(self, protocol: int, request: Request, capped: bool) -> list[bytes]:
        try:
            found = self._taker(protocol, request)(request)
        except Refusal as refused:
            if request.is_dump and refused.late:
                return wire.dump(request, [], refused)
            return [wire.ack(request, refused, capped=capped)]
        if request.is_dump:
            return wire.dump(request, found)
        answers = [wire.answer(request, kind, payload) for kind, payload in found]
        if request.flags & u.NLM_F_ACK:
            answers.append(wire.ack(request, capped=capped))
        return answers

    def _taker(
        self, protocol: int, request: Request
    ) -> Callable[[Request], list[tuple[int, bytes]]]:
        if protocol == u.NETLINK_ROUTE:
            return self.network.ask
        if protocol == u.NETLINK_SOCK_DIAG:
            return self.diag.ask
        if request.kind == u.GENL_ID_CTRL:
            return self.pm.nlctrl
        if request.kind == self.pm.id and self.pm.there:
            return self.pm.ask
        raise Refusal(errno.ENOENT)

    def future(self, later: bool = True) -> None:
        """Answer and tell as a kernel of the years to come: more attributes, longer structs."""
        self.pm.future = self.network.future = self.diag.future = later

    # What it tells.

    def tell(self) -> None:
        """Send what has happened to those who want to hear of it; nobody else ever will."""
        if self._subscribers(u.NETLINK_GENERIC, self.pm.group):
            events, self.connections.events = self.connections.events, []
            items = [Item(self.event(each)) for each in events]
            self._spread(u.NETLINK_GENERIC, [(self.pm.group, item) for item in items])
        told, self.network.told = self.network.told, []
        notes = [(group, Item(wire.message(kind, 0, 0, 0, data))) for group, kind, data in told]
        self._spread(u.NETLINK_ROUTE, notes)

    def event(self, event: Event) -> bytes:
        """An event as the kernel sends it."""
        payload = mptcp_event.build(event)
        if self.pm.future:
            payload += wire.build([(99, b"future")])
        return wire.message(self.pm.id, 0, 0, 0, payload)

    def _spread(self, protocol: int, items: list[tuple[int, Item]]) -> None:
        if not items:
            return
        groups = {group for group, _item in items}
        mood = self.rumours[protocol].pop(0) if self.rumours[protocol] else None
        for each in self.sockets:
            if each.protocol == protocol and each.groups & groups:
                wanted = [item for group, item in items if group in each.groups]
                for item in wanted if mood is None else mood(wanted):
                    each.multicast(item)

    def _subscribers(self, protocol: int, group: int) -> list[NetlinkSocket]:
        return [
            each for each in self.sockets if each.protocol == protocol and group in each.groups
        ]

    # What its sockets ask for.

    def in_mood(self, protocol: int, answers: list[Item]) -> list[Item]:
        moods = self.moods[protocol]
        return moods.pop(0)(answers) if moods else answers

    def subscribable(self, protocol: int, group: int) -> bool:
        if protocol == u.NETLINK_ROUTE:
            return group in _ROUTE_GROUPS
        return self.pm.there and group == self.pm.group

    def open(self, family: int, kind: int, protocol: int) -> Any:
        """As ``socket.socket``."""
        if family == socket.AF_NETLINK and protocol in _PROTOCOLS:
            self.sockets.append(NetlinkSocket(self, protocol, next(_PORTS)))
            return self.sockets[-1]
        if protocol == u.IPPROTO_MPTCP:
            if not self.enabled:
                raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
            return ListeningSocket(self)
        raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))

    def closed(self, which: NetlinkSocket) -> None:
        if which in self.sockets:
            self.sockets.remove(which)

    def bind(self, where: SockAddr) -> SockAddr:
        """The address with its port. Errors: OSError."""
        number = 0
        if not self.connections.is_local(where.ip):
            number = errno.EADDRNOTAVAIL
        elif {where, SockAddr(_ANY[where.ip.version], where.port)} & self.heard:
            number = errno.EADDRINUSE
        if number:
            raise OSError(number, os.strerror(number))
        if not where.port:
            self._next_port += 1
            where = where._replace(port=self._next_port)
        return where

    def listens(self, where: SockAddr, begins: bool) -> None:
        """A socket of the host begins or ends to listen there."""
        (self.heard.add if begins else self.heard.discard)(where)
        kind = u.MPTCP_EVENT_LISTENER_CREATED if begins else u.MPTCP_EVENT_LISTENER_CLOSED
        told = Event(kind, local_ip=where.packed, local_port=where.port)
        self.connections.events.append(told)
        self.tell()

    def pass_time(self, seconds: float) -> None:
        self.clock += seconds
        for each in self.sockets:
            each.refresh()

    # For those who need a part of the stack on it.

    def commands(self, protocol: int) -> CommandSocket:
        """A command socket to it, for as long as the process runs. It reads its own clock."""
        with self.netlink():
            return CommandSocket(protocol)

    @property
    def mptcp(self) -> MptcpClient:
        """A client of its path managers."""
        return MptcpClient(self.commands(u.NETLINK_GENERIC))

    @contextlib.contextmanager
    def netlink(self) -> Iterator[None]:
        """Sockets that ``nl.sock`` opens are to this kernel, and it tells what time it is."""

        def find(fd: int) -> NetlinkSocket:
            return next(each for each in self.sockets if each.fileno() == fd)

        with mock.patch.multiple(
            sock,
            socket=Standin(socket, socket=self.open),
            select=Standin(select, poll=lambda: Poll(self)),
            time=Standin(time, monotonic=lambda: self.clock),
            _LIBC=Libc(find),
        ):
            yield


@contextlib.contextmanager
def plugged(kernel: FakeKernel) -> Iterator[FakeKernel]:
    """Whoever builds a daemon inside builds it on this kernel. At the end its sockets close."""
    listeners = partial(Listeners, open_socket=kernel.open)
    with kernel.netlink(), mock.patch.object(service, "Listeners", listeners):
        yield kernel
    for each in list(kernel.sockets):
        each.close()

