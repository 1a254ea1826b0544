"""The mptcp_pm family's 11 commands: values to request bytes, replies to values.

Knows linux/mptcp_pm.h; must not know sockets, nor which commands make sense when. Events are in
``mptcp_event``. Every builder returns what goes behind the nlmsghdr.

Byte order: MPTCP_PM_ADDR_ATTR_PORT is in *host* order here, while the ports of events are in
network order; addresses are in network order everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mptcpd.nl import attrs, genl
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import Encoder, Layouts
from mptcpd.nl.errors import DecodeError

AF_INET = 2
AF_INET6 = 10
# Message types have names of their own in errors and in --debug.
COMMANDS = {
    value: name for name, value in sorted(vars(u).items()) if name.startswith("MPTCP_PM_CMD_")
    and isinstance(value, int)
}  # fmt: skip
FLAGS = {
    "signal": u.MPTCP_PM_ADDR_FLAG_SIGNAL,
    "subflow": u.MPTCP_PM_ADDR_FLAG_SUBFLOW,
    "backup": u.MPTCP_PM_ADDR_FLAG_BACKUP,
    "fullmesh": u.MPTCP_PM_ADDR_FLAG_FULLMESH,
    "implicit": u.MPTCP_PM_ADDR_FLAG_IMPLICIT,
    "laminar": u.MPTCP_PM_ADDR_FLAG_LAMINAR,
}
_ADDRESS = {
    u.MPTCP_PM_ADDR_ATTR_FAMILY: "MPTCP_PM_ADDR_ATTR_FAMILY",
    u.MPTCP_PM_ADDR_ATTR_ID: "MPTCP_PM_ADDR_ATTR_ID",
    u.MPTCP_PM_ADDR_ATTR_ADDR4: "MPTCP_PM_ADDR_ATTR_ADDR4",
    u.MPTCP_PM_ADDR_ATTR_ADDR6: "MPTCP_PM_ADDR_ATTR_ADDR6",
    u.MPTCP_PM_ADDR_ATTR_PORT: "MPTCP_PM_ADDR_ATTR_PORT",
    u.MPTCP_PM_ADDR_ATTR_FLAGS: "MPTCP_PM_ADDR_ATTR_FLAGS",
    u.MPTCP_PM_ADDR_ATTR_IF_IDX: "MPTCP_PM_ADDR_ATTR_IF_IDX",
}
# Attribute names for the errors of this family: type -> (name, names inside the nest).
NAMES: dict[int, tuple[str, dict[int, str]]] = {
    u.MPTCP_PM_ATTR_ADDR: ("MPTCP_PM_ATTR_ADDR", _ADDRESS),
    u.MPTCP_PM_ATTR_RCV_ADD_ADDRS: ("MPTCP_PM_ATTR_RCV_ADD_ADDRS", {}),
    u.MPTCP_PM_ATTR_SUBFLOWS: ("MPTCP_PM_ATTR_SUBFLOWS", {}),
    u.MPTCP_PM_ATTR_TOKEN: ("MPTCP_PM_ATTR_TOKEN", {}),
    u.MPTCP_PM_ATTR_LOC_ID: ("MPTCP_PM_ATTR_LOC_ID", {}),
    u.MPTCP_PM_ATTR_ADDR_REMOTE: ("MPTCP_PM_ATTR_ADDR_REMOTE", _ADDRESS),
}


class Address(NamedTuple):
    """An address as mptcp_pm takes and gives it: an endpoint, or one side of a subflow.

    ip       4 or 16 bytes in network order, or None where the address ID alone says which
    port     host order; 0 means none        id       address ID; None means not given
    flags    MPTCP_PM_ADDR_FLAG_* or None    ifindex  None means any interface
    """

    ip: bytes | None
    port: int = 0
    id: int | None = None
    flags: int | None = None
    ifindex: int | None = None


class Limits(NamedTuple):
    """The limits of the kernel's own path manager, per connection."""

    add_addr_accepted: int
    subflows: int


def _request(command: int, *parts: tuple[int, int | Address]) -> bytes:
    encoder = _ENCODER.start(genl.header(command, u.MPTCP_PM_VER))
    for kind, value in parts:
        if isinstance(value, Address):
            _address(encoder.begin(kind), value).end()
        elif kind == u.MPTCP_PM_ATTR_LOC_ID:
            encoder.u8(kind, value)
        else:
            encoder.u32(kind, value)
    return encoder.finish()


