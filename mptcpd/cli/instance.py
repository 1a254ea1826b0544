"""One daemon in a network namespace: two would work against each other at every address.

Knows    abstract Unix sockets, which live in network namespaces as MPTCP's settings do; whose
         process holds one (SO_PEERCRED, as the kernel noted it).
Not      what the daemon does, nor process ID files: those can be out of date, this cannot.

The name is free to all, so an ordinary user may hold it, or fill the queue behind it. Such a user
is not believed: the start is then not refused, only warned about. Whoever connects is turned away
by the loop, a bounded number a second, so that the next daemon's question finds room.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from struct import Struct

from mptcpd.core.loop import Loop
from mptcpd.nl.uapi import CAP_NET_ADMIN

_LOG = logging.getLogger("mptcpd")
NAME = "\0mptcpd"
_BACKLOG = 64
_PAUSE = 1.0  # seconds between two looks at who has connected
_UCRED = Struct("=iII")  # pid, uid, gid


class AlreadyRunning(Exception):
    """Another daemon serves this network namespace.

    pid   of that process, as seen from here; 0: it cannot be seen from here (another PID namespace)
    """

    def __init__(self, pid: int) -> None:
        whose = f"with process ID {pid}" if pid else "in another container"
        super().__init__(f"mptcpd runs already in this network namespace, {whose}.")
        self.pid = pid


class Instance:
    """The mark that this network namespace has a daemon; it goes with the process.

    Errors  AlreadyRunning; OSError from the system calls.
    """

    def __init__(self, name: str = NAME) -> None:
        self._loop: Loop | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind(name)
            self._socket.listen(_BACKLOG)
            self._socket.setblocking(False)
        except OSError as error:
            self.close()
            if error.errno != errno.EADDRINUSE:
                raise
            _look_at_holder(name)

    def watch(self, loop: Loop) -> None:
        """Turn away, from now on, who connects."""
        if self._socket.fileno() >= 0:
            self._loop = loop
            loop.add_reader(self._socket.fileno(), self._turn_away)

    def _turn_away(self) -> None:
        assert self._loop is not None
        for _one in range(_BACKLOG + 1):
            try:
                self._socket.accept()[0].close()
            except BlockingIOError:
                return
            except OSError as error:
                _LOG.debug("instance mark: %s", error)
                break
        # Many at once mean no daemon: let them wait.
        self._loop.remove_reader(self._socket.fileno())
        self._loop.call_later(_PAUSE, self.watch, self._loop)

    def close(self) -> None:
        """Let another daemon start. Harmless when repeated."""
        if self._loop is not None:
            self._loop = None
        self._socket.close()


def _look_at_holder(name: str) -> None:
    """Raise AlreadyRunning if the holder of ``name`` can be a daemon, else warn."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(name)
        except OSError as error:
            _LOG.warning(
                "Somebody holds the name @%s in this network namespace and does not say who "
                "(%s): whether another mptcpd runs is not known.", name[1:], error.strerror,
            )  # fmt: skip
            return
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _gid = _UCRED.unpack(raw)
    if uid in (0, os.geteuid()) or _may_administer(pid):
        raise AlreadyRunning(pid)
    _LOG.warning(
        "Process %d of user %d holds the name @%s, which is for mptcpd; it is no mptcpd, since it "
        "could not administer this network namespace.", pid, uid, name[1:],
    )  # fmt: skip


def _may_administer(pid: int) -> bool:
    """Whether a process has CAP_NET_ADMIN in our user namespace, as with systemd's DynamicUser.

    In a user namespace of its own every user has all capabilities, and may still be in our network
    namespace; so who cannot be looked at does not count.
    """
    try:
        if os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"):
            return False
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.startswith("CapEff:"):
                    return bool(int(line.split()[1], 16) >> CAP_NET_ADMIN & 1)
    except OSError as error:
        _LOG.debug("process %d cannot be looked at: %s", pid, error)
    return False
