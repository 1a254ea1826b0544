"""sock_diag for netlink sockets: who is subscribed to which multicast groups.

Knows linux/netlink_diag.h as far as that; must not know sockets of ours, nor processes.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from mptcpd.nl import attrs
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import ORDER
from mptcpd.nl.errors import DecodeError

_AF_NETLINK = 16
# struct netlink_diag_req: family, protocol, pad, inode, what to show, cookie; host byte order
_REQUEST = Struct("=BBHIIII")
REQUEST = _REQUEST.size
# struct netlink_diag_msg: family, type, protocol, state, portid, where it is connected to (portid,
# group), inode, cookie
_MESSAGE = Struct("=BBBBIIIIII")


class NetlinkSocket(NamedTuple):
    """A netlink socket of a process, or (portid and inode of no file) of the kernel.

    inode   that /proc/PID/fd names        groups  numbers of the groups that it has joined
    """

    protocol: int
    portid: int
    inode: int
    groups: tuple[int, ...]


def request(protocol: int) -> bytes:
    """A dump of the sockets of a netlink protocol (NETLINK_*) in this network namespace."""
    return _REQUEST.pack(_AF_NETLINK, protocol, 0, 0, u.NDIAG_SHOW_GROUPS, 0, 0)


def parse(payload: bytes) -> NetlinkSocket:
    """An answer to ``request``. Errors: DecodeError.

    A socket that has joined groups may come twice in a dump.
    Source  net/netlink/diag.c: sk_diag_fill. The groups are an array of unsigned long in host
            order: read as bytes on a big-endian machine, each long has its bits at its other end.
    """
    if len(payload) < _MESSAGE.size:
        raise DecodeError(f"netlink_diag_msg: {len(payload)} bytes instead of {_MESSAGE.size}")
    family, _type, protocol, _state, portid, _dst, _group, inode, *_cookie = _MESSAGE.unpack_from(
        payload
    )
    if family != _AF_NETLINK:
        raise DecodeError(f"netlink_diag_msg: address family {family}")
    bits = attrs.parse(payload, _MESSAGE.size).get(u.NETLINK_DIAG_GROUPS, b"")
    return NetlinkSocket(protocol, portid, inode, tuple(groups(bits)))


def groups(bits: bytes, order: str = ORDER, long: int = Struct("@L").size) -> list[int]:
    """The numbers, from 1, of the bits that are set in an array of longs."""
    found = []
    for start in range(0, len(bits), long):
        word = int.from_bytes(bits[start : start + long], "big" if order == "big" else "little")
        found += [8 * start + bit + 1 for bit in range(word.bit_length()) if word >> bit & 1]
    return found