def _address(encoder: Encoder, address: Address) -> Encoder:
    ip, port, ident, flags, ifindex = address
    if ip is not None:
        if len(ip) not in (4, 16):
            raise ValueError(f"an IP address has 4 or 16 bytes, not {len(ip)}")
        four = len(ip) == 4
        encoder.u16(u.MPTCP_PM_ADDR_ATTR_FAMILY, AF_INET if four else AF_INET6)
        encoder.data(u.MPTCP_PM_ADDR_ATTR_ADDR4 if four else u.MPTCP_PM_ADDR_ATTR_ADDR6, ip)
    if ident is not None:
        encoder.u8(u.MPTCP_PM_ADDR_ATTR_ID, ident)
    if port:
        encoder.u16(u.MPTCP_PM_ADDR_ATTR_PORT, port)
    if flags is not None:
        encoder.u32(u.MPTCP_PM_ADDR_ATTR_FLAGS, flags)
    if ifindex is not None:
        encoder.s32(u.MPTCP_PM_ADDR_ATTR_IF_IDX, ifindex)
    return encoder


_ENCODER = Encoder(512)  # the longest request here, two IPv6 addresses, has 120 bytes


def add_addr(endpoint: Address) -> bytes:
    """Add an endpoint. Kernel: EINVAL with words (see ``KernelError.reason``)."""
    return _request(u.MPTCP_PM_CMD_ADD_ADDR, (u.MPTCP_PM_ATTR_ADDR, endpoint))


def del_addr(endpoint: Address) -> bytes:
    """Delete the endpoint with this ID; ID 0 also needs the address."""
    return _request(u.MPTCP_PM_CMD_DEL_ADDR, (u.MPTCP_PM_ATTR_ADDR, endpoint))


def get_addr(ident: int, token: int | None = None) -> bytes:
    """One endpoint by ID; with a token (Linux 6.9) one address of that connection."""
    parts: list[tuple[int, int | Address]] = [(u.MPTCP_PM_ATTR_ADDR, Address(None, id=ident))]
    if token is not None:
        parts.append((u.MPTCP_PM_ATTR_TOKEN, token))
    return _request(u.MPTCP_PM_CMD_GET_ADDR, *parts)


def dump_addrs(token: int | None = None) -> bytes:
    """All endpoints; with a token (Linux 6.9) all addresses of that connection. A dump."""
    if token is None:
        return _request(u.MPTCP_PM_CMD_GET_ADDR)
    return _request(u.MPTCP_PM_CMD_GET_ADDR, (u.MPTCP_PM_ATTR_TOKEN, token))


def flush_addrs() -> bytes:
    """Delete all endpoints, whoever added them."""
    return _request(u.MPTCP_PM_CMD_FLUSH_ADDRS)


def set_limits(subflows: int | None = None, add_addr_accepted: int | None = None) -> bytes:
    """Set the limits that are given; the kernel keeps the others."""
    parts: list[tuple[int, int | Address]] = []
    if add_addr_accepted is not None:
        parts.append((u.MPTCP_PM_ATTR_RCV_ADD_ADDRS, add_addr_accepted))
    if subflows is not None:
        parts.append((u.MPTCP_PM_ATTR_SUBFLOWS, subflows))
    return _request(u.MPTCP_PM_CMD_SET_LIMITS, *parts)


def get_limits() -> bytes:
    """Ask for the limits; ``parse_limits`` reads the answer."""
    return _GET_LIMITS


def set_flags(
    address: Address, remote: Address | None = None, token: int | None = None
) -> bytes:
    """Change backup and fullmesh of an endpoint, or (token, both addresses) of a subflow."""
    parts: list[tuple[int, int | Address]] = []
    if token is not None:
        parts.append((u.MPTCP_PM_ATTR_TOKEN, token))
    parts.append((u.MPTCP_PM_ATTR_ADDR, address))
    if remote is not None:
        parts.append((u.MPTCP_PM_ATTR_ADDR_REMOTE, remote))
    return _request(u.MPTCP_PM_CMD_SET_FLAGS, *parts)


def announce(token: int, address: Address) -> bytes:
    """Send ADD_ADDR; ``address`` needs an ID other than 0 and the flag signal."""
    return _request(
        u.MPTCP_PM_CMD_ANNOUNCE, (u.MPTCP_PM_ATTR_TOKEN, token), (u.MPTCP_PM_ATTR_ADDR, address)
    )


