"""Connections and subflows made up for tests, from a few numbers."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from mptcpd.cli.ctl.snapshot import Connection
from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from mptcpd.nl.diag_sockets import MptcpSocket, TcpSocket

CLIENT = u.MPTCP_SUBFLOW_FLAG_MCAP_REM | u.MPTCP_SUBFLOW_FLAG_MCAP_LOC
SERVER = u.MPTCP_SUBFLOW_FLAG_MCAP_REM
JOIN = u.MPTCP_SUBFLOW_FLAG_JOIN_REM | u.MPTCP_SUBFLOW_FLAG_JOIN_LOC


def path(local: str = "10.0.1.1", remote: str = "10.0.1.2", port: int = 40000) -> diag.Path:
    return diag.Path(ip_address(local).packed, port, ip_address(remote).packed, 443)


def mptcp_info(sent: int = 0, received: int = 0, *, limit: int = 2, size: int = 96) -> bytes:
    data = bytearray(96)
    data[0], data[3] = 1, limit
    struct.pack_into("=QQQ", data, 56, sent, received, sent)
    return bytes(data[:size])


def tcp_info(sent: int = 0, received: int = 0, *, rtt: int = 1000, resent: int = 0) -> bytes:
    data = bytearray(280)
    struct.pack_into("=I", data, 68, rtt)
    struct.pack_into("=I", data, 100, resent)
    struct.pack_into("=QQ", data, 120, sent, received)
    struct.pack_into("=Q", data, 200, sent)
    return bytes(data)


def subflow(
    cookie: int, sent: int = 0, received: int = 0, *, token: int = 1, flags: int = CLIENT,
    at: diag.Path | None = None, ulp: bool = True, inode: int = 7, rtt: int = 1000,
    resent: int = 0, state: int = diag.TCP_ESTABLISHED,
) -> TcpSocket:  # fmt: skip
    info = tcp_info(sent, received, rtt=rtt, resent=resent)
    return TcpSocket(
        at or path(port=40000 + cookie % 1000), state, 0, cookie, 0, inode, ulp,
        token if ulp else 0, flags if ulp else 0, 0, 0, info,
    )  # fmt: skip


def connection(
    token: int, *subflows: TcpSocket, sent: int = 0, received: int = 0, cookie: int = 0,
    at: diag.Path | None = None, state: int = diag.TCP_ESTABLISHED, flags: int = 2, limit: int = 2,
    size: int = 96,
) -> Connection:  # fmt: skip
    info = mptcp_info(sent, received, limit=limit, size=size)
    socket = MptcpSocket(
        at or path(), state, 0, cookie or token + 1_000_000, 0, 0, 0, 7, flags, token, info
    )
    return Connection(socket, list(subflows))
