"""What became of the subflows that a plugin asked for, connection by connection.

Knows which pairs of addresses have a subflow, are being tried, or were refused; must not know which
pairs are wanted: that is the plugin's policy. A pair is tried once; after a failure again only when
something about it is new (its local address returned, the peer announced its remote one again), so
that a peer who refuses is not asked for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mptcpd.core.address import IP, SockAddr
from mptcpd.core.connection import Connection, Pair, Subflow
from mptcpd.core.ids import NoFreeId
from mptcpd.core.network import Interface
from mptcpd.core.renewal import Renewals
from mptcpd.nl.errors import KernelError

if TYPE_CHECKING:
    from mptcpd.core.pm import PathManager

# Connections in a row before the loop has its turn. Leaving a path takes the kernel half a
# millisecond for each; with 5,000 of them nothing else would happen for three seconds (measured).
TURN = 32
RELEASE = 60.0  # seconds from the loss of an address until its ID is given to another


class _Tried:
    """What is remembered of one connection, as soon as there is something to remember."""

    __slots__ = ("failed", "gone", "left", "pending")

    def __init__(self) -> None:
        self.pending: set[Pair] = set()
        self.failed: set[Pair] = set()
        # Subflows that we have closed (both ends with ports): that they close is no failure, and
        # until that is told there seem to be more subflows than there are.
        self.left: set[tuple[SockAddr, SockAddr]] = set()
        # Local addresses that went away while there was no other subflow to move the data to.
        self.gone: set[IP] = set()


class Joins:
    """The connections that one plugin follows, and its attempts to create subflows for them."""

    def __init__(self, pm: PathManager) -> None:
        self._pm = pm
        self._followed: dict[int, _Tried | None] = {}
        self._renewals = Renewals(pm)

    def follow(self, connection: Connection) -> None:
        """Count this connection among ours."""
        self._followed[connection.token] = None

    def forget(self, connection: Connection) -> None:
        """It is over, or none of ours. Harmless when repeated."""
        self._followed.pop(connection.token, None)
        self._renewals.forget(connection)

    def followed(self) -> list[Connection]:
        """Our connections."""
        known = self._pm.connections
        return [known[token] for token in self._followed if token in known]

    def each(self, act: Callable[[Connection], object]) -> None:
        """Do something with each of our connections: with the first at once, with others in turns.

        Those that end meanwhile are left out. What ``act`` raises for one stops no other.
        """
        self._turn(iter(self.followed()), act)

    def _turn(self, rest: Iterator[Connection], act: Callable[[Connection], object]) -> None:
        done = 0
        for connection in rest:
            token = connection.token
            if token not in self._followed or self._pm.connections.get(token) is not connection:
                continue
            done += 1
            if done == TURN:
                self._pm.call_later(0, self._turn, rest, act)
            try:
                act(connection)
            except Exception:
                if done < TURN:
                    self._pm.call_later(0, self._turn, rest, act)
                raise
            if done == TURN:
                return

    def pending(self, connection: Connection) -> set[Pair]:
        """Pairs whose subflow was asked for and neither came up nor failed yet.

        Not all of ``connection.asked``: replacements are none, and what was asked for from an
        address that has gone since does not count, though the kernel goes on trying.
        """
        tried = self._followed.get(connection.token)
        return set() if tried is None else tried.pending

    def join(
        self,
        connection: Connection,
        interface: Interface,
        local: SockAddr,
        remote: SockAddr,
        remote_id: int,
    ) -> bool:
        """Ask for a subflow between two addresses, over this interface; True if it was started.

        False where there is one, one is being tried, the families differ, or the pair failed. It
        is a backup where the interface's flags say so.
        """
        pair = local.ip, remote
        if connection.token not in self._followed or local.ip.version != remote.ip.version:
            return False
        tried = self._tried(connection)
        if pair in tried.pending or pair in tried.failed:
            return False
        if any(_pair(flow) == pair for flow in connection.subflows.values()):
            return False
        try:
            self._pm.create_subflow(
                connection,
                local,
                remote,
                remote_id=remote_id,
                backup="backup" in interface.address_flags,
                # Without it the route would choose the interface, and two subflows share a path.
                ifindex=interface.index,
            )
        except NoFreeId as error:
            self._pm.log.debug("%r: no subflow %s to %s: %s", connection, local, remote, error)
            return False  # an ID may come free with any address that goes
        except KernelError as error:
            self._pm.log.debug("%r: no subflow %s to %s: %s", connection, local, remote, error)
            if error.words == "userspace PM not selected":
                self.forget(connection)  # it was there before the path manager was switched over
            else:
                tried.failed.add(pair)
            return False
        tried.pending.add(pair)
        return True

    def came_up(self, connection: Connection, subflow: Subflow) -> bool:
        """To be called for every new subflow: notes it, and leaves addresses that are gone.

        True if the new subflow and one that was there have only taken each other's place.
        """
        tried = self._followed.get(connection.token)
        if tried is None:
            return False
        pair = _pair(subflow)
        tried.pending.discard(pair)
        tried.failed.discard(pair)
        for ip in [ip for ip in tried.gone if ip != subflow.local.ip]:
            tried.gone.discard(ip)
            self._abandon(connection, ip)
        surplus = self._renewals.came_up(connection, subflow)
        if surplus is None:
            return False
        self.drop(connection, surplus)
        return True

    def is_second(self, connection: Connection, subflow: Subflow) -> bool:
        """Whether there is an older subflow between the same addresses.

        The kernel tries for two minutes: what was asked for before an address went may still come
        up when it is back, beside what was asked for then. So may what an earlier run asked for.
        """
        if connection.token not in self._followed:
            return False
        tried = self._followed[connection.token]
        left = set() if tried is None else tried.left
        return any(
            _pair(flow) == _pair(subflow) and _ends(flow) not in left
            for flow in older(connection, subflow)
        )

    def drop(self, connection: Connection, surplus: Subflow) -> None:
        """Close a subflow for which there is another one; what waits in it is not sent."""
        left = self._tried(connection).left
        left.add(_ends(surplus))
        try:
            self._pm.drop_subflow(connection, surplus)
        except KernelError as error:
            left.discard(_ends(surplus))
            self._pm.log.debug("%r: %s cannot be closed: %s", connection, surplus.local, error)

    def closed(self, connection: Connection, subflow: Subflow) -> None:
        """To be called for every subflow that closed or did not come up."""
        if connection.token not in self._followed:
            return
        tried, pair = self._tried(connection), _pair(subflow)
        if self._renewals.closed(connection, subflow):
            return  # the one that it was to replace is still there
        if _ends(subflow) in tried.left:
            tried.left.discard(_ends(subflow))
            return
        tried.failed.add(pair)
        tried.pending.discard(pair)

    def local_is_new(self, address: SockAddr) -> None:
        """A local address came or returned: it is worth a try on every connection."""
        for tried in self._followed.values():
            if tried is not None:
                tried.gone.discard(address.ip)
                tried.failed = {pair for pair in tried.failed if pair[0] != address.ip}

    def remote_is_new(self, connection: Connection, address: SockAddr) -> None:
        """The peer announced this address (again)."""
        tried = self._followed.get(connection.token)
        if tried is not None:
            tried.failed = {pair for pair in tried.failed if pair[1].ip != address.ip}

    def local_is_gone(self, connection: Connection, address: SockAddr) -> None:
        """A local address went away: data moves to subflows from elsewhere.

        Where there is none, what there is stays: a connection without any subflow would be given
        up by the kernel after ``close_timeout``, while the address may return. It is left as soon
        as another subflow comes up, and whatever failed before may be tried again for that.
        """
        if connection.token not in self._followed:
            return
        ip, tried = address.ip, self._tried(connection)
        tried.pending = {pair for pair in tried.pending if pair[0] != ip}
        flows = [flow for flow in connection.subflows.values() if _ends(flow) not in tried.left]
        locals_used = {flow.local.ip for flow in flows}
        if locals_used == {ip}:
            tried.gone.add(ip)
            tried.failed = {pair for pair in tried.failed if pair[0] == ip}
        else:
            self._abandon(connection, ip)
            if ip in locals_used:
                self._renewals.start(connection, ip)

    def leave_lost(self, connection: Connection) -> None:
        """Leave the paths of a connection that were lost before anybody told us of it.

        The daemon may have been away when a cable was pulled.
        """
        for ip in {flow.local.ip for flow in connection.subflows.values()}:
            if self._pm.is_lost(ip):
                self.local_is_gone(connection, SockAddr(ip))

    def release(self, address: SockAddr) -> None:
        """A local address is gone from all connections: its ID may be another's, but not at once.

        A peer that hears of the loss only after the other address has joined would close that.
        """
        self._pm.call_later(RELEASE, self._release, address)

    def _release(self, address: SockAddr) -> None:
        interfaces = self._pm.interfaces.values()
        if not any(address in interface.addresses for interface in interfaces):
            self._pm.ids.remove(address)

    def _abandon(self, connection: Connection, ip: IP) -> None:
        flows = connection.subflows.values()
        tried = self._tried(connection)
        leaving = {_ends(flow) for flow in flows if flow.local.ip == ip} - tried.left
        tried.left |= leaving
        try:
            self._pm.abandon(connection, SockAddr(ip))
        except KernelError as error:
            tried.left -= leaving
            self._pm.log.debug("%r: %s cannot be left: %s", connection, ip, error)

    def _tried(self, connection: Connection) -> _Tried:
        tried = self._followed.get(connection.token)
        if tried is None:
            tried = self._followed[connection.token] = _Tried()
        return tried


def _pair(subflow: Subflow) -> Pair:
    return subflow.local.ip, subflow.remote


def _ends(subflow: Subflow) -> tuple[SockAddr, SockAddr]:
    return subflow.local, subflow.remote


def older(connection: Connection, subflow: Subflow) -> list[Subflow]:
    """The subflows of a connection that were there before this one; none once it has closed."""
    flows = list(connection.subflows.values())  # in the order in which they came
    ends = [_ends(flow) for flow in flows]
    return flows[: ends.index(_ends(subflow))] if _ends(subflow) in ends else []


def remotes(connection: Connection) -> Iterator[tuple[SockAddr, int]]:
    """Where the peer may be joined: address with port, address ID. Its initial address is first.

    That one is left out if the peer denies joins to it (RFC 8684, 3.1: the "C" bit).
    """
    port = connection.remote.port
    if not connection.deny_join_id0:
        yield connection.remote, 0
    for ident, address in connection.remote_addresses.items():
        yield (address if address.port else SockAddr(address.ip, port)), ident


def stays_here(connection: Connection) -> bool:
    """Whether both ends are on this host: there is no path to choose."""
    return connection.remote.ip.is_loopback or connection.local.ip == connection.remote.ip
