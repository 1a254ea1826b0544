"""A connection with its subflows as an object for JSON.

Knows names of keys; must not know where connections come from. What the kernel does not tell has no
key. Counters and limits are called as in struct mptcp_info and struct tcp_info (``nl.info``), where
their units are said: bytes, microseconds for rtt and rto, milliseconds for last_*.
"""

from __future__ import annotations

from typing import Any

from mptcpd.cli.ctl.connection_filter import STATES
from mptcpd.cli.ctl.ends import Interfaces, ip_text
from mptcpd.cli.ctl.shares import shares
from mptcpd.cli.ctl.snapshot import JOINED, Connection
from mptcpd.cli.ctl.which_pm import PathManagers
from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from mptcpd.nl.diag_sockets import TcpSocket
from mptcpd.nl.info import MptcpInfo, TcpInfo, mptcp_info, tcp_info

Json = dict[str, Any]


def connection_json(
    connection: Connection, interfaces: Interfaces, managers: PathManagers
) -> Json:
    """All that is known of a connection."""
    socket, info = connection.socket, mptcp_info(connection.socket.info)
    found: Json = {"token": f"{socket.token:#x}", "state": state(socket.state)}
    role = connection.role
    if role is not None:
        found["role"] = role
    manager = managers.of(socket.token, info)
    if manager is not None:
        found["pm"] = manager
    found.update(_path(socket.path))
    if socket.ifindex:
        found["bound_dev"] = interfaces.name(socket.path.local_ip, socket.ifindex)
    found["uid"] = socket.uid
    if socket.inode:
        found["inode"] = socket.inode
    found["fallback"] = bool(socket.flags & u.MPTCP_INFO_FLAG_FALLBACK)
    if info.csum_enabled is not None:
        found["checksum"] = bool(info.csum_enabled)
    found["unread"], found["unsent"] = socket.unread, socket.unsent
    found["info"] = _known(MptcpInfo._fields, info)
    infos = [tcp_info(subflow.info) for subflow in connection.subflows]
    found["subflows"] = [
        _subflow(subflow, one, percent, interfaces)
        for subflow, one, percent in zip(connection.subflows, infos, shares(infos), strict=True)
    ]
    return found


def _subflow(
    subflow: TcpSocket, info: TcpInfo, percent: int | None, interfaces: Interfaces
) -> Json:
    found: Json = {}
    name = interfaces.name(subflow.path.local_ip, subflow.ifindex)
    if name is not None:
        found["dev"] = name
    found["state"] = state(subflow.state)
    found.update(_path(subflow.path))
    if subflow.ulp:
        found["local_id"], found["remote_id"] = subflow.local_id, subflow.remote_id
        found["joined"] = bool(subflow.flags & JOINED)
        found["backup"] = bool(subflow.flags & u.MPTCP_SUBFLOW_FLAG_BKUP_LOC)
        found["backup_by_peer"] = bool(subflow.flags & u.MPTCP_SUBFLOW_FLAG_BKUP_REM)
    if percent is not None:
        found["share"] = percent
    found["info"] = _known(TcpInfo._fields, info)
    return found


def _path(path: diag.Path) -> Json:
    return {
        "local_address": ip_text(path.local_ip), "local_port": path.local_port,
        "remote_address": ip_text(path.remote_ip), "remote_port": path.remote_port,
    }  # fmt: skip


def _known(names: tuple[str, ...], values: tuple[int | None, ...]) -> Json:
    return {
        name: value for name, value in zip(names, values, strict=True) if value is not None
    }


def state(number: int) -> str:
    return STATES.get(number, f"state {number}")