def remove(token: int, ident: int) -> bytes:
    """Send RM_ADDR for an announced address; ID 0 is the connection's initial address."""
    return _request(
        u.MPTCP_PM_CMD_REMOVE, (u.MPTCP_PM_ATTR_TOKEN, token), (u.MPTCP_PM_ATTR_LOC_ID, ident)
    )


def subflow_create(token: int, local: Address, remote: Address) -> bytes:
    """Start a join from ``local`` (IP, ID) to ``remote`` (IP, port)."""
    return _pair(u.MPTCP_PM_CMD_SUBFLOW_CREATE, token, local, remote)


def subflow_destroy(token: int, local: Address, remote: Address) -> bytes:
    """Close the subflow between two addresses; both ports are needed."""
    return _pair(u.MPTCP_PM_CMD_SUBFLOW_DESTROY, token, local, remote)


def _pair(command: int, token: int, local: Address, remote: Address) -> bytes:
    return _request(
        command,
        (u.MPTCP_PM_ATTR_TOKEN, token),
        (u.MPTCP_PM_ATTR_ADDR, local),
        (u.MPTCP_PM_ATTR_ADDR_REMOTE, remote),
    )


_GET_LIMITS = _request(u.MPTCP_PM_CMD_GET_LIMITS)


def parse_limits(payload: bytes) -> Limits:
    """The answer to ``get_limits``. Errors: DecodeError."""
    known = _LIMITS.unpack(0, payload[genl.HEADER :])
    if known is not None:
        return Limits._make(known)
    found = attrs.parse(payload, genl.HEADER)
    values = []
    for kind in (u.MPTCP_PM_ATTR_RCV_ADD_ADDRS, u.MPTCP_PM_ATTR_SUBFLOWS):
        if kind not in found:
            raise DecodeError(f"the limits lack {NAMES[kind][0]}")
        values.append(attrs.u32(NAMES[kind][0], found[kind]))
    _LIMITS.learn(0, payload[genl.HEADER :])
    return Limits._make(values)


_LIMITS = Layouts(
    {u.MPTCP_PM_ATTR_RCV_ADD_ADDRS: (0, "I"), u.MPTCP_PM_ATTR_SUBFLOWS: (1, "I")}, width=2
)


def parse_address(payload: bytes) -> Address:
    """One answer to ``get_addr`` or ``dump_addrs``: an Address with IP and ID.

    ``flags`` is None where the kernel sends none, ``ifindex`` None where it is 0.
    Errors  DecodeError, naming the attribute.
    Source  net/mptcp/pm_netlink.c: mptcp_nl_fill_addr.
    """
    outer = attrs.parse(payload, genl.HEADER)
    if u.MPTCP_PM_ATTR_ADDR not in outer:
        raise DecodeError("the address lacks MPTCP_PM_ATTR_ADDR")
    found = attrs.parse(outer[u.MPTCP_PM_ATTR_ADDR])

    def number(kind: int, reader: Callable[[str, bytes], int] = attrs.u32) -> int | None:
        return reader(_ADDRESS[kind], found[kind]) if kind in found else None

    family = number(u.MPTCP_PM_ADDR_ATTR_FAMILY, attrs.u16)
    if family == AF_INET and u.MPTCP_PM_ADDR_ATTR_ADDR4 in found:
        ip = attrs.ip("MPTCP_PM_ADDR_ATTR_ADDR4", found[u.MPTCP_PM_ADDR_ATTR_ADDR4], 4)
    elif family == AF_INET6 and u.MPTCP_PM_ADDR_ATTR_ADDR6 in found:
        ip = attrs.ip("MPTCP_PM_ADDR_ATTR_ADDR6", found[u.MPTCP_PM_ADDR_ATTR_ADDR6], 16)
    else:
        raise DecodeError(f"an address of family {family} without the IP of that family")
    ident = number(u.MPTCP_PM_ADDR_ATTR_ID, attrs.u8)
    if ident is None:
        raise DecodeError("the address lacks MPTCP_PM_ADDR_ATTR_ID")
    return Address(
        ip,
        number(u.MPTCP_PM_ADDR_ATTR_PORT, attrs.u16) or 0,
        ident,
        number(u.MPTCP_PM_ADDR_ATTR_FLAGS),
        number(u.MPTCP_PM_ADDR_ATTR_IF_IDX, attrs.s32) or None,
    )
