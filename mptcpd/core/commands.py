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
from mptcpd.core.ids import AddressIds
from mptcpd.core.listeners import Listeners
from mptcpd.core.ownership import Endpoint
from mptcpd.core.path import path_of
from mptcpd.nl import mptcp
from mptcpd.nl.errors import KernelError


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


class ConnectionCommands:
    """Commands for one connection at a time."""

    def __init__(self, kernel: Kernel, ids: AddressIds, listeners: Listeners) -> None:
        self._kernel = kernel
        self._ids = ids
        self._listeners = listeners
        # token -> address ID -> what we listen on for it
        self._listening: dict[int, dict[int, SockAddr]] = {}

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
        bound = self._listeners.listen(where) if listen else where
        try:
            self._kernel.announce(
                connection.token,
                mptcp.Address(bound.packed, bound.port, ident, mptcp.FLAGS["signal"]),
            )
        except KernelError:
            if listen:
                self._listeners.close(bound)
            raise
        self._release(connection.token, ident)  # announced again, perhaps with another port
        if listen:
            self._listening.setdefault(connection.token, {})[ident] = bound
        connection.note_announced(ident, bound)
        return bound

    def remove(self, connection: Connection, local_id: int) -> None:
        """Withdraw an address from the peer (RM_ADDR); its subflows close on both sides.

        local_id  0 means the connection's initial address
        Errors    KernelError "address with id N not found".
        """
        self._kernel.remove(connection.token, _ident(local_id, least=0))
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

        remote  a port of 0 means the connection's port (the peer announced no other)
        Errors  KernelError: not even started ("connect error: -99": no such local address).
        """
        here, there = sockaddr(local), sockaddr(remote)
        if not there.port:
            there = SockAddr(there.ip, connection.remote.port)
        path_of(here, there)  # one family
        ident = self._ids.get(here) if local_id is None else _ident(local_id, least=0)
        self._kernel.subflow_create(
            connection.token,
            mptcp.Address(
                here.packed,
                here.port,
                ident,
                mptcp.FLAGS["backup"] if backup else None,
                ifindex,
            ),
            mptcp.Address(there.packed, there.port, remote_id),
        )

    def destroy_subflow(self, connection: Connection, subflow: Subflow) -> None:
        """Close a subflow. Errors: KernelError "subflow not found" (ESRCH)."""
        local, remote = _ends(subflow)
        _in_either_form(
            lambda ours, theirs: self._kernel.subflow_destroy(connection.token, ours, theirs),
            local,
            remote,
        )

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

    def addresses(self, connection: Connection) -> list[Endpoint]:
        """The addresses that the kernel has for this connection (Linux 6.9). Errors: KernelError.

        It keeps those that were announced and those that subflows were created from.
        """
        return [_endpoint(address) for address in self._kernel.dump_addrs(connection.token)]

    def ended(self, connection: Connection) -> None:
        """Free what was held for a connection that is over."""
        for ident in list(self._listening.get(connection.token, ())):
            self._release(connection.token, ident)

    def _release(self, token: int, ident: int) -> None:
        held = self._listening.get(token, {})
        bound = held.pop(ident, None)
        if bound is not None:
            self._listeners.close(bound)
        if not held:
            self._listening.pop(token, None)


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
        if "not found" not in (error.words or ""):
            raise
        command(
            local._replace(ip=_MAPPED + local.ip), remote._replace(ip=_MAPPED + remote.ip)
        )


def _ident(ident: int, least: int = 1) -> int:
    if not least <= ident <= 255:
        raise ValueError(f"address ID {ident} is not within {least} to 255")
    return ident


def _endpoint(address: mptcp.Address) -> Endpoint:
    assert address.ip is not None and address.id is not None  # parse_address promises both
    where = from_packed(address.ip, address.port)
    return Endpoint(where, address.id, flag_names(address.flags or 0), address.ifindex)
