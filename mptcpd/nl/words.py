"""Netlink messages in words, for ``--debug``.

Knows the values and attribute names of the stack; must not know where the words go. Imported only
when somebody wants to read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from mptcpd.nl import attrs, genl, mptcp, rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import ORDER
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.exchange import Names
from mptcpd.nl.messages import Message
from mptcpd.nl.mptcp_event import Event

_ROUTE = {
    value: name for name, value in vars(u).items() if name.startswith("RTM_") and value < 64
}  # fmt: skip
# The message type that answers a request of rtnetlink.
_NEW = {"RTM_GETLINK": u.RTM_NEWLINK, "RTM_GETADDR": u.RTM_NEWADDR, "RTM_GETROUTE": u.RTM_NEWROUTE}
_HEX = ("flags", "token")


def route(message: Message) -> str:
    """An rtnetlink notification: its name, then every field that is set."""
    name = _ROUTE.get(message.type, f"message type {message.type}")
    try:
        value = rtnl.parse(message.type, message.payload)
    except DecodeError as error:
        return f"{name}: malformed: {error}"
    if value is None:
        return f"{name}: {len(message.payload)} bytes"
    return f"{name}: {_fields(value._asdict())}"


def event(value: Event) -> str:
    """An mptcp_pm event: its name, then every field that is set."""
    fields = value._asdict()
    del fields["kind"]
    return f"{value.name}: {_fields(fields)}"


def command(name: str, body: bytes, names: Names | None) -> str:
    """A request: ``name``, and its attributes by name where the family's names are known."""
    if names is None:
        return name
    try:
        return f"{name} {_attributes(body, genl.HEADER, names)}".rstrip()
    except DecodeError as error:
        return f"{name}: malformed: {error}"


def answer(name: str, payload: bytes, names: Names | None) -> str:
    """An answer to the request ``name``."""
    kind = _NEW.get(name)
    if kind is not None:
        return route(Message(kind, 0, 0, 0, payload))
    if name == "CTRL_CMD_GETFAMILY":
        try:
            return f"CTRL_CMD_NEWFAMILY: {_fields(genl.parse_family(payload)._asdict())}"
        except DecodeError as error:
            return f"{name}: malformed: {error}"
    return command(name, payload, names)


def _attributes(payload: bytes, start: int, names: Mapping[int, Any]) -> str:
    parts = []
    for kind, data in attrs.split(payload, start):
        entry = names.get(kind, f"attribute {kind}")
        name, inner = entry if isinstance(entry, tuple) else (entry, {})
        short = name.removeprefix("MPTCP_PM_").removeprefix("ADDR_ATTR_").removeprefix("ATTR_")
        if inner:
            parts.append(f"{short} {{{_attributes(data, 0, inner)}}}")
        else:
            parts.append(f"{short} {_scalar(short, data)}")
    return " ".join(parts)


def _scalar(name: str, data: bytes) -> str:
    if name in ("ADDR4", "ADDR6") and len(data) in (4, 16):
        return str(ip_address(data))
    number = int.from_bytes(data, ORDER)
    if name == "FLAGS":
        known = [word for word, bit in mptcp.FLAGS.items() if number & bit]
        return ",".join(known) or str(number)
    return f"{number:08x}" if name == "TOKEN" else str(number)


def _fields(fields: dict[str, Any]) -> str:
    parts = []
    for name, value in fields.items():
        if value is None or value is False or value == ():
            continue
        if isinstance(value, bytes):
            value = ip_address(value) if len(value) in (4, 16) else value.hex()
        elif isinstance(value, tuple):
            value = ",".join(map(str, value))
        elif isinstance(value, dict):
            value = ",".join(f"{key}={found}" for key, found in value.items())
        elif name in _HEX and isinstance(value, int):
            value = f"{value:08x}" if name == "token" else hex(value)
        parts.append(name if value is True else f"{name} {value}")
    return " ".join(parts)
