"""What a plugin may do to one connection: the userspace path manager's commands.

Knows how addresses, IDs and listening sockets go together with each command; must not know sockets
or policy. Every method returns when the kernel has answered. A refusal is KernelError with the
kernel's words ("userspace PM not selected": the connection belongs to the kernel's own path
manager), and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mptcpd.core.address import IP, SockAddr, from_packed, sockaddr
from mptcpd.core.connections import Connection, Subflow
from mptcpd.core.endpoints import flag_names
from mptcpd.core.ids import MAX_ID, AddressIds, NoFreeId
from mptcpd.core.listeners import Listeners
from mptcpd.core.ownership import Endpoint
from mptcpd.core.path import path_of
from mptcpd.nl import diag, mptcp
from mptcpd.nl.errors import KernelError

# What makes a connection busy: so many bytes that the peer has not confirmed, or as many received
# of which the last came less than so many milliseconds ago.
BUSY_BYTES, BUSY_MS = 1 << 16, 100
# Subflows of a connection that are started: the first between two addresses, another after that one
# failed or closed, and one beside it, which is to take its place.
FIRST, RETRY, RENEWAL = "first", "retry", "renewal"


class Kernel(Protocol):
    """What is needed of ``nl.client.MptcpClient``."""

    def announce(self, token: int, address: mptcp.Address) -> None: ...
    def remove(self, token: int, ident: int) -> None: ...
    def subflow_create(
        self, token: int, local: mptcp.Address, remote: mptcp.Address
    ) -> None: ...
    def subflow_destroy(
        self, token: int, local: mptcp.Address, remote: mptcp.Address
    ) -> None: ...
    def set_flags(
        self, address: mptcp.Address, remote: mptcp.Address | None, token: int | None
    ) -> None: ...
    def dump_addrs(self, token: int | None) -> list[mptcp.Address]: ...


class Sockets(Protocol):
    """What is needed of ``nl.diag_client.DiagClient``."""

    def connection(self, token: int) -> diag.Connection | None: ...
    def destroy(self, path: diag.Path, ifindex: int) -> None: ...


class ConnectionCommands:
    """Commands for one connection at a time.

    started  FIRST, RETRY or RENEWAL -> how many subflows were started
    """

    def __init__(
        self, kernel: Kernel, ids: AddressIds, listeners: Listeners, sockets: Sockets
    ) -> None:
        self._kernel = kernel
        self._sockets = sockets
        self._ids = ids
        self._listeners = listeners
        # token -> address ID -> what we listen on for it
        self._listening: dict[int, dict[int, SockAddr]] = {}
        self.started = dict.fromkeys((FIRST, RETRY, RENEWAL), 0)

    def announce(
        self,
        connection: Connection,
        address: SockAddr | IP | str,
        local_id: int | None = None,
        *,
        listen: bool = True,
    ) -> SockAddr:
        """Announce an address to the peer (ADD_ADDR); return it with its port filled in.

        local_id  1 to 255; None means the ID of this address (``pm.ids``)
        listen    hold a listening socket there, for peers that join to the announced port; without
                  one the address is announced as given, port 0 meaning the connection's port
        Errors    KernelError; OSError if nothing can listen there; ValueError; NoFreeId.
        """
        where = sockaddr(address)
        ident = self._ids.get(where) if local_id is None else _ident(local_id)
        before = connection.announced.get(ident)
        if not where.port and before is not None and before.ip == where.ip:
            where = before  # announced again: the kernel takes no other port for the same ID
        bound = self._listeners.listen(where) if listen else where
        # The connection's own port need not be named (RFC 8684, 3.4.1), and the shorter option fits
        # where the longer does not: an IPv6 address with a port has no room beside TCP timestamps
        # (before net.mptcp.add_addr_v6_port_drop_ts), and the kernel then never sends it.
        named = SockAddr(bound.ip) if bound.port == connection.local.port else bound

        def announce(ident: int) -> None:
            self._kernel.announce(
                connection.token,
                mptcp.Address(named.packed, named.port, ident, mptcp.FLAGS["signal"]),
            )

        try:
            ident = self._with_id(connection, named, ident, local_id is None, announce)
        except Exception:
            if listen:
                self._listeners.close(bound)
            raise
        self._release(connection.token, ident)  # held from an announcement before this one
        if listen:
            self._listening.setdefault(connection.token, {})[ident] = bound
        connection.note_announced(ident, bound)
        return bound

    def remove(self, connection: Connection, local_id: int) -> None:
        """Withdraw an address from the peer (RM_ADDR); its subflows close on both sides.

        local_id  0 means the connection's initial address
        Errors    KernelError "address with id N not found".
        """
        _ident(local_id, least=0)
        known = connection.announced.get(local_id) or _source(connection, local_id)
        try:
            self._kernel.remove(connection.token, local_id)
        except KernelError as error:
            if known is None or not _not_found(error):
                raise
            # The kernel forgets an address with the first of its subflows that is destroyed
            # (net/mptcp/pm_userspace.c: mptcp_pm_nl_subflow_destroy_doit), but not so the peer:
            # it is told once more, only so that it can be told that the address is gone.
            self.announce(connection, known, local_id, listen=False)
            self._kernel.remove(connection.token, local_id)
        self._release(connection.token, local_id)
        connection.note_announced(local_id, None)

    def create_subflow(
        self,
        connection: Connection,
        local: SockAddr | IP | str,
        remote: SockAddr | IP | str,
        *,
        local_id: int | None = None,
        remote_id: int | None = None,
        backup: bool = False,
        ifindex: int | None = None,
    ) -> None:
        """Start a subflow. Whether it came up is told later: ``new_subflow``, or
        ``subflow_closed`` with the error.

        local_id  None means the ID of this address: 0 if the first subflow is from it, else that of
                  ``pm.ids``
        remote    a port of 0 means the connection's port (the peer announced no other)
        Errors    KernelError: not even started ("connect error: -99": no such local address).
                  ValueError for two address families.
        """
        here, there = sockaddr(local), sockaddr(remote)
        if not there.port:
            there = SockAddr(there.ip, connection.remote.port)
        if here.ip.version != there.ip.version:
            raise ValueError(f"{here} and {there} are not of one address family")
        if local_id is not None:
            ident = _ident(local_id, least=0)
        else:
            ident = 0 if connection.is_from(here) else self._ids.get(here)
        flags = mptcp.FLAGS["backup"] if backup else None

        def create(ident: int) -> None:
            self._kernel.subflow_create(
                connection.token,
                mptcp.Address(here.packed, here.port, ident, flags, ifindex),
                mptcp.Address(there.packed, there.port, remote_id),
            )

        is_open, was_tried = connection.tried(here, there)
        self._with_id(connection, here, ident, local_id is None, create)
        connection.note_asked(here, there, backup)
        self.started[RENEWAL if is_open else RETRY if was_tried else FIRST] += 1

    def destroy_subflow(self, connection: Connection, subflow: Subflow) -> None:
        """Close a subflow. Errors: KernelError "subflow not found" (ESRCH)."""
        local, remote = _ends(subflow)
        _in_either_form(
            lambda ours, theirs: self._kernel.subflow_destroy(connection.token, ours, theirs),
            local,
            remote,
        )

    def drop_subflow(self, connection: Connection, subflow: Subflow) -> None:
        """As ``destroy_subflow``, and what waits in it to be sent is thrown away.

        The kernel lets a destroyed subflow send its queue to the end, and then a FIN, though all of
        that is sent over other subflows, too.
        """
        self.destroy_subflow(connection, subflow)
        local, remote = subflow.local, subflow.remote
        path = diag.Path(local.packed, local.port, remote.packed, remote.port)
        self._sockets.destroy(path, subflow.ifindex or 0)

    def abandon(self, connection: Connection, address: SockAddr | IP | str) -> None:
        """Give up a local address that went away: data moves to the other subflows at once.

        The peer is told first (RM_ADDR), over any path that works; then the subflows from there are
        closed, which over a dead path the peer could not learn. A listening socket held for its
        announcement is released. Nothing happens where the connection does not use the address.
        Errors  KernelError, other than that the kernel has nothing of it either.
        """
        ip = sockaddr(address).ip
        flows = [flow for flow in connection.subflows.values() if flow.local.ip == ip]
        idents = {ident for ident, known in connection.announced.items() if known.ip == ip}
        for ident in sorted(idents | {flow.local_id for flow in flows}):
            try:
                self.remove(connection, ident)
            except KernelError as error:
                if not _not_found(error):
                    raise
        for flow in flows:
            try:
                self.destroy_subflow(connection, flow)
            except KernelError as error:
                if not _not_found(error):
                    raise  # else the peer was faster: it closes them when it hears RM_ADDR

    def set_backup(self, connection: Connection, subflow: Subflow, backup: bool) -> None:
        """Ask the peer (MP_PRIO) to use a subflow only as a backup, or as any other.

        Errors  KernelError "subflow not found".
        """
        local, remote = _ends(subflow)
        _in_either_form(
            lambda ours, theirs: self._kernel.set_flags(ours, theirs, connection.token),
            local._replace(flags=mptcp.FLAGS["backup"] if backup else 0),
            remote,
        )
        path = path_of(subflow.local, subflow.remote)
        known = connection.find(path)
        if known is not None:
            connection.put(path, known._replace(backup=backup))

    def is_busy(self, connection: Connection) -> bool:
        """Whether much waits to be sent or confirmed, or came until just now (Linux 6.10).

        Errors  KernelError.
        """
        found = self._sockets.connection(connection.token)
        if found is None:
            return False
        received, ago = found.received or (0, 0)
        return found.outstanding >= BUSY_BYTES or (received >= BUSY_BYTES and ago < BUSY_MS)

    def addresses(self, connection: Connection) -> list[Endpoint]:
        """The addresses that the kernel has for this connection (Linux 6.9). Errors: KernelError.

        It keeps those that were announced and those that subflows were created from.
        """
        return [_endpoint(address) for address in self._kernel.dump_addrs(connection.token)]

    def ended(self, connection: Connection) -> None:
        """Free what was held for a connection that is over."""
        for ident in list(self._listening.get(connection.token, ())):
            self._release(connection.token, ident)

    def _with_id(
        self,
        connection: Connection,
        where: SockAddr,
        ident: int,
        may_change: bool,
        command: Callable[[int], None],
    ) -> int:
        """Run a command with an address ID, or with the one the kernel insists on; return that.

        A connection may have another ID for an address than ``ids``: the kernel gave one of its own
        choice when the peer joined to it, or a daemon before this one did.
        """
        try:
            command(ident)
            return ident
        except KernelError as error:
            if not may_change or "did not match" not in (error.words or ""):
                raise
            known = self._kernel.dump_addrs(connection.token)
        same = [
            entry.id
            for entry in known
            if entry.ip is not None and from_packed(entry.ip, entry.port) == where
        ]
        taken = {entry.id for entry in known}
        other = next((number for number in range(1, MAX_ID + 1) if number not in taken), None)
        found = same[0] if same else other
        if found is None:
            raise NoFreeId(f"{connection!r} has all {MAX_ID} address IDs in use")
        command(found)
        return found

    def _release(self, token: int, ident: int) -> None:
        held = self._listening.get(token, {})
        bound = held.pop(ident, None)
        if bound is not None:
            self._listeners.close(bound)
        if not held:
            self._listening.pop(token, None)


def _source(connection: Connection, local_id: int) -> SockAddr | None:
    """The address, other than the initial one, from which a subflow with this ID comes."""
    for flow in connection.subflows.values():
        if local_id and flow.local_id == local_id:
            return SockAddr(flow.local.ip)
    return None


def _ends(subflow: Subflow) -> tuple[mptcp.Address, mptcp.Address]:
    return (
        mptcp.Address(subflow.local.packed, subflow.local.port),
        mptcp.Address(subflow.remote.packed, subflow.remote.port),
    )


_MAPPED = bytes(10) + b"\xff\xff"


def _in_either_form(
    command: Callable[[mptcp.Address, mptcp.Address], None],
    local: mptcp.Address,
    remote: mptcp.Address,
) -> None:
    """Try a command with IPv4 addresses, and if nothing is found with IPv4-mapped ones.

    The kernel compares in the family of the subflow's socket: a server that listens on :: has IPv6
    sockets for its IPv4 clients (net/mptcp/pm_userspace.c: mptcp_nl_find_ssk).
    """
    try:
        command(local, remote)
    except KernelError as error:
        if local.ip is None or remote.ip is None or len(local.ip) != 4:
            raise
        if not _not_found(error):
            raise
        command(
            local._replace(ip=_MAPPED + local.ip), remote._replace(ip=_MAPPED + remote.ip)
        )


def _not_found(error: KernelError) -> bool:
    """Whether the kernel has no such subflow, or no such address ID."""
    return "not found" in (error.words or "")


def _ident(ident: int, least: int = 1) -> int:
    if not least <= ident <= 255:
        raise ValueError(f"address ID {ident} is not within {least} to 255")
    return ident


def _endpoint(address: mptcp.Address) -> Endpoint:
    assert address.ip is not None and address.id is not None  # parse_address promises both
    where = from_packed(address.ip, address.port)
    return Endpoint(where, address.id, flag_names(address.flags or 0), address.ifindex)
