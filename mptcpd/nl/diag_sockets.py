"""sock_diag for people: MPTCP sockets and TCP sockets with everything that is worth showing.

Knows what ``diag`` knows, which reads the little that a connection table needs; must not know
sockets of ours, nor which socket belongs to which. The requests are ``diag.request``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple

from mptcpd.nl import uapi as u
from mptcpd.nl.diag import MESSAGE, Path, walk
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from mptcpd.nl.shapes import Shape


class MptcpSocket(NamedTuple):
    """The socket of an MPTCP connection.

    state   TCP_*                       ifindex  of the interface that it is bound to, or 0
    cookie  names the socket among all of its network namespace, for ever
    unread  bytes of data that wait for the program; unsent: that wait to be sent or confirmed
    uid     of the program that opened it; inode: 0 while no file refers to it
    flags   MPTCP_INFO_FLAG_*           token    names the connection
    info    struct mptcp_info as sent, for ``info.mptcp_info``
    """

    path: Path
    state: int
    ifindex: int
    cookie: int
    unread: int
    unsent: int
    uid: int
    inode: int
    flags: int
    token: int
    info: bytes


class TcpSocket(NamedTuple):
    """A TCP socket, perhaps a subflow. Fields as in MptcpSocket, but:

    inode   that of the connection's MPTCP socket, where this is a subflow
    ulp     whether the kernel told of its MPTCP part; if not, the four fields before info are 0
    flags   MPTCP_SUBFLOW_FLAG_*        local_id, remote_id  address IDs
    info    struct tcp_info as sent, empty where it was not sent
    """

    path: Path
    state: int
    ifindex: int
    cookie: int
    uid: int
    inode: int
    ulp: bool
    token: int
    flags: int
    local_id: int
    remote_id: int
    info: bytes


def parse_mptcp(payload: bytes) -> MptcpSocket:
    """An answer to ``diag.request`` for IPPROTO_MPTCP. Errors: DecodeError, as there."""
    values, info, _ulp = _read(payload, _MPTCP, _mptcp)
    state, sport, dport, local_ip, remote_ip, *rest = values
    path = Path(local_ip, _BE16(sport)[0], remote_ip, _BE16(dport)[0])
    return MptcpSocket._make((path, state, *rest, info))


def parse_tcp(payload: bytes) -> TcpSocket:
    """An answer to ``diag.request`` for IPPROTO_TCP.

    Which of a subflow's fields the kernel tells depends on it: before Linux 6.15 none of them to
    others than CAP_NET_ADMIN, but the inode to everybody.
    Errors  DecodeError.
    Source  net/ipv4/tcp_diag.c: tcp_diag_get_aux; net/mptcp/diag.c: subflow_get_info.
    """
    values, info, ulp = _read(payload, _TCP, _tcp)
    state, sport, dport, local_ip, remote_ip, ifindex, cookie, uid, inode, *rest = values
    path = Path(local_ip, _BE16(sport)[0], remote_ip, _BE16(dport)[0])
    token, flags, local_id, remote_id = rest if ulp else (0, 0, 0, 0)
    return TcpSocket(
        path, state, ifindex, cookie, uid, inode, ulp, token, flags, local_id, remote_id, info
    )


_BE16 = Struct(">H").unpack
_IP = {AF_INET: "4s", AF_INET6: "16s"}
_LEAST = 16  # bytes of struct mptcp_info up to and with the token
_SUBFLOW = {
    u.MPTCP_SUBFLOW_ATTR_TOKEN_LOC: (4, "I"),
    u.MPTCP_SUBFLOW_ATTR_FLAGS: (4, "I"),
    u.MPTCP_SUBFLOW_ATTR_ID_LOC: (1, "B"),
    u.MPTCP_SUBFLOW_ATTR_ID_REM: (1, "B"),
}

_Place = tuple[int, str]
# The shape of a message, where in it the info is, whether it tells of MPTCP; by length and family.
_Known = dict[tuple[int, int], tuple[Shape, slice, bool]]
_Learner = Callable[[bytes, int], tuple[Shape, slice, bool]]
_MPTCP: _Known = {}
_TCP: _Known = {}
_MOST = 64


def _read(payload: bytes, known: _Known, learn: _Learner) -> tuple[Any, bytes, bool]:
    """The values, the info, and whether MPTCP is told of.

    The kernel builds the messages of a dump all alike; another one is looked at piece by piece.
    """
    if len(payload) < MESSAGE:
        raise DecodeError(f"inet_diag_msg: {len(payload)} bytes instead of {MESSAGE}")
    key = len(payload), payload[0]
    place = known.get(key)
    values = None if place is None else place[0].read(payload)
    if place is None or values is None:
        if payload[0] not in _IP:
            raise DecodeError(f"inet_diag_msg: address family {payload[0]}")
        place = learn(payload, payload[0])
        if len(known) < _MOST:
            known[key] = place
        values = place[0].read(payload)
    return values, bytes(payload[place[1]]), place[2]


def _ends(family: int) -> list[_Place]:
    """State, ports, IPs, ifindex, cookie in struct inet_diag_msg."""
    form = _IP[family]
    return [(1, "B"), (4, "2s"), (6, "2s"), (8, form), (24, form), (40, "I"), (44, "Q")]


_FAMILY = (0, "B")
_QUEUES, _OWNER = [(56, "I"), (60, "I")], [(64, "I"), (68, "I")]


def _mptcp(payload: bytes, family: int) -> tuple[Shape, slice, bool]:
    found, places = walk(payload, MESSAGE, len(payload))
    start, length = found.get(u.INET_DIAG_INFO, (0, 0))
    if length < _LEAST:
        raise DecodeError(f"INET_DIAG_INFO: {length} bytes, at least {_LEAST}")
    values = [*_ends(family), *_QUEUES, *_OWNER, (start + 8, "I"), (start + 12, "I")]
    return Shape(payload, [_FAMILY, *places], values), slice(start, start + length), False


def _tcp(payload: bytes, family: int) -> tuple[Shape, slice, bool]:
    found, places = walk(payload, MESSAGE, len(payload))
    start, length = found.get(u.INET_DIAG_INFO, (0, 0))
    info = slice(start, start + length)
    values = [*_ends(family), *_OWNER]
    outer, length = found.get(u.INET_DIAG_ULP_INFO, (0, 0))
    found, more = walk(payload, outer, outer + length)
    nest, length = found.get(u.INET_ULP_INFO_MPTCP, (0, 0))
    found, most = walk(payload, nest, nest + length)
    for kind, (size, form) in _SUBFLOW.items():
        at, length = found.get(kind, (0, 0))
        if kind not in found:
            return Shape(payload, [_FAMILY, *places, *more, *most], values), info, False
        if length != size:
            raise DecodeError(f"attribute {kind} of a subflow: {length} bytes instead of {size}")
        values.append((at, form))
    return Shape(payload, [_FAMILY, *places, *more, *most], values), info, True
