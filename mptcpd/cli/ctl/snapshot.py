"""MPTCP connections with their subflows, as the kernel has them at one moment.

Knows which TCP socket is a subflow of which MPTCP socket; must not know how that is shown. Two
dumps are no snapshot: of a connection that opens or closes meanwhile, a part may be missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from mptcpd.nl.diag_sockets import MptcpSocket, TcpSocket, parse_mptcp, parse_tcp

JOINED = u.MPTCP_SUBFLOW_FLAG_JOIN_REM | u.MPTCP_SUBFLOW_FLAG_JOIN_LOC
# A subflow that is not yet there is worth seeing: it may wait for a peer that never answers.


class Dumps(Protocol):
    """What is needed of ``nl.diag_client.DiagClient``."""

    def dump(self, protocol: int, states: int) -> Iterator[bytes]: ...


class Connection(NamedTuple):
    """A connection and its subflows, the first one first."""

    socket: MptcpSocket
    subflows: list[TcpSocket]

    @property
    def role(self) -> str | None:
        """"client" where we connected, "server" where the peer did; None where nothing tells.

        Only the first subflow tells: who asked for MP_CAPABLE. It may be gone.
        """
        for subflow in self.subflows:
            if subflow.ulp and not subflow.flags & JOINED:
                asked = subflow.flags & u.MPTCP_SUBFLOW_FLAG_MCAP_LOC
                return "client" if asked else "server"
        return None


class Snapshot(NamedTuple):
    """time: monotonic, seconds, in the middle of the dumps."""

    time: float
    connections: list[Connection]

    @property
    def subflows(self) -> int:
        return sum(len(connection.subflows) for connection in self.connections)

    @property
    def blind(self) -> bool:
        """Whether the kernel kept subflows' flags and address IDs from us."""
        return any(
            not subflow.ulp for connection in self.connections for subflow in connection.subflows
        )


def take(
    dumps: Dumps, states: int = diag.CONNECTED, clock: Callable[[], float] = time.monotonic
) -> Snapshot:
    """The connections in these states. Errors: NetlinkError, OSError."""
    began = clock()
    connections: dict[int, Connection] = {}
    by_inode: dict[int, Connection] = {}
    by_path: dict[diag.Path, Connection] = {}
    for payload in dumps.dump(u.IPPROTO_MPTCP, states):
        socket = parse_mptcp(payload)
        # The same connection may come twice: the dump's place moves while others close.
        connection = connections.setdefault(socket.token, Connection(socket, []))
        if socket.inode:
            by_inode[socket.inode] = connection
        by_path[socket.path] = connection
    seen: set[int] = set()
    for payload in dumps.dump(u.IPPROTO_TCP, diag.SUBFLOWS):
        subflow = parse_tcp(payload)
        if subflow.ulp:
            owner = connections.get(subflow.token)
        else:
            # Before Linux 6.15 the token is for CAP_NET_ADMIN alone. The inode is the connection's
            # own (net/mptcp/subflow.c: mptcp_subflow_create_socket), 0 where its program has
            # closed it; then the first subflow is still found, by the path that both have.
            owner = by_inode.get(subflow.inode) or by_path.get(subflow.path)
        if owner is not None and subflow.cookie not in seen:
            seen.add(subflow.cookie)
            owner.subflows.append(subflow)
    for connection in connections.values():
        if len(connection.subflows) > 1:
            connection.subflows.sort(key=_order)
    return Snapshot((began + clock()) / 2, list(connections.values()))


def _order(subflow: TcpSocket) -> tuple[bool, int, int, int]:
    joined = bool(subflow.flags & JOINED)
    return joined, subflow.local_id, subflow.remote_id, subflow.cookie
