"""Two hosts whose kernels are asked and listened to, for capture.py.

The hosts, their addresses, ports, address IDs, sequence numbers and port IDs are always the same:

    ipv4    10.0.x.1 to 10.0.x.2       ipv6    fd00:x::1 to fd00:x::2
    mapped  ::ffff:10.0.x.1 to ::ffff:10.0.x.2: IPv4 over IPv6 sockets

where x is the link, 1 or 2; the client is .1, the server .2 and listens on port 8080, the client's
first port is 40000, those of its joins are 50000, 50001 and so on.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

from lab import Host, Lab, traffic
from mptcpd.nl import diag, messages
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import AF_INET, AF_INET6, Address
from mptcpd.nl.sock import CommandSocket, EventSocket
from tests.captures.record import Record

PORT, CLOSED_PORT, FIRST, JOIN = 8080, 1, 40000, 50000
IPS = {"ipv4": "10.0.{}.{}", "ipv6": "fd00:{}::{}", "mapped": "::ffff:10.0.{}.{}"}
OURS, THEIRS = 7, 3  # address IDs of the second link's addresses
SEQ, PORTID = 1, 4711
PATIENCE = 5.0  # seconds to wait for a message that must come
_SOL_NETLINK = 270
_SOCK_DESTROY = 21  # linux/sock_diag.h
_LAST = (u.NLMSG_ERROR, u.NLMSG_DONE)


class Scene:
    """A client and a server, joined by two links, and what their kernels tell of MPTCP."""

    def __init__(self, lab: Lab) -> None:
        self.client, self.server = lab.host("client"), lab.host("server")
        self.links = []
        for link in (1, 2):
            ours, theirs = (
                [f"10.0.{link}.{number}/24", f"fd00:{link}::{number}/64"] for number in (1, 2)
            )
            name = f"eth{link - 1}"
            self.links.append(lab.link(self.client, name, ours, self.server, name, theirs))
        for host in (self.client, self.server):
            host.set_sysctl("net.mptcp.path_manager", "userspace")
        self.joins = 0
        group = self.client.mptcp.events_group
        self.at_client = Watch(self.client, u.NETLINK_GENERIC, group)
        self.at_server = Watch(self.server, u.NETLINK_GENERIC, group)

    @contextlib.contextmanager
    def listening(self, *addresses: str) -> Iterator[list[socket.socket]]:
        sockets = [traffic.listen(self.server, address, PORT) for address in addresses]
        yield sockets
        for sock in sockets:
            sock.close()

    def join(self, token: int, near: Address, far: Address) -> int:
        """Create a subflow from the client, and return the port that it comes from."""
        port = JOIN + self.joins
        self.joins += 1
        self.client.set_sysctl("net.ipv4.ip_local_port_range", f"{port} {port}")
        self.client.mptcp.subflow_create(token, near, far)
        return port

    def connect(self, source: str, address: str) -> socket.socket:
        """As traffic.connect, but from a port that is always the same."""
        family = AF_INET6 if ":" in address else AF_INET
        with self.client:
            sock = socket.socket(family, socket.SOCK_STREAM, u.IPPROTO_MPTCP)
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((source, FIRST))
        sock.connect((address, PORT))
        return sock


def destroy(host: Host, path: diag.Path) -> None:
    """Abort a TCP socket, as ``ss -K`` does. Errors: KernelError without INET_DIAG_DESTROY."""
    family = AF_INET if len(path.local_ip) == 4 else AF_INET6
    with host:
        commands = CommandSocket(u.NETLINK_SOCK_DIAG)
    body = diag.request(family, socket.IPPROTO_TCP, 1 << diag.TCP_ESTABLISHED, path=path)
    commands.request(_SOCK_DESTROY, body, "SOCK_DESTROY", header=diag.REQUEST)
    commands.close()


class Watch:
    """Reads the messages that a host's kernel sends to groups, one at a time."""

    def __init__(self, host: Host, protocol: int, *groups: int) -> None:
        with host:
            self._events = EventSocket(protocol, groups)
        self._generic = protocol == u.NETLINK_GENERIC
        self._waiting: list[bytes] = []

    def next(self, kind: int, about: bytes = b"") -> bytes:
        """The next message of a kind (RTM_*, or an event's number) that has ``about`` in it.

        Those before it are lost: IPv6 gives each link addresses and routes of its own, later.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            while self._waiting:
                message = self._waiting.pop(0)
                (parsed,) = messages.split(message)
                found = parsed.payload[0] if self._generic else parsed.type
                if found == kind and about in message:
                    return message
            if not select.select([self._events], [], [], deadline - time.monotonic())[0]:
                raise TimeoutError(f"no message of kind {kind}")
            for datagram in self._events.receive():
                self._waiting += _split(datagram)

    def forget(self) -> None:
        """Whatever has come so far."""
        self._waiting.clear()
        while self._events.receive():
            pass

    def close(self) -> None:
        self._events.close()


def _split(datagram: bytes) -> Iterator[bytes]:
    for message in messages.split(datagram):
        yield messages.build(*message)


class Asker:
    """Asks a host's kernel with a port ID that is always the same, and keeps all that is said.

    cap_ack  whether errors leave out the request (NETLINK_CAP_ACK)
    """

    def __init__(
        self, host: Host, protocol: int, record: Record, header: int, cap_ack: bool = True
    ) -> None:
        with host:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._socket.settimeout(PATIENCE)
        self._socket.bind((PORTID, 0))
        for option, value in ((u.NETLINK_EXT_ACK, 1), (u.NETLINK_CAP_ACK, int(cap_ack))):
            self._socket.setsockopt(_SOL_NETLINK, option, value)
        self._record, self._header = record, header

    def ask(self, name: str, kind: int, body: bytes, flags: int = 0) -> None:
        """Record the request, and its answers as NAME, or NAME.0, NAME.1 and so on for a dump."""
        request = messages.build(kind, u.NLM_F_REQUEST | flags, SEQ, PORTID, body)
        self._record.add(f"{name}.request", request, self._header)
        self._socket.send(request)
        answers: list[bytes] = []
        while not answers or (flags & u.NLM_F_DUMP and _kind(answers[-1]) not in _LAST):
            answers += _split(self._socket.recv(1 << 16))
        for index, answer in enumerate(answers):
            label = f"{name}.{index}" if flags & u.NLM_F_DUMP else name
            # NLMSG_ERROR copies the request's header behind 4 bytes, NLMSG_DONE has those alone.
            header = {u.NLMSG_ERROR: 20, u.NLMSG_DONE: 4}.get(_kind(answer), self._header)
            self._record.add(label, answer, header)

    def close(self) -> None:
        self._socket.close()


def _kind(message: bytes) -> int:
    return next(messages.split(message)).type


def packed(text: str) -> bytes:
    return ip_address(text).packed
