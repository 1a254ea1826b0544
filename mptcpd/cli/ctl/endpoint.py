"""endpoint and limits: the kernel's own path manager, as ``ip mptcp`` shows and steers it.

Knows what iproute2 checks before it asks the kernel, and how it prints; must not know netlink.
"""

from __future__ import annotations

import socket

from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.errors import wrong
from mptcpd.cli.ctl.grammar import Args
from mptcpd.cli.ctl.output import Field
from mptcpd.nl import uapi as u
from mptcpd.nl.client import MptcpClient
from mptcpd.nl.mptcp import FLAGS, Address
from mptcpd.nl.sock import CommandSocket

# In the order in which they are printed; what is behind them are bits that we do not know.
SHOWN = ("signal", "subflow", "backup", "fullmesh", "implicit", "laminar")
_ALL = sum(FLAGS.values())


def client() -> MptcpClient:
    """The kernel's mptcp_pm. Errors: Unavailable, OSError."""
    return MptcpClient(CommandSocket(u.NETLINK_GENERIC))


def add(call: Call) -> int:
    endpoint = _said(call.args)
    if endpoint.id == 0:
        raise wrong("ID", "cannot be 0\n")
    if endpoint.port and not (endpoint.flags or 0) & FLAGS["signal"]:
        raise wrong("port", "flags must have signal when using port")
    client().add_addr(endpoint)
    return 0


def change(call: Call) -> int:
    endpoint = _said(call.args)
    if endpoint.id == 0:
        raise wrong("ID", "cannot be 0\n")
    if endpoint.port and endpoint.id is not None:
        raise wrong("port", "port can't be used with id")
    # No flags given clear both; the kernel wants the attribute all the same.
    client().set_flags(endpoint._replace(flags=endpoint.flags or 0))
    return 0


def delete(call: Call) -> int:
    endpoint = _said(call.args)
    if endpoint.id == 0 and endpoint.ip is None:
        raise wrong("ID", "address is needed for deleting id 0 address\n")
    if endpoint.id != 0 and endpoint.ip is not None:
        raise wrong("ADDRESS", "invalid for non-zero id address\n")
    client().del_addr(endpoint)
    return 0


def show(call: Call) -> int:
    ident = call.args.get("id")
    if ident == 0:
        raise wrong("ID", "cannot be 0\n")
    kernel = client()
    # As iproute2: any word makes it a question for one endpoint, and 0 is nobody's ID.
    endpoints = [kernel.get_addr(ident or 0)] if call.args else kernel.dump_addrs()
    call.out.records(record(endpoint) for endpoint in endpoints)
    return 0


def flush(_call: Call) -> int:
    client().flush_addrs()
    return 0


def set_limits(call: Call) -> int:
    client().set_limits(call.args.get("subflows"), call.args.get("add_addr_accepted"))
    return 0


def show_limits(call: Call) -> int:
    limits = client().get_limits()
    call.out.records(
        [[Field(f"{name} {value} ", name, value) for name, value in limits._asdict().items()]]
    )
    return 0


def record(endpoint: Address) -> list[Field]:
    """An endpoint, or an address of a connection, as iproute2 prints it."""
    assert endpoint.ip is not None
    text, colour = shown_ip(endpoint.ip)
    fields = [Field(f"{text} ", "address", text, colour)]
    if endpoint.port:
        fields.append(Field(f"port {endpoint.port} ", "port", endpoint.port))
    fields.append(Field(f"id {endpoint.id} ", "id", endpoint.id))
    flags = endpoint.flags or 0
    fields += [Field(f"{name} ", name, True) for name in SHOWN if flags & FLAGS[name]]
    if flags & ~_ALL:
        raw = f"{flags & ~_ALL:x}"
        fields.append(Field(f"rawflags {raw} ", "rawflags", raw))
    if endpoint.ifindex is not None:
        name = interface_name(endpoint.ifindex)
        fields += [Field("dev "), Field(f"{name} ", "dev", name, "interface")]
    return fields


def shown_ip(ip: bytes) -> tuple[str, str]:
    """The text of an address of 4 or 16 bytes, and its colour.

    inet_ntop, not ipaddress, which before Python 3.13 prints ::ffff:10.0.1.1 as ::ffff:a00:101.
    """
    if len(ip) == 4:
        return socket.inet_ntop(socket.AF_INET, ip), "ipv4"
    return socket.inet_ntop(socket.AF_INET6, ip), "ipv6"


def interface_name(ifindex: int) -> str:
    """The name of an interface; "if7" for number 7 if it is gone, as iproute2 has it."""
    try:
        return socket.if_indextoname(ifindex)
    except (OSError, OverflowError):
        return f"if{ifindex}"


def _said(args: Args) -> Address:
    # nobackup and nofullmesh say what would be anyway; iproute2 does not let them undo the other.
    flags = sum(FLAGS[name] for name in {*args.get("FLAG", ())} if name in FLAGS)
    return Address(
        args.get("address"), args.get("port", 0), args.get("id"), flags or None, args.get("dev")
    )
