"""Lists the kernel's MPTCP connections and subflows: sock_diag codec and command socket joined.

Knows which request belongs to which parser; must not know what a table does with the answers. A
dump is handed on as it comes, so that 75,000 connections never lie in memory twice.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Protocol

from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import AF_INET, AF_INET6

_COMMAND = "SOCK_DIAG_BY_FAMILY"
_GONE = (errno.ENOENT, errno.ESTALE)


class Streams(Protocol):
    """What is needed of ``sock.CommandSocket``, opened for NETLINK_SOCK_DIAG."""

    def stream(self, kind: int, body: bytes, command: str, *, header: int) -> Iterator[bytes]: ...

    def request(
        self, kind: int, body: bytes, command: str, *, flags: int, header: int
    ) -> list[bytes]: ...


class DiagClient:
    """What sock_diag tells. Errors of every method: KernelError, DecodeError, NetlinkError."""

    def __init__(self, commands: Streams) -> None:
        self._commands = commands

    def connections(self, states: int = diag.CONNECTED) -> Iterator[diag.Connection]:
        """All MPTCP sockets in these states, IPv4 and IPv6."""
        for payload in self.dump(u.IPPROTO_MPTCP, states):
            yield diag.parse_connection(payload)

    def subflows(self, states: int = diag.SUBFLOWS) -> Iterator[diag.Subflow]:
        """All TCP sockets in these states that are subflows. Needs CAP_NET_ADMIN to see any."""
        for payload in self.dump(u.IPPROTO_TCP, states):
            subflow = diag.parse_subflow(payload)
            if subflow is not None:
                yield subflow

    def connection(self, token: int) -> diag.Connection | None:
        """The MPTCP socket with this token, None if there is none."""
        # The kernel looks the token up and does not compare the family.
        payload = self._one(diag.request(AF_INET, u.IPPROTO_MPTCP, 0xFFF, token=token))
        return None if payload is None else diag.parse_connection(payload)

    def subflow(self, path: diag.Path, ifindex: int = 0) -> diag.Subflow | None:
        """The subflow with this path, bound to this interface, None if there is none."""
        payload = self._one(_one_socket(path, ifindex))
        return None if payload is None else diag.parse_subflow(payload)

    def destroy(self, path: diag.Path, ifindex: int = 0) -> None:
        """Abort a TCP socket, bound to this interface: the peer gets a RST, and what waits in the
        socket is thrown away.

        Nothing happens where there is none, or where the kernel cannot (CONFIG_INET_DIAG_DESTROY).
        Source  net/core/sock_diag.c: sock_diag_destroy.
        """
        body = _one_socket(path, ifindex)
        try:
            self._commands.request(
                u.SOCK_DESTROY, body, "SOCK_DESTROY", flags=u.NLM_F_ACK, header=diag.REQUEST
            )
        except KernelError as error:
            if error.errno not in (*_GONE, errno.EOPNOTSUPP):
                raise

    def dump(self, protocol: int, states: int) -> Iterator[bytes]:
        """The answers themselves, for IPv4 and IPv6, of which one kernel may have no IPv6."""
        for family in (AF_INET, AF_INET6):
            body = diag.request(family, protocol, states)
            try:
                yield from self._commands.stream(
                    u.SOCK_DIAG_BY_FAMILY, body, _COMMAND, header=diag.REQUEST
                )
            except KernelError as error:
                if error.errno != errno.ENOENT or family == AF_INET:
                    raise  # ENOENT for IPv6 means that this kernel has none

    def _one(self, body: bytes) -> bytes | None:
        try:
            answers = self._commands.request(
                u.SOCK_DIAG_BY_FAMILY, body, _COMMAND, flags=0, header=diag.REQUEST
            )
        except KernelError as error:
            if error.errno in _GONE:
                return None
            raise
        return answers[0]


def _one_socket(path: diag.Path, ifindex: int) -> bytes:
    family = AF_INET if len(path.local_ip) == 4 else AF_INET6
    return diag.request(family, u.IPPROTO_TCP, 0xFFF, path=path, ifindex=ifindex)
