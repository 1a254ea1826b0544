"""The connection table: token -> Connection with its subflows, and how events change it.

Knows what each event means for the state; must not know sockets, plugins or how the kernel was
asked. Events come in (``take``), hooks go out to a listener. Every step is idempotent: an event
that comes twice, or after a resync has told of it already, changes nothing and calls no hook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from mptcpd.core.address import SockAddr, from_packed
from mptcpd.core.connection import ABSENT, CREATED, ESTABLISHED, Connection, Pair, Subflow
from mptcpd.core.path import normal, pack_path, unpack_path
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp_event import Event

__all__ = ["TRANSITIONS", "Connection", "Connections", "Listener", "Subflow"]

# What an event does to a connection: (kind, state before) -> (state after, hooks in their order).
# A connection whose CREATED was lost, or that was adopted, may come to ESTABLISHED directly.
TRANSITIONS: Mapping[tuple[int, int], tuple[int, tuple[str, ...]]] = {
    (u.MPTCP_EVENT_CREATED, ABSENT): (CREATED, ("new_connection",)),
    (u.MPTCP_EVENT_CREATED, CREATED): (CREATED, ()),
    (u.MPTCP_EVENT_CREATED, ESTABLISHED): (ESTABLISHED, ()),
    (u.MPTCP_EVENT_ESTABLISHED, ABSENT): (
        ESTABLISHED,
        ("new_connection", "connection_established"),
    ),
    (u.MPTCP_EVENT_ESTABLISHED, CREATED): (ESTABLISHED, ("connection_established",)),
    (u.MPTCP_EVENT_ESTABLISHED, ESTABLISHED): (ESTABLISHED, ()),
    (u.MPTCP_EVENT_CLOSED, ABSENT): (ABSENT, ()),
    (u.MPTCP_EVENT_CLOSED, CREATED): (ABSENT, ("connection_closed",)),
    (u.MPTCP_EVENT_CLOSED, ESTABLISHED): (ABSENT, ("connection_closed",)),
}


class Listener(Protocol):
    """Who is told: the registry, with plugins behind it."""

    def new_connection(self, connection: Connection) -> None: ...
    def connection_established(self, connection: Connection) -> None: ...
    def connection_closed(self, connection: Connection) -> None: ...
    def new_address(self, connection: Connection, remote_id: int, address: SockAddr) -> None: ...
    def address_removed(self, connection: Connection, remote_id: int) -> None: ...
    def new_subflow(self, connection: Connection, subflow: Subflow) -> None: ...
    def subflow_closed(self, connection: Connection, subflow: Subflow) -> None: ...
    def subflow_priority(self, connection: Connection, subflow: Subflow) -> None: ...
    def listener_created(self, address: SockAddr) -> None: ...
    def listener_closed(self, address: SockAddr) -> None: ...


class Connections:
    """All connections, by token.

    by_token    the table; others read it
    unmatched   events of subflows and addresses whose connection is not in the table
    failed_joins  subflows that were asked for and did not come up
    doubtful    those of which a resync found nothing, be it that an event waits which tells more
    """

    def __init__(self, listener: Listener, ended: Callable[[Connection], None]) -> None:
        """``ended`` is called after the hooks of a closed connection, to free what it held."""
        self._listener = listener
        self._ended = ended
        self.by_token: dict[int, Connection] = {}
        self.unmatched = 0
        self.failed_joins = 0
        # What a resync found to be gone, connections and subflows; until ``settled``.
        self._gone: set[int | tuple[int, bytes]] = set()
        self.doubtful: list[tuple[Connection, Pair, object]] = []
        # TRANSITIONS, with the hooks as functions and beside each the state that a plugin sees
        # with it: new_connection comes before established.
        self._steps = {
            before: (
                after,
                [
                    (CREATED if hook == "new_connection" else after, getattr(listener, hook))
                    for hook in hooks
                ],
            )
            for before, (after, hooks) in TRANSITIONS.items()
        }
        self._takers: dict[int, Callable[[Event], None]] = {
            u.MPTCP_EVENT_CREATED: self._connection,
            u.MPTCP_EVENT_ESTABLISHED: self._connection,
            u.MPTCP_EVENT_CLOSED: self._connection,
            u.MPTCP_EVENT_ANNOUNCED: self._announced,
            u.MPTCP_EVENT_REMOVED: self._removed,
            u.MPTCP_EVENT_SUB_ESTABLISHED: self._sub_established,
            u.MPTCP_EVENT_SUB_CLOSED: self._sub_closed,
            u.MPTCP_EVENT_SUB_PRIORITY: self._sub_priority,
            u.MPTCP_EVENT_LISTENER_CREATED: self._listener_created,
            u.MPTCP_EVENT_LISTENER_CLOSED: self._listener_closed,
        }

    def take(self, event: Event) -> bool:
        """Apply an event and call the hooks it means; False for a kind that is not known."""
        taker = self._takers.get(event.kind)
        if taker is None:
            return False
        taker(event)
        return True

    def subflows(self) -> int:
        """How many subflows there are in the table."""
        return sum(connection.count for connection in self.by_token.values())

    # The same for the events of every connection's life, without an Event (``mptcp_reader.Quick``).

    def created(
        self, token: int, path: bytes, flags: int | None, server_side: int | None
    ) -> bool:
        """CREATED of a connection that is not in the table yet."""
        if token in self.by_token or self._gone or not token:
            return False
        self._open(token, normal(path), flags, server_side, u.MPTCP_EVENT_CREATED)
        return True

    def established(self, token: int) -> bool:
        """ESTABLISHED of a connection that is in the table."""
        connection = self.by_token.get(token)
        if connection is not None:
            self._move(connection, u.MPTCP_EVENT_ESTABLISHED)
        return connection is not None

    def closed(self, token: int) -> bool:
        """CLOSED of a connection that is in the table."""
        connection = self.by_token.get(token)
        if connection is not None:
            self._move(connection, u.MPTCP_EVENT_CLOSED)
        return connection is not None

    def _connection(self, event: Event) -> None:
        kind, token = event.kind, event.token
        assert token is not None  # required by the parser
        connection = self.by_token.get(token)
        if connection is not None:
            self._move(connection, kind)
        elif kind != u.MPTCP_EVENT_CLOSED and token and token not in self._gone:
            self._open(token, pack_path(event), event.flags, event.server_side, kind)

    def _open(
        self, token: int, path: bytes, flags: int | None, server_side: int | None, kind: int
    ) -> None:
        """Put a connection into the table. Linux 6.18 tells the side as a flag, too."""
        flags = flags or 0
        self.by_token[token] = connection = Connection(
            token,
            path,
            bool(server_side or flags & u.MPTCP_PM_EV_FLAG_SERVER_SIDE),
            bool(flags & u.MPTCP_PM_EV_FLAG_DENY_JOIN_ID0),
        )
        self._move(connection, kind)

    def _move(self, connection: Connection, kind: int) -> None:
        after, hooks = self._steps[kind, connection.state]
        if after == ABSENT:
            del self.by_token[connection.token]
        for state, hook in hooks:
            connection.state = state
            hook(connection)
        connection.state = after
        if after == ABSENT:
            self._ended(connection)

    def _known(self, event: Event) -> Connection | None:
        connection = self.by_token.get(event.token)  # type: ignore[arg-type]
        if connection is None:
            self.unmatched += 1
        return connection

    def _announced(self, event: Event) -> None:
        connection = self._known(event)
        if connection is None:
            return
        assert event.remote_id is not None and event.remote_ip is not None
        address = from_packed(event.remote_ip, event.remote_port or 0)
        if connection.remote_addresses.get(event.remote_id) != address:
            connection.note_remote(event.remote_id, address)
            self._listener.new_address(connection, event.remote_id, address)

    def _removed(self, event: Event) -> None:
        connection = self._known(event)
        ident = event.remote_id
        if connection is not None and ident is not None and ident in connection.remote_addresses:
            connection.note_remote(ident, None)
            self._listener.address_removed(connection, ident)

    def _sub_established(self, event: Event) -> None:
        connection = self._known(event)
        if connection is None:
            return
        path = pack_path(event)
        if connection.find(path) is not None or (connection.token, path) in self._gone:
            return  # a dump told of it before, and of what happened to it since
        subflow = _subflow(event, path)
        if connection.asked_backup(subflow):
            subflow = subflow._replace(backup=True)
        connection.put(path, subflow)
        if not connection.established:
            self.advance(connection)  # the event that said so was lost
        self._listener.new_subflow(connection, subflow)

    def _sub_closed(self, event: Event) -> None:
        connection = self._known(event)
        if connection is None:
            return
        path = pack_path(event)
        known = connection.find(path)
        # A subflow that was never established is told of if it failed (a join that the peer or the
        # network refused); the same news twice is told once (mptcp_net-next issue 603).
        if known is None:
            if connection.closed_before(path) or not event.error:
                return
            self.failed_joins += 1
        connection.drop(path)
        closed = (known or _subflow(event, path))._replace(
            error=event.error or 0,
            reset_reason=event.reset_reason,
            reset_flags=event.reset_flags,
        )
        self._listener.subflow_closed(connection, closed)

    def _sub_priority(self, event: Event) -> None:
        connection = self._known(event)
        if connection is None:
            return
        self.reprioritised(connection, pack_path(event), bool(event.backup))

    def _listener_created(self, event: Event) -> None:
        assert event.local_ip is not None
        self._listener.listener_created(from_packed(event.local_ip, event.local_port or 0))

    def _listener_closed(self, event: Event) -> None:
        assert event.local_ip is not None
        self._listener.listener_closed(from_packed(event.local_ip, event.local_port or 0))

    # What a resync finds out. The same rules, without an event.

    def adopt(
        self,
        connection: Connection,
        established: bool,
        others: Mapping[bytes, int],
        has_first: bool = True,
    ) -> None:
        """A connection that the kernel has and the table has not, with its subflows (packed).

        Plugins find all of them there with the first hook, or they would ask for them again; and
        they do not find the first one if that has closed.
        """
        if not has_first:
            self._gone.add((connection.token, connection.first))
            connection.drop(connection.first)
        for path, rest in others.items():
            connection.put_packed(path, rest)
        self.by_token[connection.token] = connection
        self._move(connection, u.MPTCP_EVENT_ESTABLISHED if established else u.MPTCP_EVENT_CREATED)
        for path in others:
            if not connection.is_first(path):
                self.appeared(connection, path)

    def advance(self, connection: Connection) -> None:
        """A connection that the kernel has fully established."""
        self._move(connection, u.MPTCP_EVENT_ESTABLISHED)

    def forget(self, connection: Connection) -> None:
        """A connection that the table has and the kernel has not."""
        self._gone.add(connection.token)
        self._move(connection, u.MPTCP_EVENT_CLOSED)

    def appeared(self, connection: Connection, path: bytes) -> None:
        """A subflow that was found in the kernel and put into the connection."""
        subflow = connection.find(path)
        if subflow is not None:  # a hook may have taken the connection's subflows down again
            self._listener.new_subflow(connection, subflow)

    def reprioritised(self, connection: Connection, path: bytes, backup: bool) -> None:
        """A subflow that is a backup, or is none, as it may have been before."""
        known = connection.find(path)
        if known is not None and known.backup != backup:
            subflow = known._replace(backup=backup)
            connection.put(path, subflow)
            self._listener.subflow_priority(connection, subflow)

    def vanished(self, connection: Connection, path: bytes) -> None:
        """A subflow that the table has and the kernel has not; why it closed is not known."""
        self._gone.add((connection.token, path))
        known = connection.drop(path)
        if known is not None:
            self._listener.subflow_closed(connection, known._replace(error=0))

    def doubt(self, connection: Connection, pair: Pair, request: object) -> None:
        """A subflow that was asked for and that the kernel has not. It has failed, unless it has
        come up or an event that waits tells of it."""
        self.doubtful.append((connection, pair, request))

    def tell_again(self, connection: Connection) -> None:
        """Tell of a connection as if it had just been found: its plugin is new to it.

        Nothing is told of one that has closed meanwhile.
        """
        if self.by_token.get(connection.token) is not connection:
            return
        state, connection.state = connection.state, CREATED
        self._listener.new_connection(connection)
        connection.state = state
        if connection.established:
            self._listener.connection_established(connection)
        for ident, address in list(connection.remote_addresses.items()):
            self._listener.new_address(connection, ident, address)
        for path in connection.paths():
            if not connection.is_first(path):
                self.appeared(connection, path)

    def abandon(self) -> None:
        """Nobody follows connections any more: forget them all, and free what was held for them."""
        connections = list(self.by_token.values())
        self.by_token.clear()
        for connection in connections:
            self._ended(connection)

    def settled(self) -> None:
        """All events were taken that the kernel sent before the last resync ended.

        Until then some of them tell of things older than what the resync found: that a connection
        was established which it found to be gone.
        """
        self._gone.clear()
        doubtful, self.doubtful = self.doubtful, []
        for connection, pair, request in doubtful:
            if self.by_token.get(connection.token) is not connection:
                continue
            if connection.give_up(pair, request):
                self.failed_joins += 1
                ip, remote = pair
                self._listener.subflow_closed(connection, Subflow(SockAddr(ip), remote, error=0))


def _subflow(event: Event, path: bytes) -> Subflow:
    local, remote = unpack_path(path)
    return Subflow(
        local,
        remote,
        event.local_id or 0,
        event.remote_id or 0,
        bool(event.backup),
        event.ifindex,
    )
