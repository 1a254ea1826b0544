"""``connection``: the MPTCP connections of the running kernel with their subflows, and how many.

Knows how a connection looks as text; must not know netlink. As JSON: ``connection_json``. Written
as it goes: 20,000 connections never lie in memory as text.
"""

from __future__ import annotations

from collections.abc import Iterator

from mptcpd.cli.ctl import kernel, quantity, snapshot
from mptcpd.cli.ctl.aside import aside
from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.connection_filter import Filter, wanted
from mptcpd.cli.ctl.connection_json import connection_json, state
from mptcpd.cli.ctl.ends import Interfaces, end_text
from mptcpd.cli.ctl.output import Output, dump
from mptcpd.cli.ctl.shares import shares
from mptcpd.cli.ctl.snapshot import JOINED, Connection
from mptcpd.cli.ctl.which_pm import KERNEL, PathManagers
from mptcpd.nl import uapi as u
from mptcpd.nl.diag_sockets import MptcpSocket
from mptcpd.nl.info import MptcpInfo, mptcp_info, tcp_info

_BATCH = 256  # connections between two writes
_INDENT = "    "
BLIND = (
    "Note: to others than CAP_NET_ADMIN this kernel tells no subflow's address IDs, backup flag "
    "and role; subflows were found by their connection's inode."
)


def show(call: Call) -> int:
    """Print the connections that the filter admits."""
    found, interfaces, managers = _found(call)
    if call.settings.json:
        _show_json(call.out, found, interfaces, managers)
    else:
        _show_text(call.out, found, interfaces, managers)
    return 0


def count(call: Call) -> int:
    """Print how many connections and subflows there are."""
    found, _interfaces, _managers = _found(call)
    connections = subflows = fallback = 0
    for connection in found:
        connections += 1
        subflows += len(connection.subflows)
        fallback += bool(connection.socket.flags & u.MPTCP_INFO_FLAG_FALLBACK)
    numbers = {"connections": connections, "subflows": subflows, "fallback": fallback}
    if call.settings.json:
        call.out.json([numbers])
    else:
        call.out.line(" ".join(f"{name} {number}" for name, number in numbers.items()))
    return 0


def _found(call: Call) -> tuple[Iterator[Connection], Interfaces, PathManagers]:
    """What the kernel has, filtered; interfaces; who tells of path managers."""
    want: Filter = wanted(call.args, call.settings.family)
    taken = snapshot.take(kernel.dumps(), want.states)
    interfaces, managers = kernel.interfaces(), kernel.path_managers()

    def manager(socket: MptcpSocket) -> str | None:
        return managers.of(socket.token, mptcp_info(socket.info))

    if taken.blind:
        aside(BLIND)
    admitted = (one for one in taken.connections if want.admits(one, interfaces, manager))
    return admitted, interfaces, managers


def _show_json(
    out: Output, found: Iterator[Connection], interfaces: Interfaces, managers: PathManagers
) -> None:
    pretty = out.settings.pretty
    before = "[ " if pretty else "["
    for index, connection in enumerate(found):
        out.write(before + dump(connection_json(connection, interfaces, managers), pretty))
        before = ","
        if index % _BATCH == _BATCH - 1:
            out.flush()
    if before != ",":
        out.write("[ ]\n" if pretty else "[]\n")
    else:
        out.write(" ]\n" if pretty else "]\n")


def _show_text(
    out: Output, found: Iterator[Connection], interfaces: Interfaces, managers: PathManagers
) -> None:
    widths: list[int] = []  # of the columns so far: lines that follow are aligned with them
    for index, connection in enumerate(found):
        lines = [*_about(out, connection, managers)]
        lines += _subflows(out, connection, interfaces, widths)
        out.write(("\\" if out.settings.oneline else "\n").join(lines) + "\n")
        if index % _BATCH == _BATCH - 1:
            out.flush()


