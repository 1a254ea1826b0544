"""Which plugin answers for which connection, and the calls to it.

Knows hooks and the order of plugins; must not know what an event looks like. Several strategies can
live in one daemon: each new connection is offered to the plugins in their order, and the first that
does not decline it (``new_connection`` returning False) owns it: all later hooks of that connection
go to this plugin alone. Listener hooks belong to no connection and go to every plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mptcpd.core.address import SockAddr
from mptcpd.core.connections import Connection, Subflow
from mptcpd.core.registry import FAILURES, Registry
from mptcpd.nl import uapi as u

if TYPE_CHECKING:
    from mptcpd.core.pm import PathManager
    from mptcpd.plugin import Plugin

CONNECTION_HOOKS = (
    "new_connection",
    "connection_established",
    "connection_closed",
    "new_address",
    "address_removed",
    "new_subflow",
    "subflow_closed",
    "subflow_priority",
)
LISTENER_HOOKS = {
    "listener_created": u.MPTCP_EVENT_LISTENER_CREATED,
    "listener_closed": u.MPTCP_EVENT_LISTENER_CLOSED,
}
# What the connection table needs to be right, whichever of its hooks somebody has.
CONNECTION_EVENTS = frozenset(
    {
        u.MPTCP_EVENT_CREATED,
        u.MPTCP_EVENT_ESTABLISHED,
        u.MPTCP_EVENT_CLOSED,
        u.MPTCP_EVENT_ANNOUNCED,
        u.MPTCP_EVENT_REMOVED,
        u.MPTCP_EVENT_SUB_ESTABLISHED,
        u.MPTCP_EVENT_SUB_CLOSED,
        u.MPTCP_EVENT_SUB_PRIORITY,
    }
)


class Owner:
    """A plugin with the connection and listener hooks that it overrides."""

    __slots__ = ("hooks", "plugin", "pm")

    def __init__(
        self, plugin: Plugin, pm: PathManager, hooks: dict[str, Callable[..., Any]]
    ) -> None:
        self.plugin = plugin
        self.pm = pm
        self.hooks = hooks


class Owners:
    """Stands between the connection table and the plugins (``connections.Listener``)."""

    HOOKS = (*CONNECTION_HOOKS, *LISTENER_HOOKS)

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._order: list[Owner] = []
        self._line: list[Owner] = []  # as they are asked about the next new connection

    def start(self) -> None:
        """Take over the registry's plugins, after they were started and put in order.

        May be called again when others have joined or left: who stays keeps its connections.
        """
        known = {id(owner.plugin): owner for owner in self._order}
        self._order = self._line = [
            known.get(id(plugin)) or Owner(plugin, pm, hooks)
            for plugin, pm in self._registry.started()
            if (hooks := self._registry.overridden(plugin, self.HOOKS))
        ]

    def orphans(
        self, connections: Iterable[Connection], fresh: bool
    ) -> list[tuple[Connection, str]]:
        """The connections to be offered anew, each with the name of the plugin that it had.

        They belong to nobody until ``asking_first`` and ``connections.tell_again``.

        fresh  there is a new plugin: it may want those, too, that nobody wanted before
        """
        here = {id(owner) for owner in self._order}
        found = []
        for connection in connections:
            owner = connection.owner
            if owner is None:
                if fresh:
                    found.append((connection, ""))
            elif id(owner) not in here:
                connection.owner = None
                found.append((connection, owner.plugin.name))
        return found

    @contextmanager
    def asking_first(self, name: str) -> Iterator[None]:
        """Inside, new connections are offered to the plugin of this name before all others."""
        self._line = sorted(self._order, key=lambda owner: owner.plugin.name != name)
        try:
            yield
        finally:
            self._line = self._order

    def in_order(self) -> list[Owner]:
        """The plugins with hooks for connections, as they are asked about new ones."""
        listeners = LISTENER_HOOKS.keys()
        return [owner for owner in self._order if not owner.hooks.keys() <= listeners]

    def owned(self, connections: Iterable[Connection]) -> dict[str, int]:
        """How many of these connections each plugin owns, by its name."""
        found = {owner.plugin.name: 0 for owner in self._order}
        for connection in connections:
            if connection.owner is not None:
                found[connection.owner.plugin.name] += 1
        return found

    def events(self) -> frozenset[int]:
        """The kinds of events that the plugins' hooks need (MPTCP_EVENT_*)."""
        hooks = {hook for owner in self._order for hook in owner.hooks}
        found = {kind for hook, kind in LISTENER_HOOKS.items() if hook in hooks}
        return frozenset(found) | (
            CONNECTION_EVENTS if hooks.intersection(CONNECTION_HOOKS) else frozenset()
        )

    def new_connection(self, connection: Connection) -> None:
        for owner in self._line:
            hook = owner.hooks.get("new_connection")
            if hook is None:
                if not owner.hooks.keys() <= LISTENER_HOOKS.keys():
                    connection.owner = owner  # it has hooks for connections and declines none
                    return
                continue
            # The plugin may send commands for the connection from inside this hook.
            connection.owner = owner
            try:
                if hook(connection, owner.pm) is not False:
                    return
            except FAILURES:
                self._registry.failed(owner.plugin, "new_connection")
            connection.owner = None

    # As ``_tell``; written out, for with ``new_connection`` these are nearly all calls there are.

    def connection_established(self, connection: Connection) -> None:
        owner = connection.owner
        if owner is not None and "connection_established" in owner.hooks:
            try:
                owner.hooks["connection_established"](connection, owner.pm)
            except FAILURES:
                self._registry.failed(owner.plugin, "connection_established")

    def connection_closed(self, connection: Connection) -> None:
        owner = connection.owner
        if owner is not None and "connection_closed" in owner.hooks:
            try:
                owner.hooks["connection_closed"](connection, owner.pm)
            except FAILURES:
                self._registry.failed(owner.plugin, "connection_closed")

    def new_address(self, connection: Connection, remote_id: int, address: SockAddr) -> None:
        self._tell("new_address", connection, remote_id, address)

    def address_removed(self, connection: Connection, remote_id: int) -> None:
        self._tell("address_removed", connection, remote_id)

    def new_subflow(self, connection: Connection, subflow: Subflow) -> None:
        self._tell("new_subflow", connection, subflow)

    def subflow_closed(self, connection: Connection, subflow: Subflow) -> None:
        self._tell("subflow_closed", connection, subflow)

    def subflow_priority(self, connection: Connection, subflow: Subflow) -> None:
        self._tell("subflow_priority", connection, subflow)

    def listener_created(self, address: SockAddr) -> None:
        self._tell_all("listener_created", address)

    def listener_closed(self, address: SockAddr) -> None:
        self._tell_all("listener_closed", address)

    def _tell(self, name: str, connection: Connection, *arguments: object) -> None:
        owner = connection.owner
        if owner is None:
            return
        hook = owner.hooks.get(name)
        if hook is None:
            return
        try:
            hook(connection, *arguments, owner.pm)
        except FAILURES:
            # A plugin is somebody else's code: whatever it raises must not end the daemon.
            self._registry.failed(owner.plugin, name)

    def _tell_all(self, name: str, address: SockAddr) -> None:
        for owner in self._order:
            hook = owner.hooks.get(name)
            if hook is not None:
                try:
                    hook(address, owner.pm)
                except FAILURES:
                    self._registry.failed(owner.plugin, name)
