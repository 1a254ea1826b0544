"""The connection table: token -> Connection with its subflows, and how events change it.

Knows what each event means for the state; must not know sockets, plugins or how the kernel was
asked. Events come in (``take``), hooks go out to a listener. Every step is idempotent: an event
that comes twice, or after a resync has told of it already, changes nothing and calls no hook.

A connection with nothing but its first subflow, which is the usual one, keeps one bytes object for
both ends and no dict: about 280 bytes a connection with its place in the table (measured).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from mptcpd.core.address import SockAddr, from_packed
from mptcpd.core.path import pack_path, unpack_path
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp_event import Event

ABSENT, CREATED, ESTABLISHED = range(3)

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

_RECENT = 16  # closed subflows that a connection remembers, to know a repeated SUB_CLOSED


class Subflow(NamedTuple):
    """One subflow; immutable.

    local, remote  both ends, with ports       local_id, remote_id  address IDs; 0: the first one's
    backup         used only when no other can be
    ifindex        only where the subflow is bound to a device
    error          once closed: errno, 0 for none; None before
    reset_reason, reset_flags  once closed, of the peer's MP_TCPRST (RFC 8684, 3.6); else None
    """

    local: SockAddr
    remote: SockAddr
    local_id: int = 0
    remote_id: int = 0
    backup: bool = False
    ifindex: int | None = None
    error: int | None = None
    reset_reason: int | None = None
    reset_flags: int | None = None


class Connection:
    """An MPTCP connection of this host, as far as events and sock_diag tell. Plugins read it.

    token             names it               local, remote  both ends of the first subflow
    server_side       the peer connected to us
    deny_join_id0     the peer wants no joins to its initial address; False where unknown (a
                      connection that was adopted)
    established       further subflows may be created
    subflows          (local IP, local port, remote IP, remote port) -> Subflow
    announced         our address ID -> SockAddr that we announced
    remote_addresses  the peer's address ID -> SockAddr that it announced
    """

    __slots__ = (
        "_announced", "_path", "_recent", "_remote_addresses", "_subflows",
        "deny_join_id0", "owner", "server_side", "state", "token",
    )  # fmt: skip

    def __init__(self, token: int, path: bytes, server_side: bool, deny_join_id0: bool) -> None:
        self.token = token
        self.server_side = server_side
        self.deny_join_id0 = deny_join_id0
        self.state = ABSENT
        # Who answers for the connection; the listener of the table sets and reads it.
        self.owner: Any = None
        self._path = path
        self._subflows: dict[bytes, Subflow] | None = None  # None: the first one and no other
        self._announced: dict[int, SockAddr] | None = None
        self._remote_addresses: dict[int, SockAddr] | None = None
        self._recent: list[bytes] | None = None

    @property
    def established(self) -> bool:
        return self.state == ESTABLISHED

    @property
    def local(self) -> SockAddr:
        return unpack_path(self._path)[0]

    @property
    def remote(self) -> SockAddr:
        return unpack_path(self._path)[1]

    @property
    def subflows(self) -> Mapping[tuple[Any, int, Any, int], Subflow]:
        return {
            (flow.local.ip, flow.local.port, flow.remote.ip, flow.remote.port): flow
            for flow in self._flows().values()
        }

    @property
    def announced(self) -> Mapping[int, SockAddr]:
        return MappingProxyType(self._announced or {})

    @property
    def remote_addresses(self) -> Mapping[int, SockAddr]:
        return MappingProxyType(self._remote_addresses or {})

    def __repr__(self) -> str:
        return f"<Connection {self.token:08x} {self.local} {self.remote}>"

    def is_first(self, path: bytes) -> bool:
        """Whether this packed path is that of the first subflow."""
        return path == self._path

    def is_only(self, path: bytes) -> bool:
        """Whether the first subflow has this packed path and there never was another."""
        return self._subflows is None and path == self._path

    def paths(self) -> list[bytes]:
        """The packed paths of all subflows."""
        return [self._path] if self._subflows is None else list(self._subflows)

    def find(self, path: bytes) -> Subflow | None:
        """The subflow with this packed path."""
        if self._subflows is None and path != self._path:
            return None
        return self._flows().get(path)

    def _flows(self) -> dict[bytes, Subflow]:
        if self._subflows is None:
            return {self._path: Subflow(*unpack_path(self._path))}
        return self._subflows

    def put(self, path: bytes, subflow: Subflow) -> None:
        """Add or replace a subflow."""
        self._subflows = self._flows()
        self._subflows[path] = subflow
        if self._recent and path in self._recent:
            self._recent.remove(path)

    def drop(self, path: bytes) -> Subflow | None:
        """Take a subflow out and remember that it was closed."""
        self._subflows = self._flows()
        if self._recent is None:
            self._recent = []
        self._recent.append(path)
        del self._recent[:-_RECENT]
        return self._subflows.pop(path, None)

    def closed_before(self, path: bytes) -> bool:
        """Whether this subflow was closed not long ago."""
        return self._recent is not None and path in self._recent

    def note_announced(self, ident: int, address: SockAddr | None) -> None:
        """Record what we announced under this address ID; None: removed."""
        self._announced = _noted(self._announced, ident, address)

    def note_remote(self, ident: int, address: SockAddr | None) -> None:
        """Record what the peer announced under this address ID; None: removed."""
        self._remote_addresses = _noted(self._remote_addresses, ident, address)


def _noted(
    table: dict[int, SockAddr] | None, ident: int, address: SockAddr | None
) -> dict[int, SockAddr] | None:
    table = {} if table is None else table
    if address is None:
        table.pop(ident, None)
    else:
        table[ident] = address
    return table or None


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
    """

    def __init__(self, listener: Listener, ended: Callable[[Connection], None]) -> None:
        """``ended`` is called after the hooks of a closed connection, to free what it held."""
        self._listener = listener
        self._ended = ended
        self.by_token: dict[int, Connection] = {}
        self.unmatched = 0
        self._hooks = {
            "new_connection": listener.new_connection,
            "connection_established": listener.connection_established,
            "connection_closed": listener.connection_closed,
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

    def _connection(self, event: Event) -> None:
        kind, token = event.kind, event.token
        assert token is not None  # required by the parser
        connection = self.by_token.get(token)
        before = ABSENT if connection is None else connection.state
        after, hooks = TRANSITIONS[kind, before]
        if connection is None:
            if after == ABSENT:
                return
            connection = Connection(token, pack_path(event), *_role(event))
            self.by_token[token] = connection
        self._move(connection, after, hooks)

    def _move(self, connection: Connection, after: int, hooks: tuple[str, ...]) -> None:
        if after == ABSENT:
            del self.by_token[connection.token]
        for hook in hooks:
            # A plugin sees each state with its hook: new_connection comes before established.
            connection.state = CREATED if hook == "new_connection" else after
            self._hooks[hook](connection)
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
        if connection is not None:
            path = pack_path(event)
            known = connection.find(path)
            subflow = _subflow(event, path)
            connection.put(path, subflow)
            if known is None:
                self._listener.new_subflow(connection, subflow)

    def _sub_closed(self, event: Event) -> None:
        connection = self._known(event)
        if connection is None:
            return
        path = pack_path(event)
        known = connection.find(path)
        # A subflow that was never established is told of if it failed (a join that the peer or the
        # network refused); the same news twice is told once (mptcp_net-next issue 603).
        if known is None and (connection.closed_before(path) or not event.error):
            return
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
        path = pack_path(event)
        known = connection.find(path)
        if known is not None and known.backup != bool(event.backup):
            subflow = known._replace(backup=bool(event.backup))
            connection.put(path, subflow)
            self._listener.subflow_priority(connection, subflow)

    def _listener_created(self, event: Event) -> None:
        assert event.local_ip is not None
        self._listener.listener_created(from_packed(event.local_ip, event.local_port or 0))

    def _listener_closed(self, event: Event) -> None:
        assert event.local_ip is not None
        self._listener.listener_closed(from_packed(event.local_ip, event.local_port or 0))

    # What a resync finds out. The same rules, without an event.

    def adopt(self, connection: Connection, established: bool) -> None:
        """A connection that the kernel has and the table has not."""
        self.by_token[connection.token] = connection
        hooks = ("new_connection", "connection_established") if established else ("new_connection",)
        self._move(connection, ESTABLISHED if established else CREATED, hooks)

    def advance(self, connection: Connection) -> None:
        """A connection that the kernel has fully established."""
        after, hooks = TRANSITIONS[u.MPTCP_EVENT_ESTABLISHED, connection.state]
        self._move(connection, after, hooks)

    def forget(self, connection: Connection) -> None:
        """A connection that the table has and the kernel has not."""
        after, hooks = TRANSITIONS[u.MPTCP_EVENT_CLOSED, connection.state]
        self._move(connection, after, hooks)

    def appeared(self, connection: Connection, path: bytes, subflow: Subflow) -> None:
        """A subflow that the kernel has and the table has not."""
        connection.put(path, subflow)
        self._listener.new_subflow(connection, subflow)

    def vanished(self, connection: Connection, path: bytes) -> None:
        """A subflow that the table has and the kernel has not; why it closed is not known."""
        known = connection.drop(path)
        if known is not None:
            self._listener.subflow_closed(connection, known._replace(error=0))


def _role(event: Event) -> tuple[bool, bool]:
    """server_side and deny_join_id0. Linux 6.18 tells the side as a flag too."""
    flags = event.flags or 0
    server = bool(event.server_side) or bool(flags & u.MPTCP_PM_EV_FLAG_SERVER_SIDE)
    return server, bool(flags & u.MPTCP_PM_EV_FLAG_DENY_JOIN_ID0)


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
