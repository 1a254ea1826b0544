"""debug: everything that whoever reads a bug report wants to know, in one text.

Knows what is worth telling and where it is found; must not know what is wrong. A part that cannot
be had says why and does not keep the others from being told.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import mptcpd
from mptcpd.cli.control_client import ControlClient, NoDaemon, Refused
from mptcpd.cli.ctl import path_manager
from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.daemon import SOCKET
from mptcpd.cli.ctl.endpoint import client, interface_name
from mptcpd.cli.ctl.output import Output
from mptcpd.cli.ctl.pseudonyms import Pseudonyms
from mptcpd.nl import diag, rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.client import RouteClient
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.errors import NetlinkError
from mptcpd.nl.mptcp import AF_INET, AF_INET6, FLAGS
from mptcpd.nl.sock import CommandSocket

Record = dict[str, Any]
_LOCAL_TABLE = 255  # RT_TABLE_LOCAL: what the kernel adds by itself for each address
_STATES = {
    value: name.removeprefix("TCP_") for name, value in vars(diag).items()
    if name.startswith("TCP_") and isinstance(value, int)
}  # fmt: skip
_TYPES = {
    value: name.removeprefix("RTN_").lower() for name, value in vars(u).items()
    if name.startswith("RTN_")
}  # fmt: skip
# Settings of TCP that decide about subflows, beside those of MPTCP.
_SYSCTLS = (
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.disable_ipv6",
)
_PATIENCE = 5.0  # seconds for each answer of a daemon that may be in trouble
_COUNTERS = ("/proc/self/net/netstat", "/proc/self/net/snmp")
_GROUPS = ("MPTcpExt", "Tcp", "TcpExt")


class Sources(NamedTuple):
    """What parts are made from.

    names      of addresses                  routes  the network as rtnetlink tells it
    socket     where a daemon may answer     free    what people wrote may be told as it is
    """

    names: Pseudonyms
    routes: RouteClient
    socket: str
    free: bool


def run(call: Call) -> int:
    """Write the report to FILE or print it."""
    free = not call.args.get("anonymous")
    sources = Sources(
        Pseudonyms(keep=free),
        RouteClient(CommandSocket(u.NETLINK_ROUTE)),
        call.settings.socket or SOCKET,
        free,
    )
    file = call.args.get("file")
    if file is None:
        report(call.out, sources)
        return 0
    # It tells much about this host: for its owner's eyes.
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        out = Output(call.settings, fd)
        report(out, sources)
        out.flush()
    finally:
        os.close(fd)
    return 0


def report(out: Output, sources: Sources) -> None:
    """All parts, one after the other, or with -j as one JSON object."""
    parts: dict[str, Any] = {}
    for name, part in _PARTS.items():
        try:
            parts[name] = list(part(sources))
        except (NetlinkError, OSError) as error:
            parts[name] = [{"error": str(error)}]
        if not out.settings.json:
            out.write(f"== {name}\n" + "".join(f"{_line(record)}\n" for record in parts[name]))
    if out.settings.json:
        out.json(parts)


def _line(record: Record) -> str:
    if set(record) == {"name", "value"}:
        return f"{record['name']} = {record['value']}"
    return " ".join(
        key if value is True else f"{key}={','.join(map(str, value))}"
        if isinstance(value, list) else f"{key}={value}"
        for key, value in record.items() if value is not None and value is not False
    )  # fmt: skip


def _versions(_sources: Sources) -> Iterator[Record]:
    yield {"name": "time", "value": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    yield {"name": "mptcpd", "value": mptcpd.__version__}
    yield {"name": "python", "value": sys.version.split()[0]}
    yield {"name": "linux", "value": platform.release()}
    yield {"name": "build", "value": platform.version()}
    yield {"name": "machine", "value": platform.machine()}
    yield {"name": "capabilities", "value": _status("CapEff")}


def _status(key: str) -> str:
    with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
        for line in stream:
            if line.startswith(f"{key}:"):
                return line.split()[1]
    return ""


def _settings(_sources: Sources) -> Iterator[Record]:
    folder = path_manager.DIRECTORY
    names = [f"net.mptcp.{file}" for file in sorted(os.listdir(folder))]
    for name in (*names, *_SYSCTLS):
        try:
            with open(f"/proc/sys/{name.replace('.', '/')}", errors="replace") as stream:
                yield {"name": name, "value": stream.read().strip()}
        except OSError as error:
            yield {"name": name, "value": f"({error.strerror})"}


def _path_manager(sources: Sources) -> Iterator[Record]:
    kernel = client()
    found = path_manager.subscribers(kernel.events_group)
    listed = None if found is None else [one.name or "unknown" for one in found]
    yield {"path_manager": path_manager.setting()[1], "subscribers": listed}
    yield kernel.get_limits()._asdict()
    for endpoint in kernel.dump_addrs():
        flags = endpoint.flags or 0
        yield {
            "endpoint": sources.names.ip(endpoint.ip or b""),
            "port": endpoint.port or None,
            "id": endpoint.id,
            "flags": [name for name, bit in FLAGS.items() if flags & bit] or None,
            "rawflags": f"{flags & ~sum(FLAGS.values()):x}" if flags >> len(FLAGS) else None,
            "dev": _dev(endpoint.ifindex),
        }


def _interfaces(sources: Sources) -> Iterator[Record]:
    for link in sources.routes.links():
        yield {
            "interface": link.name, "ifindex": link.ifindex, "up": bool(link.flags & u.IFF_UP),
            "running": bool(link.flags & u.IFF_RUNNING), "type": link.type,
            "operstate": link.operstate, "master": _dev(link.master),
            "rx_bytes": link.rx_bytes, "tx_bytes": link.tx_bytes,
        }  # fmt: skip
    for address in sources.routes.addresses():
        yield {
            "address": f"{sources.names.ip(address.ip)}/{address.prefixlen}",
            "dev": _dev(address.ifindex), "scope": address.scope, "flags": f"{address.flags:#x}",
        }  # fmt: skip


def _routes(sources: Sources) -> Iterator[Record]:
    names = sources.names
    for family in (AF_INET, AF_INET6):
        for route in _of(family, sources.routes.routes):
            if route.table == _LOCAL_TABLE:
                continue
            yield {
                "family": 4 if family == AF_INET else 6,
                "to": names.prefix(route.dst, route.dst_len),
                "via": None if route.gateway is None else names.ip(route.gateway),
                "dev": [_dev(ifindex) for ifindex in route.oifs] or None,
                "table": route.table,
                "type": _TYPES.get(route.type, route.type),
                "src": None if route.prefsrc is None else names.ip(route.prefsrc),
                "metric": route.priority,
            }


def _rules(sources: Sources) -> Iterator[Record]:
    names = sources.names
    for family in (AF_INET, AF_INET6):
        for rule in _of(family, sources.routes.rules):
            yield {
                "family": 4 if family == AF_INET else 6,
                "priority": rule.priority,
                "not": rule.invert,
                "from": None if rule.src is None else names.prefix(rule.src, rule.src_len),
                "to": None if rule.dst is None else names.prefix(rule.dst, rule.dst_len),
                "iif": rule.iif,
                "oif": rule.oif,
                "fwmark": None if rule.fwmark is None else "{:#x}/{:#x}".format(*rule.fwmark),
                "table": rule.table,
                "action": None if rule.action == u.FR_ACT_TO_TBL else rule.action,
            }


def _of(family: int, ask: Any) -> list[Any]:
    """What is asked for, nothing for a family that this kernel lacks."""
    from mptcpd.nl.errors import KernelError

    try:
        found: list[Any] = ask(family)
    except KernelError as error:
        if error.errno not in rtnl.NOTHING_THERE:
            raise
        return []
    return found


def _connections(sources: Sources) -> Iterator[Record]:
    """As the kernel has them; ``info`` is struct mptcp_info, in hexadecimal."""
    names = sources.names
    listing = DiagClient(CommandSocket(u.NETLINK_SOCK_DIAG))
    for one in listing.connections(diag.CONNECTED | diag.LISTENING):
        yield {
            "token": f"{one.token:08x}", "state": _STATES.get(one.state, one.state),
            "local": names.end(one.path.local_ip, one.path.local_port),
            "remote": names.end(one.path.remote_ip, one.path.remote_port),
            "flags": f"{one.flags:#x}", "info": one.info.hex(),
        }  # fmt: skip
    for sub in listing.subflows():
        yield {
            "subflow": f"{sub.token:08x}", "state": _STATES.get(sub.state, sub.state),
            "local": names.end(sub.path.local_ip, sub.path.local_port),
            "remote": names.end(sub.path.remote_ip, sub.path.remote_port),
            "local_id": sub.local_id, "remote_id": sub.remote_id, "flags": f"{sub.flags:#x}",
            "dev": _dev(sub.ifindex),
        }  # fmt: skip


def _counters(_sources: Sources) -> Iterator[Record]:
    """What is not zero. Shape: for each group a line of names and a line of values."""
    for file in _COUNTERS:
        heads: dict[str, list[str]] = {}
        with open(file, encoding="ascii", errors="replace") as stream:
            for line in stream:
                group, _colon, rest = line.partition(":")
                if group not in heads:
                    heads[group] = rest.split()
                elif group in _GROUPS:
                    for name, value in zip(heads[group], rest.split(), strict=False):
                        if value != "0":
                            yield {"name": f"{group}.{name}", "value": int(value)}


def _daemon(sources: Sources) -> Iterator[Record]:
    """What a daemon that answers tells of itself and has counted. It may be another namespace's."""
    try:
        with ControlClient(sources.socket, _PATIENCE) as client:
            status, counted = client.ask("status"), client.ask("counters")
    except (NoDaemon, Refused) as error:
        yield {"name": "daemon", "value": f"({error})"}
        return
    if not sources.free:
        del status["reloads"]["last"]  # may quote the configuration
    for name, value in status.items():
        for inner, item in value.items() if isinstance(value, dict) else [("", value)]:
            text = ", ".join(item) if isinstance(item, list) else item
            yield {"name": f"{name}.{inner}" if inner else name, "value": text}
    for name, value in counted.items():
        for sample in value if isinstance(value, list) else [{"value": value}]:
            number = sample.pop("value")
            labels = ",".join(f"{key}={label}" for key, label in sample.items())
            if number:
                yield {"name": f"{name}{{{labels}}}" if labels else name, "value": number}


def _dev(ifindex: int | None) -> str | None:
    return interface_name(ifindex) if ifindex else None


def _sockets(_sources: Sources) -> Iterator[Record]:
    """Whether a socket can be had at all, and which it is."""
    for name, family in (("ipv4", socket.AF_INET), ("ipv6", socket.AF_INET6)):
        try:
            socket.socket(family, socket.SOCK_STREAM, u.IPPROTO_MPTCP).close()
            yield {"name": f"MPTCP socket over {name}", "value": "can be had"}
        except OSError as error:
            yield {"name": f"MPTCP socket over {name}", "value": f"{error.strerror}"}


_PARTS = {
    "versions": _versions,
    "settings": _settings,
    "sockets": _sockets,
    "path manager": _path_manager,
    "interfaces": _interfaces,
    "routes": _routes,
    "rules": _rules,
    "connections": _connections,
    "counters": _counters,
    "daemon": _daemon,
}
