"""Subflows that new ones replace, so that nobody waits for what is queued in them.

Knows which subflow is to be replaced by one between the same addresses; must not know which
subflows are wanted, nor why a path is lost.

When a path is lost the kernel sends everything again that the peer has not confirmed
(net/mptcp/protocol.c: __mptcp_retransmit_pending_data). The first of it, for which the peer's
program waits, queues behind what waits in the remaining subflows already: up to a megabyte, 0.4 s
at 20 Mbit/s (seen in tcpi_notsent_bytes). And since all of it goes into those long queues at once,
much is sent that the peer turns out to have. A new subflow has no queue, and a short one at first.
When it is up the old one is destroyed, and aborted: a destroyed subflow would send its queue to the
end beside the new one. The longest silence that the program sees on links of 20 Mbit/s, medians of
10 (``python -m bench.stall``): 486 ms without a daemon, 440 when the kernel's own path manager
closes the lost path at once, 102 with fullmesh and this (client sends); 287, 465 and 121 ms (it
receives).

A connection that carries nothing at the moment has nothing to gain: it is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mptcpd.core.address import IP, SockAddr
from mptcpd.core.connections import Connection, Subflow
from mptcpd.nl.errors import KernelError, NetlinkError

if TYPE_CHECKING:
    from mptcpd.core.pm import PathManager

# Later than so many seconds after the loss a new subflow is of no use: what waited has been sent.
IN_TIME = 1.0
# Replacements that may be under way at once. Many connections that share a path have little waiting
# each, and must not wait for one another's handshakes.
MOST = 64

Key: TypeAlias = tuple[int, IP, SockAddr]  # token, local IP, remote address


class _Old(NamedTuple):
    subflow: Subflow
    until: float


class Renewals:
    """The replacements under way for the connections of one plugin."""

    def __init__(self, pm: PathManager, clock: Callable[[], float] = time.monotonic) -> None:
        self._pm = pm
        self._clock = clock
        self._old: dict[Key, _Old] = {}

    def start(self, connection: Connection, lost: IP) -> None:
        """Ask for a new subflow beside each that does not come from ``lost``, if it is worth it.

        Only of connections that we opened: a peer behind a firewall cannot be joined.
        """
        if connection.server_side or self._full() or not self._is_busy(connection):
            return
        for old in connection.subflows.values():
            key = _key(connection, old)
            if old.local.ip == lost or key in self._old:
                continue
            if connection.deny_join_id0 and not old.remote_id:
                continue
            interface = next(
                (
                    interface
                    for interface in self._pm.interfaces.values()
                    if any(address.ip == old.local.ip for address in interface.addresses)
                ),
                None,
            )
            if interface is None:
                continue  # its address is about to go, too
            try:
                self._pm.create_subflow(
                    connection,
                    SockAddr(old.local.ip),
                    old.remote,
                    local_id=old.local_id,
                    remote_id=old.remote_id,
                    backup=old.backup,
                    ifindex=interface.index,
                )
            except KernelError as error:
                self._pm.log.debug("%r: %s is not renewed: %s", connection, old.local, error)
                continue
            self._old[key] = _Old(old, self._clock() + IN_TIME)

    def _full(self) -> bool:
        """Those that are too late do not count: the kernel may try for minutes."""
        latest = list(islice(reversed(self._old.values()), MOST))
        return len(latest) == MOST and (not latest or latest[-1].until > self._clock())

    def _is_busy(self, connection: Connection) -> bool:
        try:
            return self._pm.is_busy(connection)
        except NetlinkError as error:
            self._pm.log.debug("%r: not known whether it is busy: %s", connection, error)
            return False

    def came_up(self, connection: Connection, subflow: Subflow) -> Subflow | None:
        """The subflow to be destroyed now that this one is up, None if it replaces none.

        That is the old one, or, when it comes too late, the new one.
        """
        found = self._old.get(_key(connection, subflow))
        if found is None or found.subflow.local == subflow.local:
            return None  # the old one itself: one of a connection that was adopted is told of, too
        del self._old[_key(connection, subflow)]
        return found.subflow if self._clock() <= found.until else subflow

    def closed(self, connection: Connection, subflow: Subflow) -> bool:
        """Take note that a subflow closed or did not come up; True if that was a replacement.

        If the old one closes first, the new one is a subflow like any other.
        """
        found = self._old.pop(_key(connection, subflow), None)
        return found is not None and found.subflow.local.port != subflow.local.port

    def forget(self, connection: Connection) -> None:
        """The connection is over. Harmless when repeated."""
        for key in [key for key in self._old if key[0] == connection.token]:
            del self._old[key]


def _key(connection: Connection, subflow: Subflow) -> Key:
    return connection.token, subflow.local.ip, subflow.remote
