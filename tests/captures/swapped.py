"""Recorded messages in the other byte order: what a kernel of the other kind would have sent.

Knows where the numbers of a message are, from the kernel's headers and not from the codec, which is
tested with the result. A message is a tree of structs and attributes; each form below is the layout
of a struct (as for the struct module, without the byte order) or the attributes inside a nest.
Addresses, ports of sockets and events, strings and single bytes are the same in both orders; an
attribute that is not in the tables is left as it is, as no test reads it.
"""

from __future__ import annotations

import sys
from struct import Struct, calcsize
from typing import Any

# A form: a struct's layout, or attributes by type; None stands for all types (an array).
Form = Any

_NLMSG = "IHHII"
_GENL = "BBH"
_ADDRESS = {1: "H", 5: "H", 6: "I", 7: "I"}  # MPTCP_PM_ADDR_ATTR_*: family, port, flags, ifindex
_PM = {1: _ADDRESS, 2: "I", 3: "I", 4: "I", 6: _ADDRESS}  # MPTCP_PM_ATTR_*
# MPTCP_ATTR_*: token, family, flags, timeout, ifindex, reset reason and flags
_EVENT = {1: "I", 2: "H", 13: "H", 14: "I", 15: "I", 16: "I", 17: "I"}
# CTRL_ATTR_*: family ID, version, header size, number of attributes, commands, groups
_CONTROL = {
    1: "H", 3: "I", 4: "I", 5: "I", 6: {None: {1: "I", 2: "I"}}, 7: {None: {2: "I"}}
}  # fmt: skip
# NL_POLICY_TYPE_ATTR_*
_POLICY = {1: "I", 2: "Q", 3: "Q", 4: "Q", 5: "Q", 6: "I", 7: "I", 8: "I", 9: "I", 10: "I", 12: "Q"}
_EXTACK = {2: "I", 4: _POLICY, 5: "I", 6: "I"}  # NLMSGERR_ATTR_*
_LINK = {
    4: "I", 5: "I", 7: "24I", 8: "8I", 10: "I", 13: "I", 23: "24Q", 27: "I", 29: "I", 30: "I",
    31: "I", 32: "I", 35: "I", 37: "I", 43: "I", 44: "I", 46: "I",
}  # fmt: skip
_IFADDR = {6: "4I", 8: "I", 9: "I"}  # IFA_CACHEINFO, IFA_FLAGS, IFA_RT_PRIORITY
_ROUTE = {3: "I", 4: "I", 6: "I", 9: "multipath", 12: "8I", 15: "I"}  # RTA_*
_MPTCP_INFO = "8BIIQQQ4BIQQQQ4BIII"
# struct tcp_info as far as tcpi_rehash.
_TCP_INFO = "8B24I4Q6I4Q2I2Q6I"
_SUBFLOW = {1: "I", 2: "I", 3: "I", 4: "Q", 5: "I", 6: "I", 7: "H", 8: "I"}
_CONNECTIONS = {2: _MPTCP_INFO, 15: "I", 21: "Q"}
_SUBFLOWS = {2: _TCP_INFO, 15: "I", 19: {3: _SUBFLOW}, 21: "Q"}
_DIAG = "4B4s32sIII5I"  # struct inet_diag_msg
_DIAG_REQUEST = "4BI4s32sIII"  # struct inet_diag_req_v2

# Of a message by the beginning of its name: the struct in front, then the attributes.
_ANSWERS: dict[str, tuple[str, Form]] = {
    "connections/": (_DIAG, _CONNECTIONS),
    "subflows/": (_DIAG, _SUBFLOWS),
    "family": (_GENL, _CONTROL),
    "link": ("BBHIII", _LINK),
    "address": ("4BI", _IFADDR),
    "route": ("8BI", _ROUTE),
    "lookup": ("8BI", _ROUTE),
}
_REQUESTS = {name: (_DIAG_REQUEST, {3: "I"}) for name in ("connections/", "subflows/")}
_ERROR, _DONE, _CAPPED = 2, 3, 0x100


