"""Generic netlink: its header, and what nlctrl says of a family and its groups.

Knows linux/genetlink.h; must not know what any family does, nor sockets.
"""

from __future__ import annotations

from typing import NamedTuple

from mptcpd.nl import attrs
from mptcpd.nl._attrs import Encoder, genlmsghdr
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.uapi import (
    CTRL_ATTR_FAMILY_ID,
    CTRL_ATTR_FAMILY_NAME,
    CTRL_ATTR_MAXATTR,
    CTRL_ATTR_MCAST_GROUPS,
    CTRL_ATTR_MCAST_GRP_ID,
    CTRL_ATTR_MCAST_GRP_NAME,
    CTRL_ATTR_VERSION,
    CTRL_CMD_GETFAMILY,
    CTRL_CMD_NEWFAMILY,
    GENL_NAMSIZ,
)

HEADER = genlmsghdr.size  # 4 bytes


class Family(NamedTuple):
    """A generic netlink family: its message type ``id`` and the IDs of its multicast groups."""

    name: str
    id: int
    version: int
    maxattr: int
    groups: dict[str, int]


def header(command: int, version: int = 1) -> bytes:
    """struct genlmsghdr."""
    return genlmsghdr.pack(command, version, 0)


def command(payload: bytes) -> int:
    """The command byte of a message's payload. Errors: DecodeError if no header is there."""
    if len(payload) < HEADER:
        raise DecodeError(f"genlmsghdr: {len(payload)} bytes instead of {HEADER}")
    return payload[0]


def get_family(name: str) -> bytes:
    """Ask nlctrl for a family by name; the answer goes to ``parse_family``.

    Errors  ValueError for a name that does not fit into GENL_NAMSIZ - 1 bytes.
    """
    text = name.encode()
    if not 0 < len(text) < GENL_NAMSIZ:
        raise ValueError(f"family name {name!r} has {len(text)} bytes, at most {GENL_NAMSIZ - 1}")
    encoder = Encoder(64).start(header(CTRL_CMD_GETFAMILY))
    return encoder.data(CTRL_ATTR_FAMILY_NAME, text + b"\0").finish()


def parse_family(payload: bytes) -> Family:
    """nlctrl's CTRL_CMD_NEWFAMILY.

    Errors  DecodeError for another command, a missing name or id, a malformed group.
    Source  net/netlink/genetlink.c: ctrl_fill_info.
    """
    if command(payload) != CTRL_CMD_NEWFAMILY:
        raise DecodeError(f"nlctrl answered with command {payload[0]}, not CTRL_CMD_NEWFAMILY")
    found = attrs.parse(payload, HEADER)
    if CTRL_ATTR_FAMILY_ID not in found or CTRL_ATTR_FAMILY_NAME not in found:
        raise DecodeError("nlctrl's answer lacks CTRL_ATTR_FAMILY_ID or CTRL_ATTR_FAMILY_NAME")
    version, maxattr = found.get(CTRL_ATTR_VERSION), found.get(CTRL_ATTR_MAXATTR)
    groups: dict[str, int] = {}
    for _index, nest in attrs.split(found.get(CTRL_ATTR_MCAST_GROUPS, b"")):
        group = attrs.parse(nest)
        if CTRL_ATTR_MCAST_GRP_NAME not in group or CTRL_ATTR_MCAST_GRP_ID not in group:
            raise DecodeError("nlctrl's answer has a group without name or ID")
        name = attrs.string("CTRL_ATTR_MCAST_GRP_NAME", group[CTRL_ATTR_MCAST_GRP_NAME])
        groups[name] = attrs.u32("CTRL_ATTR_MCAST_GRP_ID", group[CTRL_ATTR_MCAST_GRP_ID])
    return Family(
        attrs.string("CTRL_ATTR_FAMILY_NAME", found[CTRL_ATTR_FAMILY_NAME]),
        attrs.u16("CTRL_ATTR_FAMILY_ID", found[CTRL_ATTR_FAMILY_ID]),
        0 if version is None else attrs.u32("CTRL_ATTR_VERSION", version),
        0 if maxattr is None else attrs.u32("CTRL_ATTR_MAXATTR", maxattr),
        groups,
    )
