"""MPTCP listening sockets held open for announced ports, counted.

Knows how to listen; must not know who announced what. A join to an announced address and port is
taken by the kernel as long as some MPTCP socket listens there; nothing is ever accepted for its
own sake. But whoever connects to such a port without joining would sit in its queue until joins
find it full: such strangers are taken out and reset.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from os import strerror
from struct import Struct

from mptcpd.core.address import IP, SockAddr, sockaddr
from mptcpd.core.loop import Loop, Timer
from mptcpd.nl.uapi import IPPROTO_MPTCP

_LOG = logging.getLogger("mptcpd")
BACKLOG = 128  # of joins under way, and of strangers until the loop turns to them
_LINGER = Struct("@ii").pack(1, 0)  # close with a reset, leave no TIME_WAIT behind
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE = 1.0  # seconds until strangers are looked at again after one of these
_STRANGERS = 64  # turned away at most, before other descriptors get their turn


class Listeners:
    """Address and port -> listening socket, with the number of its users.

    strangers  connections that were no joins, turned away
    """

    def __init__(
        self, loop: Loop, open_socket: Callable[..., socket.socket] = socket.socket
    ) -> None:
        self._loop = loop
        self._open = open_socket
        self._held: dict[SockAddr, tuple[socket.socket, int]] = {}
        self._paused: dict[socket.socket, Timer] = {}
        self.strangers = 0

    def listen(self, address: SockAddr | IP | str) -> SockAddr:
        """Hold a listening socket there, and return its address with the port filled in.

        Port 0 means a port of the kernel's choice, a new one each time. An address and port that
        is held already gets one more user.
        Errors  OSError with errno, as socket, bind or listen gave it (EADDRNOTAVAIL: not an address
                of this host; EACCES: a port below 1024 without CAP_NET_BIND_SERVICE). ValueError
                for an address that nothing can be announced with: unspecified, broadcast.
        """
        where = sockaddr(address)
        if where.ip.is_unspecified or str(where.ip) == "255.255.255.255" or where.ip.is_multicast:
            raise ValueError(f"{where.ip} cannot be announced")
        if where in self._held:
            held, users = self._held[where]
            self._held[where] = held, users + 1
            return where
        sock = self._socket(where)
        bound = SockAddr(where.ip, sock.getsockname()[1])
        self._held[bound] = sock, 1
        self._loop.add_reader(sock.fileno(), lambda: self._turn_away(sock))
        return bound

    def _socket(self, where: SockAddr) -> socket.socket:
        family = socket.AF_INET if where.ip.version == 4 else socket.AF_INET6
        sock = self._open(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, IPPROTO_MPTCP)
        try:
            sock.setblocking(False)
            # Joins that came through an earlier socket keep the port: without this a restart could
            # not listen there as long as they live.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # Otherwise a socket on :: would also take the port on every IPv4 address.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((str(where.ip), where.port))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            number = error.errno or errno.EIO
            raise OSError(number, f"{where}: {strerror(number)}") from error
        return sock

    def close(self, address: SockAddr | IP | str) -> None:
        """One user less; the last one closes the socket. Errors: KeyError if nothing is held."""
        where = sockaddr(address)
        sock, users = self._held[where]
        if users > 1:
            self._held[where] = sock, users - 1
            return
        del self._held[where]
        self._end(sock)

    def close_all(self) -> None:
        """Close every socket, whoever uses it."""
        for sock, _users in self._held.values():
            self._end(sock)
        self._held.clear()

    def _end(self, sock: socket.socket) -> None:
        pause = self._paused.pop(sock, None)
        if pause is None:
            self._loop.remove_reader(sock.fileno())
        else:
            pause.cancel()
        sock.close()

    def __len__(self) -> int:
        return len(self._held)

    def _turn_away(self, sock: socket.socket) -> None:
        for _stranger in range(_STRANGERS):
            try:
                stranger, _address = sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    return  # that one has gone again (accept(2)); the next call takes the next
                # It stays in the queue, so the socket stays readable: looking again at once would
                # keep the daemon busy with nothing else.
                _LOG.warning("%s; strangers at %s wait", error, sock.getsockname())
                self._loop.remove_reader(sock.fileno())
                self._paused[sock] = self._loop.call_later(_PAUSE, self._resume, sock)
                return
            with stranger:
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            self.strangers += 1

    def _resume(self, sock: socket.socket) -> None:
        del self._paused[sock]
        self._loop.add_reader(sock.fileno(), lambda: self._turn_away(sock))
