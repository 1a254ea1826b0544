"""What the kernel has against what the table has: at the start, and after events were lost.

Knows sock_diag's answers and the connection table; must not know sockets, nor when it is called.

A dump is no snapshot: a socket may slip past it while others close. So nothing is believed gone
until the kernel, asked for that one, says so; and a connection that only its subflows tell of is
looked up, too. What changes while the dump runs waits as events in the queue; they may repeat what
the dump told, and every step of the table may be repeated.

What sock_diag does not tell: which addresses were announced, and whether the peer denies joins to
its initial address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from mptcpd.core.connection import Connection, Pair, ifindex_of, is_backup, pack_rest
from mptcpd.core.connections import Connections
from mptcpd.core.path import pack_path, unpack_path
from mptcpd.nl import diag
from mptcpd.nl import uapi as u

_BACKUP = u.MPTCP_SUBFLOW_FLAG_BKUP_REM | u.MPTCP_SUBFLOW_FLAG_BKUP_LOC
_CAPABLE = u.MPTCP_SUBFLOW_FLAG_MCAP_REM | u.MPTCP_SUBFLOW_FLAG_MCAP_LOC
_JOINED = u.MPTCP_SUBFLOW_FLAG_JOIN_REM | u.MPTCP_SUBFLOW_FLAG_JOIN_LOC
_UP = u.MPTCP_SUBFLOW_FLAG_FULLY_ESTABLISHED | u.MPTCP_SUBFLOW_FLAG_CONNECTED


class Diag(Protocol):
    """What is needed of ``nl.diag_client.DiagClient``."""

    def connections(self) -> Iterator[diag.Connection]: ...
    def subflows(self) -> Iterator[diag.Subflow]: ...
    def connection(self, token: int) -> diag.Connection | None: ...
    def subflow(self, path: diag.Path, ifindex: int = 0) -> diag.Subflow | None: ...


class Outcome(NamedTuple):
    """How many connections and subflows a resync found to have appeared and to be gone."""

    appeared: int = 0
    gone: int = 0
    subflows_appeared: int = 0
    subflows_gone: int = 0


def resync(
    kernel: Diag, table: Connections, catch_up: Callable[[], object] = lambda: None
) -> Outcome:
    """Make the table equal to what the kernel has, with hooks for the difference.

    catch_up  takes the events that the kernel has sent meanwhile. Most of what the kernel has no
              more ended while the dump ran: they tell of it better, with all that was before.
    Errors  NetlinkError; the table is then as right as it was before, and may be resynced again.
    """
    return _Resync(kernel, table).run(catch_up)


# What is known of a token; one small number each, as there may be 75,000 of them.
_SEEN = 1  # there is such a connection
_PLAIN = 2  # it fell back to TCP
_ESTABLISHED = 4
_FIRST = 8  # its first subflow is there, as the table has it
_ROLE = 16  # it is known who opened it
_CLIENT = 32  # we did


class _Resync:
    def __init__(self, kernel: Diag, table: Connections) -> None:
        self._kernel = kernel
        self._table = table
        self._fresh: dict[int, Connection] = {}
        self._marks: dict[int, int] = {}
        # Subflows other than those that _FIRST says all of, by token and path, packed.
        self._others: dict[int, dict[bytes, int]] = {}
        # The interfaces that programs bound their connections to, by token.
        self._bound: dict[int, int] = {}
        # Subflows that are on their way.
        self._under_way: set[tuple[int, Pair]] = set()

    def run(self, catch_up: Callable[[], object]) -> Outcome:
        known = list(self._table.by_token)
        asked = [
            (connection, pair, request)
            for connection in self._table.by_token.values()
            for pair, request in connection.asked.items()
        ]
        for found in self._kernel.connections():
            self._connection(found)
        for flow in self._kernel.subflows():
            self._subflow(flow)
        self._look_up_strangers()
        marks = self._marks
        gone = [
            token for token in known if not marks.get(token, 0) & _SEEN and self._is_gone(token)
        ]
        told = [self._adopt(connection) for connection in self._fresh.values()]
        # Not before they are in the table: an event that one of them has closed would be lost.
        catch_up()
        told += [
            self._tell_subflows(token, mark)
            for token, mark in marks.items()
            if mark & _SEEN and token not in self._fresh
        ]
        changed = [each for each in told if each is not _UNCHANGED]
        closed = 0
        for token in gone:
            connection = self._table.by_token.get(token)
            if connection is not None:
                self._table.forget(connection)
                closed += 1
        for connection, pair, request in asked:
            if (connection.token, pair) not in self._under_way:
                self._table.doubt(connection, pair, request)
        more, less = (sum(each[index] for each in changed) for index in (0, 1))
        return Outcome(len(self._fresh), closed, more, less)

    def _connection(self, found: diag.Connection) -> None:
        if not found.inode and found.closed:  # nearly all have an inode, which is quicker to see
            return
        token, mark = found.token, _SEEN
        if not token:  # it was given back while the dump ran
            return
        if token not in self._table.by_token:
            if found.flags & u.MPTCP_INFO_FLAG_FALLBACK:
                mark = _PLAIN  # it had no CREATED and will never have another subflow
            else:
                self._fresh[token] = Connection(token, pack_path(found.path), False, False)
        self._marks[token] = self._marks.get(token, 0) | mark
        if found.ifindex:
            self._bound[token] = found.ifindex

    def _subflow(self, flow: diag.Subflow) -> None:
        flags, token = flow.flags, flow.token
        if not token:
            return
        if not flags & _UP:  # a join that is still under way: an event will tell of it
            local, remote = unpack_path(pack_path(flow.path))
            self._under_way.add((token, (local.ip, remote)))
            return
        mark = self._marks.get(token, 0)
        if flags & (u.MPTCP_SUBFLOW_FLAG_FULLY_ESTABLISHED | _JOINED):
            mark |= _ESTABLISHED
        # The first subflow tells who opened the connection; a join may come from either side.
        if flags & _CAPABLE:
            mark = mark & ~_CLIENT | _ROLE
            mark |= _CLIENT if flags & u.MPTCP_SUBFLOW_FLAG_MCAP_LOC else 0
        elif not mark & _ROLE:
            mark |= _ROLE | (_CLIENT if flags & u.MPTCP_SUBFLOW_FLAG_JOIN_LOC else 0)
        connection = self._table.by_token.get(token) or self._fresh.get(token)
        path = pack_path(flow.path)
        only = connection is not None and connection.is_only(path) and token not in self._others
        if only and not flags & _BACKUP:
            mark |= _FIRST
        else:
            backup = bool(flags & _BACKUP)
            rest = pack_rest(flow.local_id, flow.remote_id, backup, flow.ifindex)
            self._others.setdefault(token, {})[path] = rest
        self._marks[token] = mark

    def _look_up_strangers(self) -> None:
        """Connections that slipped past the dump, and that only their subflows tell of."""
        strangers = [token for token, mark in self._marks.items() if not mark & (_SEEN | _PLAIN)]
        for token in strangers:
            found = self._kernel.connection(token)
            if found is not None:
                self._connection(found)

    def _is_gone(self, token: int) -> bool:
        found = self._kernel.connection(token)
        if found is None or found.closed:
            return True
        self._marks[token] = self._marks.get(token, 0) | _SEEN
        return False

    def _adopt(self, connection: Connection) -> tuple[int, int]:
        token = connection.token
        mark = self._marks[token]
        connection.server_side = not self._is_client(connection, mark)
        others, first = self._others.get(token, _NONE), connection.first
        if mark & _FIRST and not others:
            self._table.adopt(connection, bool(mark & _ESTABLISHED), others)
            return _UNCHANGED
        # Before plugins hear of it: they would take it for a path that is used.
        has_first = (
            bool(mark & _FIRST) or first in others or not self._is_down(connection, first, 0)
        )
        self._table.adopt(connection, bool(mark & _ESTABLISHED), others, has_first)
        return len(others) - (first in others), 0

    def _is_client(self, connection: Connection, mark: int) -> bool:
        if mark & _ROLE:
            return bool(mark & _CLIENT)
        # No subflow of it was seen.
        bound = self._bound.get(connection.token, 0)
        flow = self._kernel.subflow(diag_path(connection.first), bound)
        return flow is not None and bool(flow.flags & u.MPTCP_SUBFLOW_FLAG_MCAP_LOC)

    def _tell_subflows(self, token: int, mark: int) -> tuple[int, int]:
        connection = self._table.by_token.get(token)
        if connection is None:
            return _UNCHANGED
        others = self._others.get(token)
        if others is None and mark & _FIRST:
            if mark & _ESTABLISHED and not connection.established:
                self._table.advance(connection)
            return _UNCHANGED
        others = others or {}
        have = {path: connection.rest(path) for path in connection.paths()}
        fresh = {
            path: rest
            for path, rest in others.items()
            if path not in have
            and not (connection.closed_before(path) and self._is_down(connection, path, rest))
        }
        for path, rest in fresh.items():
            connection.put_packed(path, rest)  # connection_established may make a plugin look
        if mark & _ESTABLISHED and not connection.established:
            self._table.advance(connection)
        less = 0
        for path, known in have.items():
            if path in others:
                if known != others[path]:
                    self._table.reprioritised(connection, path, is_backup(others[path]))
            elif not (mark & _FIRST and connection.is_first(path)):
                less += self._vanished(connection, path)
        for path in fresh:
            self._table.appeared(connection, path)
        return len(fresh), less

    def _vanished(self, connection: Connection, path: bytes) -> int:
        if not self._is_down(connection, path, connection.rest(path) or 0):
            return 0
        self._table.vanished(connection, path)
        return 1

    def _is_down(self, connection: Connection, path: bytes, rest: int) -> bool:
        ifindex = ifindex_of(rest) or self._bound.get(connection.token, 0)
        found = self._kernel.subflow(diag_path(path), ifindex)
        return found is None or found.token != connection.token or not found.flags & _UP


_NONE: Mapping[bytes, int] = {}
_UNCHANGED = (0, 0)


def diag_path(path: bytes) -> diag.Path:
    """A packed path as sock_diag is asked for it."""
    local, remote = unpack_path(path)
    return diag.Path(local.packed, local.port, remote.packed, remote.port)