def _about(out: Output, connection: Connection, managers: PathManagers) -> Iterator[str]:
    """The connection itself: who and with whom, then what it did."""
    socket, info = connection.socket, mptcp_info(connection.socket.info)
    path = socket.path
    parts = [f"{socket.token:08x}"]
    parts += [connection.role] if connection.role else []
    local = _painted(out, path.local_ip, path.local_port)
    parts.append(f"{local} -> {_painted(out, path.remote_ip, path.remote_port)}")
    parts.append(state(socket.state))
    manager = managers.of(socket.token, info)
    parts += [f"pm {manager}"] if manager else []
    parts += [out.paint("bad", "fallback")] if socket.flags & u.MPTCP_INFO_FLAG_FALLBACK else []
    parts += ["checksum"] if info.csum_enabled else []
    yield "  ".join(parts)
    parts = [
        f"{name} {quantity.size(number)}"
        for name, number in (
            ("sent", info.bytes_sent), ("received", info.bytes_received),
            ("resent", info.bytes_retrans), ("unsent", socket.unsent or None),
            ("unread", socket.unread or None),
        ) if number is not None
    ]  # fmt: skip
    parts += [
        f"{name} {quantity.duration(time / 1000)} ago"
        for name, time in (("last sent", info.last_data_sent), ("received", info.last_data_recv))
        if time is not None
    ]
    yield _INDENT + "  ".join(parts)
    parts = list(_counters(info, manager))
    if parts:
        yield _INDENT + "  ".join(parts)


def _counters(info: MptcpInfo, manager: str | None) -> Iterator[str]:
    """How many of what, and of how many that the kernel's own path manager would take."""
    limited = manager == KERNEL
    for name, number, limit in (
        ("extra subflows", info.subflows, info.subflows_max),
        ("addresses announced", info.add_addr_signal, None),
        ("accepted", info.add_addr_accepted, info.add_addr_accepted_max),
    ):
        if number is not None:
            yield f"{name} {number}" + (f" of {limit}" if limited and limit is not None else "")


def _subflows(
    out: Output, connection: Connection, interfaces: Interfaces, widths: list[int]
) -> Iterator[str]:
    """A line for each subflow, in columns that are at least as wide as ``widths``, which grow."""
    infos = [tcp_info(subflow.info) for subflow in connection.subflows]
    rows = []
    for subflow, info, percent in zip(connection.subflows, infos, shares(infos), strict=True):
        path, flags = subflow.path, subflow.flags
        local = end_text(path.local_ip, path.local_port)
        told = f"id {subflow.local_id} > {subflow.remote_id}" if subflow.ulp else ""
        kind = ("joined" if flags & JOINED else "initial") if subflow.ulp else ""
        backup = "backup" if flags & u.MPTCP_SUBFLOW_FLAG_BKUP_LOC else ""
        by_peer = "backup by peer" if flags & u.MPTCP_SUBFLOW_FLAG_BKUP_REM else ""
        notes = [state(subflow.state)] if subflow.state != 1 else []
        rows.append([
            interfaces.name(path.local_ip, subflow.ifindex) or "-",
            f"{local} -> {end_text(path.remote_ip, path.remote_port)}",
            told,
            kind,
            f"{quantity.share(percent):>5}",
            f"rtt {quantity.milliseconds(info.rtt)}",
            f"cwnd {quantity.UNKNOWN if info.snd_cwnd is None else info.snd_cwnd}",
            f"sent {quantity.size(info.bytes_sent)}",
            f"received {quantity.size(info.bytes_received)}",
            f"resent {quantity.size(info.bytes_retrans)}",
            "  ".join([*notes, *filter(None, (backup, by_peer))]),
        ])  # fmt: skip
    for row in rows:
        widths += [0] * (len(row) - len(widths))
        widths[:] = [max(width, len(cell)) for width, cell in zip(widths, row, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[0] = out.paint("interface", cells[0])
        yield (_INDENT + "  ".join(cells)).rstrip()


def _painted(out: Output, ip: bytes, port: int) -> str:
    text = end_text(ip, port)
    return out.paint("ipv6" if text.startswith("[") else "ipv4", text)
