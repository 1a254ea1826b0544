"""Looks again and again at the connections that are wanted: for ``top`` and ``record``.

Knows snapshots, the filter and what changed; must not know how that is shown. Everything is
followed, whatever the filter: what begins to match later is then no newcomer, and what has matched
once stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mptcpd.cli.ctl import snapshot
from mptcpd.cli.ctl.connection_filter import Filter
from mptcpd.cli.ctl.ends import Interfaces
from mptcpd.cli.ctl.rates import Change, ConnectionView, SubflowView, Tracker
from mptcpd.cli.ctl.which_pm import PathManagers
from mptcpd.nl import diag
from mptcpd.nl.diag_sockets import MptcpSocket
from mptcpd.nl.info import mptcp_info


class Watcher:
    """The connections that a filter admits, over time.

    cost   seconds that the last look took: looking too often would be the machine's main work
    """

    def __init__(
        self, dumps: snapshot.Dumps, interfaces: Interfaces, managers: PathManagers, wanted: Filter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._dumps = dumps
        self.interfaces = interfaces
        self._managers = managers
        self._clock = clock
        self._wanted = wanted
        self._admitted: set[int] = set()
        self.tracker = Tracker()
        self.cost = 0.0
        self.blind = False

    def look(self) -> None:
        """Take a snapshot and compare it with the one before. Errors: NetlinkError, OSError."""
        began = self._clock()
        self.interfaces.refresh()
        wanted = self._wanted
        found = snapshot.take(self._dumps, wanted.states | diag.CONNECTED, self._clock)
        self.blind = found.blind
        connections = found.connections
        if wanted.token is not None:
            connections = [one for one in connections if one.socket.token == wanted.token]
        self.tracker.update(found.time, connections)
        self._admit(connections)
        self.cost = self._clock() - began

    def filter(self, wanted: Filter) -> None:
        """Want others from now on."""
        if wanted.token != self._wanted.token:
            self.tracker = Tracker()  # the others have not been followed
        self._wanted = wanted
        self._admitted.clear()

    def views(self) -> list[ConnectionView]:
        """The connections that are wanted; those that have just gone among them."""
        return [
            view for cookie, view in self.tracker.connections.items() if cookie in self._admitted
        ]

    def changes(self) -> list[Change]:
        """What the last look brought, of the connections that are wanted."""
        tokens = {view.socket.token for view in self.views()}
        return [change for change in self.tracker.changes if change.token in tokens]

    def interface(self, view: SubflowView) -> str | None:
        return self.interfaces.name(view.socket.path.local_ip, view.socket.ifindex)

    def pause(self, interval: float) -> float:
        """Seconds to wait, so that looking takes a quarter of the time at most."""
        return max(interval, 3 * self.cost)

    def _admit(self, connections: list[snapshot.Connection]) -> None:
        wanted = self._wanted
        for connection in connections:
            cookie = connection.socket.cookie
            if cookie not in self._admitted and wanted.admits(
                connection, self.interfaces, self._manager
            ):
                self._admitted.add(cookie)
        self._admitted &= self.tracker.connections.keys()

    def _manager(self, socket: MptcpSocket) -> str | None:
        return self._managers.of(socket.token, mptcp_info(socket.info))
