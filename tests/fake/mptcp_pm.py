"""The generic netlink families ``nlctrl`` and ``mptcp_pm``: requests to tables, and back.

Knows the attributes of each command, which of them must be there, and how a refusal names them;
must not know what a command does (``endpoints``, ``connections``) nor sockets.

Source  net/netlink/genetlink.c; net/mptcp/pm_netlink.c, mptcp_pm_gen.c (Linux 6.18).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import AF_INET, AF_INET6, Address
from tests.fake import wire
from tests.fake.connections import ConnectionTable
from tests.fake.endpoints import EndpointTable
from tests.fake.wire import Attribute, Payload, Refusal, Request, number

_GENL = 4  # bytes of genlmsghdr
_INNER: Mapping[int, int] = {
    u.MPTCP_PM_ADDR_ATTR_FAMILY: 2,
    u.MPTCP_PM_ADDR_ATTR_ID: 1,
    u.MPTCP_PM_ADDR_ATTR_ADDR4: 4,
    u.MPTCP_PM_ADDR_ATTR_ADDR6: 16,
    u.MPTCP_PM_ADDR_ATTR_PORT: 2,
    u.MPTCP_PM_ADDR_ATTR_FLAGS: 4,
    u.MPTCP_PM_ADDR_ATTR_IF_IDX: -4,
}
_NAMES = {name: value for name, value in vars(u).items() if name.startswith("MPTCP_PM_ATTR_")}
_TOKEN, _ADDR, _REMOTE = (
    u.MPTCP_PM_ATTR_TOKEN, u.MPTCP_PM_ATTR_ADDR, u.MPTCP_PM_ATTR_ADDR_REMOTE,
)  # fmt: skip
_LIMITS: wire.Policy = {u.MPTCP_PM_ATTR_RCV_ADD_ADDRS: 4, u.MPTCP_PM_ATTR_SUBFLOWS: 4}
_PAIR: wire.Policy = {_ADDR: _INNER, _TOKEN: 4, _REMOTE: _INNER}
# What each command may have (net/mptcp/mptcp_pm_gen.c); anything else is not looked at.
_POLICY: Mapping[int, wire.Policy] = {
    u.MPTCP_PM_CMD_ADD_ADDR: {_ADDR: _INNER},
    u.MPTCP_PM_CMD_DEL_ADDR: {_ADDR: _INNER},
    u.MPTCP_PM_CMD_GET_ADDR: {_ADDR: _INNER, _TOKEN: 4},
    u.MPTCP_PM_CMD_FLUSH_ADDRS: {_ADDR: _INNER},
    u.MPTCP_PM_CMD_SET_LIMITS: _LIMITS,
    u.MPTCP_PM_CMD_GET_LIMITS: _LIMITS,
    u.MPTCP_PM_CMD_SET_FLAGS: _PAIR,
    u.MPTCP_PM_CMD_ANNOUNCE: {_ADDR: _INNER, _TOKEN: 4},
    u.MPTCP_PM_CMD_REMOVE: {_TOKEN: 4, u.MPTCP_PM_ATTR_LOC_ID: 1},
    u.MPTCP_PM_CMD_SUBFLOW_CREATE: _PAIR,
    u.MPTCP_PM_CMD_SUBFLOW_DESTROY: _PAIR,
}
# What each command cannot do without, in the order in which the kernel looks.
_NEEDS: Mapping[int, tuple[int, ...]] = {
    u.MPTCP_PM_CMD_ADD_ADDR: (_ADDR,),
    u.MPTCP_PM_CMD_DEL_ADDR: (_ADDR,),
    u.MPTCP_PM_CMD_GET_ADDR: (_ADDR,),
    u.MPTCP_PM_CMD_FLUSH_ADDRS: (),
    u.MPTCP_PM_CMD_SET_LIMITS: (),
    u.MPTCP_PM_CMD_GET_LIMITS: (),
    u.MPTCP_PM_CMD_SET_FLAGS: (_ADDR,),
    u.MPTCP_PM_CMD_ANNOUNCE: (_ADDR, _TOKEN),
    u.MPTCP_PM_CMD_REMOVE: (u.MPTCP_PM_ATTR_LOC_ID, _TOKEN),
    u.MPTCP_PM_CMD_SUBFLOW_CREATE: (_ADDR, _REMOTE, _TOKEN),
    u.MPTCP_PM_CMD_SUBFLOW_DESTROY: (_ADDR, _REMOTE, _TOKEN),
}
Found = dict[int, Attribute]


class MptcpPm:
    """The family. ``id``: the type of its messages; ``group``: the ID of its group of events."""

    def __init__(self, endpoints: EndpointTable, connections: ConnectionTable) -> None:
        self.endpoints, self.connections = endpoints, connections
        self.id, self.group = 0x1C, 14
        self.there = True
        self.future = False  # answers have attributes of a later kernel, too

    def nlctrl(self, request: Request) -> list[tuple[int, bytes]]:
        """CTRL_CMD_GETFAMILY. Errors: Refusal."""
        found = {one.kind: one.data for one in request.attributes(_GENL)}
        name = found.get(u.CTRL_ATTR_FAMILY_NAME, b"").rstrip(b"\0")
        if request.body[:1] != bytes([u.CTRL_CMD_GETFAMILY]):
            raise Refusal(errno.EOPNOTSUPP)
        if name != u.MPTCP_PM_NAME.encode() or not self.there:
            raise Refusal(errno.ENOENT)
        groups: list[tuple[int, Payload]] = [
            (index, [(2, number(ident, 4)), (1, label.encode() + b"\0")])
            for index, ident, label in (
                (1, self.group - 1, u.MPTCP_PM_CMD_GRP_NAME),
                (2, self.group, u.MPTCP_PM_EV_GRP_NAME),
            )
        ]
        told: list[tuple[int, Payload]] = [
            (u.CTRL_ATTR_FAMILY_NAME, name + b"\0"),
            (u.CTRL_ATTR_FAMILY_ID, number(self.id, 2)),
            (u.CTRL_ATTR_VERSION, number(u.MPTCP_PM_VER, 4)),
            (u.CTRL_ATTR_HDRSIZE, number(0, 4)),
            (u.CTRL_ATTR_MAXATTR, number(0, 4)),
            (u.CTRL_ATTR_MCAST_GROUPS, groups),
        ]
        return [(u.GENL_ID_CTRL, b"\1\2\0\0" + wire.build(told + self._later()))]

    def ask(self, request: Request) -> list[tuple[int, bytes]]:
        """A command: type and payload of each answer. Errors: Refusal."""
        if len(request.body) < _GENL or request.body[0] not in _NEEDS:
            raise Refusal(errno.EOPNOTSUPP)
        command = request.body[0]
        found = wire.check(
            request.whole, request.attributes(_GENL), _POLICY[command], strict=request.is_dump
        )
        if not request.is_dump:
            for kind in _NEEDS[command]:
                if kind not in found:
                    raise wire.missing(kind)
        elif command != u.MPTCP_PM_CMD_GET_ADDR:
            raise Refusal(errno.EOPNOTSUPP)
        try:
            return [
                (self.id, bytes([command, 1, 0, 0]) + wire.build(attributes + self._later()))
                for attributes in self._run(command, request, found)
            ]
        except KernelError as error:
            raise wire.refusal(error, found, _NAMES) from error

    def _later(self) -> list[tuple[int, Payload]]:
        return [(60, b"future"), (61, [(1, b"\1")])] if self.future else []

    def _run(
        self, command: int, request: Request, found: Found
    ) -> list[list[tuple[int, Payload]]]:
        """Carry it out; the attributes of each answer."""
        takers: dict[int, Callable[[_Asked], list[list[tuple[int, Payload]]] | None]] = {
            u.MPTCP_PM_CMD_ADD_ADDR: lambda it: self.endpoints.add_addr(it.address(_ADDR)),
            u.MPTCP_PM_CMD_DEL_ADDR: lambda it: self.endpoints.del_addr(it.address(_ADDR, "ID")),
            u.MPTCP_PM_CMD_FLUSH_ADDRS: lambda it: self.endpoints.flush_addrs(),
            u.MPTCP_PM_CMD_GET_ADDR: self._get,
            u.MPTCP_PM_CMD_SET_LIMITS: lambda it: self.endpoints.set_limits(
                it.number(u.MPTCP_PM_ATTR_SUBFLOWS), it.number(u.MPTCP_PM_ATTR_RCV_ADD_ADDRS)
            ),
            u.MPTCP_PM_CMD_GET_LIMITS: self._get_limits,
            u.MPTCP_PM_CMD_SET_FLAGS: self._set_flags,
            u.MPTCP_PM_CMD_ANNOUNCE: lambda it: self.connections.announce(
                self._existing(it), it.address(_ADDR)
            ),
            u.MPTCP_PM_CMD_REMOVE: lambda it: self.connections.remove(
                self._existing(it), it.number(u.MPTCP_PM_ATTR_LOC_ID) or 0
            ),
            u.MPTCP_PM_CMD_SUBFLOW_CREATE: lambda it: self.connections.subflow_create(
                self._existing(it), it.address(_ADDR), it.address(_REMOTE)
            ),
            u.MPTCP_PM_CMD_SUBFLOW_DESTROY: lambda it: self.connections.subflow_destroy(
                self._existing(it), it.address(_ADDR), it.address(_REMOTE)
            ),
        }
        return takers[command](_Asked(request, found)) or []

    def _existing(self, asked: _Asked) -> int:
        """The token, which is looked at before anything else."""
        token = asked.number(_TOKEN)
        assert token is not None
        try:
            self.connections.exists(u.MPTCP_PM_NAME, token)
        except KernelError as error:
            self.connections.asked.append(f"{error.words}: {token:08x}")
            raise
        return token

    def _get_limits(self, _asked: _Asked) -> list[list[tuple[int, Payload]]]:
        now = self.endpoints.get_limits()
        return [
            [
                (u.MPTCP_PM_ATTR_RCV_ADD_ADDRS, number(now.add_addr_accepted, 4)),
                (u.MPTCP_PM_ATTR_SUBFLOWS, number(now.subflows, 4)),
            ]
        ]

    def _get(self, asked: _Asked) -> list[list[tuple[int, Payload]]]:
        token = asked.number(_TOKEN)
        if asked.request.is_dump:
            entries = (
                self.endpoints.dump_addrs()
                if token is None
                else self.connections.dump_addrs(token)
            )
            return [_told(entry) for entry in entries]
        ident = asked.address(_ADDR, "ID").id or 0
        if token is not None:
            return [_told(self.connections.get_addr(ident, token))]
        return [_told(self.endpoints.get_addr(ident))]

    def _set_flags(self, asked: _Asked) -> None:
        local = asked.address(_ADDR, "ID")
        if _TOKEN not in asked.found:
            self.endpoints.set_flags(local)
            return
        if _REMOTE not in asked.found:
            raise wire.missing(_REMOTE)
        token = self._existing(asked)
        self.connections.set_flags(local, asked.address(_REMOTE), token)


class _Asked(NamedTuple):
    """A command with its attributes."""

    request: Request
    found: Found

    def number(self, kind: int) -> int | None:
        size = 1 if kind == u.MPTCP_PM_ATTR_LOC_ID else 4
        return wire.integer(self.found[kind], size) if kind in self.found else None

    def address(self, kind: int, needs: str = "family") -> Address:
        return _address(self.request, self.found[kind], family=needs == "family")


def _address(request: Request, nest: Attribute, *, family: bool = True) -> Address:
    """mptcp_pm_parse_entry. ``family``: whether the address itself must be there."""
    found = {one.kind: one for one in wire.nested(request.whole, nest) if one.kind in _INNER}

    def value(kind: int) -> int | None:
        return wire.integer(found[kind], abs(_INNER[kind])) if kind in found else None

    def refuse(words: str) -> Refusal:
        return Refusal(errno.EINVAL, words, (u.NLMSGERR_ATTR_OFFS, number(nest.offset, 4)))

    kind, ip = value(u.MPTCP_PM_ADDR_ATTR_FAMILY), None
    places = {AF_INET: u.MPTCP_PM_ADDR_ATTR_ADDR4, AF_INET6: u.MPTCP_PM_ADDR_ATTR_ADDR6}
    if kind is None:
        if family:
            raise refuse("missing family")
    elif kind not in places:
        raise refuse("unknown address family")
    elif places[kind] not in found:
        raise refuse("missing address data")
    else:
        ip = found[places[kind]].data[: _INNER[places[kind]]]
    return Address(
        ip,
        value(u.MPTCP_PM_ADDR_ATTR_PORT) or 0,
        value(u.MPTCP_PM_ADDR_ATTR_ID),
        value(u.MPTCP_PM_ADDR_ATTR_FLAGS),
        value(u.MPTCP_PM_ADDR_ATTR_IF_IDX),
    )


def _told(entry: Address) -> list[tuple[int, Payload]]:
    """mptcp_nl_fill_addr."""
    assert entry.ip is not None
    four = len(entry.ip) == 4
    told: list[tuple[int, Payload]] = [
        (u.MPTCP_PM_ADDR_ATTR_FAMILY, number(AF_INET if four else AF_INET6, 2)),
        (u.MPTCP_PM_ADDR_ATTR_PORT, number(entry.port, 2)),
        (u.MPTCP_PM_ADDR_ATTR_ID, number(entry.id or 0, 1)),
    ]
    told.append((u.MPTCP_PM_ADDR_ATTR_FLAGS, number(entry.flags or 0, 4)))
    if entry.ifindex:
        told.append((u.MPTCP_PM_ADDR_ATTR_IF_IDX, number(entry.ifindex, 4)))
    told.append((u.MPTCP_PM_ADDR_ATTR_ADDR4 if four else u.MPTCP_PM_ADDR_ATTR_ADDR6, entry.ip))
    return [(u.MPTCP_PM_ATTR_ADDR, told)]

