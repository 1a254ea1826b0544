"""Which connections are wanted: the filter that ``connection``, ``top`` and others take.

Knows the filter's words and what they compare; must not know the grammar around them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mptcpd.cli.ctl.ends import Interfaces, plain, within
from mptcpd.cli.ctl.grammar import Args
from mptcpd.cli.ctl.snapshot import Connection
from mptcpd.cli.ctl.values import Prefix
from mptcpd.nl import diag
from mptcpd.nl.diag_sockets import MptcpSocket, TcpSocket

# As ss(8) calls them.
STATES = {
    diag.TCP_ESTABLISHED: "established",
    diag.TCP_SYN_SENT: "syn-sent",
    diag.TCP_SYN_RECV: "syn-recv",
    diag.TCP_FIN_WAIT1: "fin-wait-1",
    diag.TCP_FIN_WAIT2: "fin-wait-2",
    diag.TCP_CLOSE: "closed",
    diag.TCP_CLOSE_WAIT: "close-wait",
    diag.TCP_LAST_ACK: "last-ack",
    diag.TCP_CLOSING: "closing",
}


def wanted(args: Args, family: int | None) -> Filter:
    """What the words of a command line say; ``family`` as of the options -4 and -6."""
    names = {name: state for state, name in STATES.items()}
    state = args.get("state")
    return Filter(
        args.get("token"), args.get("local"), args.get("remote"), args.get("dev"),
        diag.CONNECTED if state is None else 1 << names[state], args.get("pm"), family,
    )  # fmt: skip


class Filter(NamedTuple):
    """What has to be so; None: whatever.

    local, remote, dev   of the connection or of one of its subflows, all of the same one; dev is
                         an ifindex
    states               bits 1 << TCP_*, of the connection
    family               4 or 6: the connection's IP version
    """

    token: int | None = None
    local: Prefix | None = None
    remote: Prefix | None = None
    dev: int | None = None
    states: int = diag.CONNECTED
    pm: str | None = None
    family: int | None = None

    def admits(
        self,
        connection: Connection,
        interfaces: Interfaces,
        pm: Callable[[MptcpSocket], str | None],
    ) -> bool:
        socket = connection.socket
        if self.token is not None and socket.token != self.token:
            return False
        if not self.states >> socket.state & 1:
            return False
        if self.family is not None and _version(socket.path.local_ip) != self.family:
            return False
        if self.local or self.remote or self.dev is not None:
            ends: list[MptcpSocket | TcpSocket] = [socket, *connection.subflows]
            if not any(self._meets(end, interfaces) for end in ends):
                return False
        return self.pm is None or pm(socket) == self.pm

    def _meets(self, end: MptcpSocket | TcpSocket, interfaces: Interfaces) -> bool:
        path = end.path
        if self.local and not within(self.local, path.local_ip, path.local_port):
            return False
        if self.remote and not within(self.remote, path.remote_ip, path.remote_port):
            return False
        return self.dev is None or interfaces.index(path.local_ip, end.ifindex) == self.dev


def _version(ip: bytes) -> int:
    return 4 if len(plain(ip)) == 4 else 6
