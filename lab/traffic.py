"""MPTCP between hosts: sockets, connections, bulk transfers with a checksum on both sides."""

from __future__ import annotations

import errno
import hashlib
import mmap
import socket
from struct import Struct
from typing import NamedTuple

from lab.host import Host
from lab.process import Call
from mptcpd.nl import uapi as u

_CHUNK = 1 << 16  # bytes handed to the socket at once
_COUNT = Struct("=Q")


class Info(NamedTuple):
    """What struct mptcp_info says of a connection: extra subflows, flags, token."""

    subflows: int
    flags: int
    token: int


class Connection(NamedTuple):
    """The two ends of a connection, both in this process.

    The server goes on listening: a join asks for the port, and finds the connection only then.
    """

    client: socket.socket
    server: socket.socket
    listener: socket.socket

    @property
    def token(self) -> int:
        """The token at the client, which names the connection there."""
        return info(self.client).token

    def exchange(self) -> None:
        """A byte there and one back; after the first time the connection takes subflows."""
        for sender, receiver in ((self.client, self.server), (self.server, self.client)):
            sender.sendall(b"x")
            if receiver.recv(1) != b"x":
                raise ConnectionError("the connection ended instead of carrying a byte")

    def close(self) -> None:
        for sock in self:
            sock.close()


def listen(host: Host, address: str, port: int = 0, *, timeout: float = 10.0) -> socket.socket:
    """An MPTCP socket that listens on a host; ``getsockname`` tells the port that 0 became."""
    return _opened(host, address, port, "listen", timeout)


def connect(
    host: Host, address: str, port: int, *, source: str | None = None, timeout: float = 10.0
) -> socket.socket:
    """An MPTCP socket of a host, connected to ``address``, from ``source`` if given."""
    return _opened(host, address, port, "connect", timeout, source)


def open_connection(
    client: Host,
    server: Host,
    address: str,
    port: int = 0,
    *,
    source: str | None = None,
    timeout: float = 10.0,
) -> Connection:
    """A connection from ``client`` to ``address`` of ``server``, with a byte exchanged each way.

    timeout  seconds that each later operation on either socket may take
    Errors   OSError; ConnectionError when the connection fell back to plain TCP.
    """
    sockets = [listen(server, address, port, timeout=timeout)]
    try:
        port = sockets[0].getsockname()[1]
        sockets.insert(0, connect(client, address, port, source=source, timeout=timeout))
        sockets.insert(1, sockets[1].accept()[0])
        sockets[1].settimeout(timeout)
        connection = Connection(*sockets)
        connection.exchange()
        if fell_back(connection.client):
            raise ConnectionError("the connection fell back to plain TCP")
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return connection


def info(sock: socket.socket) -> Info:
    """MPTCP_INFO. Errors: OSError, EOPNOTSUPP where the socket fell back to plain TCP."""
    data = sock.getsockopt(u.SOL_MPTCP, u.MPTCP_INFO, 16)
    subflows, flags, token = _INFO.unpack(data)
    return Info(subflows, flags, token)


_INFO = Struct("=B7xII")  # the first 16 bytes of struct mptcp_info
_FALLBACK = 1 << 0  # MPTCP_INFO_FLAG_FALLBACK, linux/mptcp.h


def fell_back(sock: socket.socket) -> bool:
    """Whether a connected MPTCP socket talks plain TCP."""
    try:
        return bool(info(sock).flags & _FALLBACK)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return True


def _opened(
    host: Host, address: str, port: int, what: str, timeout: float, source: str | None = None
) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host:
        sock = socket.socket(family, socket.SOCK_STREAM, u.IPPROTO_MPTCP)
    try:
        sock.settimeout(timeout)
        if what == "listen":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            sock.listen()
        else:
            if source is not None:
                sock.bind((source, 0))
            sock.connect((address, port))
    except OSError:
        sock.close()
        raise
    return sock


class Sum(NamedTuple):
    """What one side of a transfer saw: bytes, and their sha256 in hexadecimal digits."""

    size: int
    sha256: str


class Transfer:
    """Sends ``size`` bytes over a connection, each side in a child process of its host.

    The bytes differ all along, so that a piece lost, doubled or out of place changes the sum.
    The connection belongs to the transfer: its sockets here are closed.
    """

    def __init__(self, client: Host, server: Host, connection: Connection, size: int) -> None:
        self.size = size
        self._shared = mmap.mmap(-1, _COUNT.size)
        self.receiver: Call = server.call(_receive, connection, self._shared)
        self.sender: Call = client.call(_send, connection, size)
        connection.close()

    @property
    def received(self) -> int:
        """Bytes that the receiving side has so far."""
        return int(_COUNT.unpack_from(self._shared)[0])

    @property
    def running(self) -> bool:
        return self.receiver.running

    def result(self, timeout: float = 30.0) -> tuple[Sum, Sum]:
        """Sent, received, when both sides are done. Errors: as ``Call.result``."""
        received = self.receiver.result(timeout)
        return self.sender.result(timeout), received


def _send(connection: Connection, size: int) -> Sum:
    connection.server.close()
    sock, digest, sent = connection.client, hashlib.sha256(), 0
    sock.settimeout(None)
    noise = hashlib.shake_128(b"lab").digest(_CHUNK - 8)
    while sent < size:
        piece = (sent.to_bytes(8, "big") + noise)[: size - sent]
        sock.sendall(piece)
        digest.update(piece)
        sent += len(piece)
    sock.shutdown(socket.SHUT_WR)
    # The other side closes when it has everything; a close before that would lose what is queued
    # should the only working path be the second one.
    sock.recv(1)
    sock.close()
    return Sum(sent, digest.hexdigest())


def _receive(connection: Connection, shared: mmap.mmap) -> Sum:
    connection.client.close()
    sock, digest, received = connection.server, hashlib.sha256(), 0
    sock.settimeout(None)
    while piece := sock.recv(_CHUNK):
        digest.update(piece)
        received += len(piece)
        _COUNT.pack_into(shared, 0, received)
    sock.close()
    return Sum(received, digest.hexdigest())
