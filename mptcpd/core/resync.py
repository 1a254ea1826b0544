"""What the kernel has against what the table has: at the start, and after events were lost.

Knows sock_diag's answers and the connection table; must not know sockets, nor when it is called.

A dump is no snapshot: a socket may slip past it while others close. So nothing is believed gone
until the kernel, asked for that one, says so; and a connection that only its subflows tell of is
looked up, too. What changes while the dump runs waits as events in the queue and is applied after
it; that may repeat what the dump told, and every step of the table may be repeated.

What sock_diag does not tell: which addresses were announced, and whether the peer denies joins to
its initial address.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from mptcpd.core.connections import Connection, Connections, Subflow
from mptcpd.core.path import pack_path, unpack_path
from mptcpd.nl import diag
from mptcpd.nl import uapi as u

_BACKUP = u.MPTCP_SUBFLOW_FLAG_BKUP_REM | u.MPTCP_SUBFLOW_FLAG_BKUP_LOC
_JOINED = u.MPTCP_SUBFLOW_FLAG_JOIN_REM | u.MPTCP_SUBFLOW_FLAG_JOIN_LOC
_UP = u.MPTCP_SUBFLOW_FLAG_FULLY_ESTABLISHED | u.MPTCP_SUBFLOW_FLAG_CONNECTED


class Diag(Protocol):
    """What is needed of ``nl.diag_client.DiagClient``."""

    def connections(self) -> Iterator[diag.Connection]: ...
    def subflows(self) -> Iterator[diag.Subflow]: ...
    def connection(self, token: int) -> diag.Connection | None: ...
    def subflow(self, path: diag.Path) -> diag.Subflow | None: ...


class Outcome(NamedTuple):
    """How many connections and subflows a resync found to have appeared and to be gone."""

    appeared: int = 0
    gone: int = 0
    subflows_appeared: int = 0
    subflows_gone: int = 0


def resync(kernel: Diag, table: Connections) -> Outcome:
    """Make the table equal to what the kernel has, with hooks for the difference.

    Errors  NetlinkError; the table is then as right as it was before, and may be resynced again.
    """
    return _Resync(kernel, table).run()


class _Resync:
    def __init__(self, kernel: Diag, table: Connections) -> None:
        self._kernel = kernel
        self._table = table
        self._fresh: dict[int, Connection] = {}
        self._seen: set[int] = set()
        self._established: set[int] = set()
        self._initial: set[int] = set()  # whose first subflow, and no other, was seen
        self._others: dict[int, dict[bytes, Subflow]] = {}
        self._clients: set[int] = set()

    def run(self) -> Outcome:
        known = list(self._table.by_token)
        for found in self._kernel.connections():
            self._connection(found)
        for flow in self._kernel.subflows():
            self._subflow(flow)
        self._look_up_strangers()
        gone = [token for token in known if token not in self._seen and self._is_gone(token)]
        appeared = self._tell_fresh()
        changed = [self._tell_subflows(token) for token in self._seen]
        closed = 0
        for token in gone:
            connection = self._table.by_token.get(token)
            if connection is not None:
                self._table.forget(connection)
                closed += 1
        return Outcome(
            appeared, closed, sum(more for more, _ in changed), sum(less for _, less in changed)
        )

    def _connection(self, found: diag.Connection) -> None:
        if found.closed:
            return
        token = found.token
        if token not in self._table.by_token:
            if found.flags & u.MPTCP_INFO_FLAG_FALLBACK:
                return  # plain TCP: it had no CREATED and will never have another subflow
            self._fresh[token] = Connection(token, pack_path(found.path), False, False)
        self._seen.add(token)

    def _subflow(self, flow: diag.Subflow) -> None:
        if not flow.flags & _UP:
            return  # a join that is still under way: SUB_ESTABLISHED will tell of it
        token = flow.token
        if flow.flags & u.MPTCP_SUBFLOW_FLAG_FULLY_ESTABLISHED:
            self._established.add(token)
        if flow.flags & (u.MPTCP_SUBFLOW_FLAG_MCAP_LOC | u.MPTCP_SUBFLOW_FLAG_JOIN_LOC):
            self._clients.add(token)
        if flow.flags & _JOINED:
            self._established.add(token)
        connection = self._table.by_token.get(token) or self._fresh.get(token)
        path = pack_path(flow.path)
        if connection is not None and connection.is_only(path) and token not in self._others:
            self._initial.add(token)
            return
        local, remote = unpack_path(path)
        self._others.setdefault(token, {})[path] = Subflow(
            local, remote, flow.local_id, flow.remote_id,
            bool(flow.flags & _BACKUP), flow.ifindex or None,
        )  # fmt: skip

    def _look_up_strangers(self) -> None:
        """Connections that slipped past the dump, and that only their subflows tell of."""
        for token in (self._established | self._others.keys()) - self._seen:
            found = self._kernel.connection(token)
            if found is not None:
                self._connection(found)

    def _is_gone(self, token: int) -> bool:
        found = self._kernel.connection(token)
        if found is None or found.closed:
            return True
        self._seen.add(token)
        return False

    def _tell_fresh(self) -> int:
        for token, connection in self._fresh.items():
            connection.server_side = token not in self._clients
            self._table.adopt(connection, token in self._established)
        return len(self._fresh)

    def _tell_subflows(self, token: int) -> tuple[int, int]:
        connection = self._table.by_token.get(token)
        if connection is None:
            return 0, 0
        if token in self._established and not connection.established:
            self._table.advance(connection)
        others = self._others.get(token)
        if others is None and token in self._initial:
            return 0, 0
        others = others or {}
        have = connection.paths()
        more = less = 0
        for path in have:
            if path not in others and not (token in self._initial and connection.is_first(path)):
                less += self._vanished(connection, path)
        for path, subflow in others.items():
            if connection.find(path) is None:
                self._table.appeared(connection, path, subflow)
                more += 1
        return more, less

    def _vanished(self, connection: Connection, path: bytes) -> int:
        found = self._kernel.subflow(diag_path(path))
        if found is not None and found.token == connection.token and found.flags & _UP:
            return 0
        self._table.vanished(connection, path)
        return 1


def diag_path(path: bytes) -> diag.Path:
    """A packed path as sock_diag is asked for it."""
    local, remote = unpack_path(path)
    return diag.Path(local.packed, local.port, remote.packed, remote.port)
