"""sock_diag: the connections and subflows of a host, as the kernel lists them.

Knows inet_diag's messages; must not know what happens to connections (``connections``) nor sockets.

Source  net/ipv4/inet_diag.c; net/mptcp/mptcp_diag.c, diag.c (Linux 6.18).
"""

from __future__ import annotations

import errno
from struct import Struct

from mptcpd.core.address import SockAddr
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from tests.fake import wire
from tests.fake.connections import ConnectionTable, Ends
from tests.fake.wire import Payload, Refusal, Request, number

_REQUEST = Struct("=BBBBI2s2s16s16sIII")
_MESSAGE = Struct("=BBBB2s2s16s16sIIIIIIII")
_INFO = 96  # bytes of struct mptcp_info in Linux 6.18
_RECEIVED, _RECV = 64, 88  # where mptcpi_bytes_received and mptcpi_last_data_recv are
_ESTABLISHED = 1  # TCP_ESTABLISHED
_NO_COOKIE = 0xFFFFFFFF


class SockDiag:
    """Answers of NETLINK_SOCK_DIAG. ``hidden``: tokens that the next dump slips past."""

    def __init__(self, connections: ConnectionTable) -> None:
        self._table = connections
        self.hidden: set[int] = set()
        self.future = False  # struct mptcp_info is longer than we know

    def ask(self, request: Request) -> list[tuple[int, bytes]]:
        """Type and payload of each answer. Errors: Refusal."""
        known = (u.SOCK_DIAG_BY_FAMILY, u.SOCK_DESTROY)
        if request.kind not in known or len(request.body) < _REQUEST.size:
            raise Refusal(errno.EINVAL)
        family, protocol, _ext, _pad, states, sport, dport, src, dst, dev, token, _ = (
            _REQUEST.unpack_from(request.body)
        )
        for one in request.attributes(_REQUEST.size):
            if one.kind == u.INET_DIAG_REQ_PROTOCOL:
                protocol = wire.integer(one, 4)
        if family not in (AF_INET, AF_INET6):
            raise Refusal(errno.ENOENT)
        mptcp = protocol == u.IPPROTO_MPTCP
        if request.is_dump:
            found = self._connections(family) if mptcp else self._subflows(family)
            self.hidden.clear()
            return found if states & 1 << _ESTABLISHED else []
        if mptcp and token != _NO_COOKIE:
            if token not in self._table.up:
                raise Refusal(errno.ENOENT)
            return [self._connection(token)]
        size = 4 if family == AF_INET else 16
        path = src[:size] + sport + dst[:size] + dport
        for token, flows in self._table.up.items():
            for ends in flows:
                # One that is bound to an interface is found only by who names that.
                bound = self._table.flow(token, ends).ifindex
                if _path(ends) == path and bound in (None, 0, dev):
                    if request.kind == u.SOCK_DESTROY:
                        self._table.drop(token, ends)
                        return []
                    return [self._subflow(token, ends)]
        raise Refusal(errno.ENOENT)

    def _connections(self, family: int) -> list[tuple[int, bytes]]:
        return [
            self._connection(token)
            for token, ends in self._table.first.items()
            if _family(ends) == family and token not in self.hidden
        ]

    def _subflows(self, family: int) -> list[tuple[int, bytes]]:
        return [
            self._subflow(token, ends)
            for token, flows in self._table.up.items()
            for ends in flows
            if _family(ends) == family and token not in self.hidden
        ]

    def _connection(self, token: int) -> tuple[int, bytes]:
        info = number(len(self._table.up[token]), 1) + bytes(7) + number(2, 4) + number(token, 4)
        info += number(1000 + self._table.waiting.get(token, 0), 8) + number(1000, 8)
        received, ago = self._table.heard.get(token, (0, 0))
        info += bytes(_RECEIVED - len(info)) + number(received, 8)
        info += bytes(_RECV - len(info)) + number(ago, 4)
        info += bytes(_INFO - len(info)) + (bytes(24) if self.future else b"")
        ends = self._table.first[token]
        return self._message(ends, 0, [(u.INET_DIAG_INFO, info)])

    def _subflow(self, token: int, ends: Ends) -> tuple[int, bytes]:
        table = self._table
        flow, server = table.flow(token, ends), token in table.servers
        flags = u.MPTCP_SUBFLOW_FLAG_CONNECTED
        if flow.join:
            # A join is told from both sides (0xcc, seen); ours is known by the local bit.
            flags |= u.MPTCP_SUBFLOW_FLAG_JOIN_REM
            flags |= 0 if server else u.MPTCP_SUBFLOW_FLAG_JOIN_LOC
        else:
            flags |= u.MPTCP_SUBFLOW_FLAG_MCAP_REM if server else u.MPTCP_SUBFLOW_FLAG_MCAP_LOC
        if token in table.established:
            flags |= u.MPTCP_SUBFLOW_FLAG_FULLY_ESTABLISHED
        flags |= u.MPTCP_SUBFLOW_FLAG_BKUP_REM if flow.backup else 0
        told: list[tuple[int, Payload]] = [
            (u.MPTCP_SUBFLOW_ATTR_TOKEN_REM, number(0, 4)),
            (u.MPTCP_SUBFLOW_ATTR_TOKEN_LOC, number(token, 4)),
            (u.MPTCP_SUBFLOW_ATTR_RELWRITE_SEQ, number(1, 4)),
            (u.MPTCP_SUBFLOW_ATTR_MAP_SEQ, number(1, 8)),
            (u.MPTCP_SUBFLOW_ATTR_FLAGS, number(flags, 4)),
            (u.MPTCP_SUBFLOW_ATTR_ID_REM, number(flow.remote_id, 1)),
            (u.MPTCP_SUBFLOW_ATTR_ID_LOC, number(table.up[token][ends], 1)),
        ]
        ulp: list[tuple[int, Payload]] = [
            (u.INET_ULP_INFO_NAME, b"mptcp\0"), (u.INET_ULP_INFO_MPTCP, told),
        ]  # fmt: skip
        tcp_info: tuple[int, Payload] = (u.INET_DIAG_INFO, bytes(280))
        return self._message(ends, flow.ifindex or 0, [tcp_info, (u.INET_DIAG_ULP_INFO, ulp)])

    def _message(
        self, ends: Ends, ifindex: int, attributes: list[tuple[int, Payload]]
    ) -> tuple[int, bytes]:
        local, remote = ends
        header = _MESSAGE.pack(
            _family(ends), _ESTABLISHED, 0, 0, number(local.port, 2, "big"),
            number(remote.port, 2, "big"), local.packed, remote.packed, ifindex, 1, 1,
            0, 0, 0, 0, 1,
        )  # fmt: skip
        later: list[tuple[int, Payload]] = [(99, b"future")] if self.future else []
        return u.SOCK_DIAG_BY_FAMILY, header + wire.build(attributes + later)


def _family(ends: Ends) -> int:
    return AF_INET if ends[0].ip.version == 4 else AF_INET6


def _end(end: SockAddr) -> bytes:
    return end.packed + number(end.port, 2, "big")


def _path(ends: Ends) -> bytes:
    return _end(ends[0]) + _end(ends[1])