def swapped(kind: str, name: str, message: bytes, order: str) -> bytes:
    """A message of a recording, ``order`` to the other order.

    kind   ``events`` or ``replies``        name   the message's name in the recording
    order  "little" or "big": of what comes in
    """
    turn = _Turn(order)
    length, type_, flags, _seq, _portid = turn.read(_NLMSG, message)
    header, rest = turn.struct(_NLMSG, message[:16]), message[16:length]
    layout = _layout(kind, name, name.endswith(".request"))
    if type_ == _ERROR:
        error, request = turn.struct("I", rest[:4]), rest[4:20]
        # The whole request comes back only with an error, and without NETLINK_CAP_ACK.
        whole = any(rest[:4]) and not flags & _CAPPED
        copied = rest[20 : 4 + turn.read(_NLMSG, request)[0]] if whole else b""
        begin = 20 + (len(copied) + 3 & ~3)
        return (
            header + error + turn.struct(_NLMSG, request)
            + turn.payload(_layout(kind, name, True), copied)
            + rest[20 + len(copied) : begin]
            + turn.attributes(_EXTACK, rest[begin:])
        )  # fmt: skip
    if type_ == _DONE:
        return header + turn.payload(("I", _EXTACK), rest)
    return header + turn.payload(layout, rest)


def _layout(kind: str, name: str, request: bool) -> tuple[str, Form]:
    if kind == "events":
        return _GENL, _EVENT
    tables = (_REQUESTS, _ANSWERS) if request else (_ANSWERS,)
    for table in tables:
        for start, layout in table.items():
            if name.startswith(start):
                return layout
    return _GENL, _PM


class _Turn:
    """From one byte order to the other."""

    def __init__(self, order: str) -> None:
        self.old, self.new = ("<", ">") if order == "little" else (">", "<")

    def read(self, layout: str, data: bytes) -> tuple[Any, ...]:
        return Struct(self.old + layout).unpack_from(data)

    def struct(self, layout: str, data: bytes) -> bytes:
        """What is longer than the struct stays as it is; of an array there may be less."""
        size = calcsize(self.old + layout)
        if len(data) < size:
            if not layout[:-1].isdigit():
                return data
            layout = f"{len(data) // calcsize(self.old + layout[-1])}{layout[-1]}"
            size = calcsize(self.old + layout)
        return Struct(self.new + layout).pack(*self.read(layout, data)) + data[size:]

    def payload(self, layout: tuple[str, Form], data: bytes) -> bytes:
        size = calcsize(self.old + layout[0])
        return self.struct(layout[0], data[:size]) + self.attributes(layout[1], data[size:])

    def attributes(self, form: Form, data: bytes) -> bytes:
        parts, offset = [], 0
        while len(data) - offset >= 4:
            length, kind = self.read("HH", data[offset : offset + 4])
            end = offset + (length + 3 & ~3)
            inside = form.get(kind & 0x3FFF, form.get(None))
            parts.append(self.struct("HH", data[offset : offset + 4]))
            parts.append(self.form(inside, data[offset + 4 : offset + length]))
            parts.append(data[offset + length : end])
            offset = end
        return b"".join(parts) + data[offset:]

    def form(self, form: Form, data: bytes) -> bytes:
        if form == "multipath":
            return self.hops(data)
        if isinstance(form, dict):
            return self.attributes(form, data)
        return data if form is None else self.struct(form, data)

    def hops(self, data: bytes) -> bytes:
        """struct rtnexthop, each with attributes of its own."""
        parts, offset = [], 0
        while offset < len(data):
            length = self.read("HBBI", data[offset:])[0]
            parts.append(self.payload(("HBBI", _ROUTE), data[offset : offset + length]))
            offset += length + 3 & ~3
        return b"".join(parts)


def here(kind: str, name: str, message: bytes, order: str) -> bytes:
    """The message as a kernel of this machine's byte order would have sent it."""
    return message if order == sys.byteorder else swapped(kind, name, message, order)
