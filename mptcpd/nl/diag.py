"""sock_diag: MPTCP connections with their tokens, TCP subflows with their MPTCP state.

Knows linux/sock_diag.h, inet_diag.h and the ULP part of mptcp.h; must not know sockets of ours, nor
what a connection table does with what is found. IPv4 and IPv6 are asked for separately (the kernel
answers AF_UNSPEC with ENOENT); an IPv6 socket may hold IPv4-mapped addresses.

A dump of sockets is no snapshot: sockets that open or close while it runs may be in it or not, and
the kernel does not mark it as interrupted.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from mptcpd.nl import attrs
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import Encoder, nlattr
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from mptcpd.nl.shapes import HEADER, Shape

# struct inet_diag_req_v2; ports and addresses in network order, the rest in host order.
_REQUEST = Struct("=BBBBI2s2s16s16sIII")
REQUEST = _REQUEST.size  # 56 bytes
# struct inet_diag_msg; ports and addresses in network order, the rest in host order.
_INET_DIAG_MSG = Struct("=BBxx2s2s16s16sI8x12xII")
MESSAGE = _INET_DIAG_MSG.size  # 72 bytes
_NO_COOKIE = 0xFFFFFFFF
_ENCODER = Encoder(128)

TCP_ESTABLISHED, TCP_SYN_SENT, TCP_SYN_RECV, TCP_FIN_WAIT1, TCP_FIN_WAIT2 = 1, 2, 3, 4, 5
TCP_TIME_WAIT, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_LISTEN, TCP_CLOSING = 6, 7, 8, 9, 10, 11
TCP_NEW_SYN_RECV = 12
# All states (net/tcp_states.h) but those that name no connection: listeners, and what is left of
# connections that are over or not yet there.
CONNECTED = 0xFFF & ~sum(
    1 << state for state in (TCP_SYN_SENT, TCP_SYN_RECV, TCP_TIME_WAIT, TCP_CLOSE, TCP_LISTEN)
)
# Subflows: those that are connected, and those that are on their way.
SUBFLOWS = CONNECTED | 1 << TCP_SYN_SENT
LISTENING = 1 << TCP_LISTEN

_INFO_FLAGS, _INFO_TOKEN = 8, 12  # offsets in struct mptcp_info
_INFO_LEAST = 16
_INFO_SEQ = Struct("=16xQQ")  # write_seq, snd_una
_INFO_RECEIVED = Struct("=64xQ16xI")  # bytes_received, last_data_recv


class Path(NamedTuple):
    """Both ends of a socket: IPs of 4 or 16 bytes in network order, ports in host order."""

    local_ip: bytes
    local_port: int
    remote_ip: bytes
    remote_port: int


class Connection(NamedTuple):
    """An MPTCP socket.

    token  names the connection; 0 once the kernel has given it back (a peer's MP_FASTCLOSE, or the
           end of the connection while the dump ran: net/mptcp/token.c, mptcp_token_destroy)
    state  TCP_*
    inode  0 while no file refers to it: not accepted yet, or closed by its program
    flags  MPTCP_INFO_FLAG_*             uid    of the program that opened it
    info   struct mptcp_info as sent; its length tells the kernel's version of it
    """

    path: Path
    state: int
    ifindex: int
    uid: int
    inode: int
    token: int
    flags: int
    info: bytes

    @property
    def closed(self) -> bool:
        """Whether its program has closed it, while the kernel still sends what was left to send.

        MPTCP_EVENT_CLOSED was sent then. A socket that waits to be accepted has no inode either,
        but is in none of the states that a close leads to.
        """
        return not self.inode and self.state not in (TCP_ESTABLISHED, TCP_CLOSE_WAIT)

    @property
    def outstanding(self) -> int:
        """Bytes that its program has written and the peer has not confirmed."""
        if len(self.info) < _INFO_SEQ.size:
            return 0
        written, confirmed = _INFO_SEQ.unpack_from(self.info)
        return int(written - confirmed) & 0xFFFF_FFFF_FFFF_FFFF

    @property
    def received(self) -> tuple[int, int] | None:
        """Bytes received, and how many milliseconds ago the last came; None before Linux 6.10."""
        if len(self.info) < _INFO_RECEIVED.size:
            return None
        received, ago = _INFO_RECEIVED.unpack_from(self.info)
        return received, ago


class Subflow(NamedTuple):
    """A TCP socket that is a subflow of an MPTCP connection.

    token      of the connection on our side        flags  MPTCP_SUBFLOW_FLAG_*
    local_id, remote_id  address IDs, 0 for the first subflow
    """

    path: Path
    state: int
    ifindex: int
    token: int
    flags: int
    local_id: int
    remote_id: int


def request(
    family: int,
    protocol: int,
    states: int,
    *,
    path: Path | None = None,
    ifindex: int = 0,
    token: int | None = None,
) -> bytes:
    """A dump of the sockets of a family and protocol, or one socket by path or token.

    protocol  IPPROTO_TCP, or IPPROTO_MPTCP: which does not fit the u8 and goes into an attribute
    states    bits 1 << TCP_*
    ifindex   of the interface that the socket with this path is bound to: without it the kernel
              finds only one that is bound to none (net/ipv4/inet_hashtables.c: inet_match)
    token     MPTCP only: the one connection it names (idiag_cookie[0])
    """
    mptcp = protocol == u.IPPROTO_MPTCP
    # For TCP, too: the kernel tells of the ULP only to those who ask for tcp_info.
    ext = 1 << (u.INET_DIAG_INFO - 1)
    local_ip, local_port, remote_ip, remote_port = path or Path(b"", 0, b"", 0)
    header = _REQUEST.pack(
        family, protocol & 0xFF if mptcp else protocol, ext, 0, states,
        local_port.to_bytes(2, "big"), remote_port.to_bytes(2, "big"), local_ip, remote_ip,
        ifindex, _NO_COOKIE if token is None else token, _NO_COOKIE if token is None else 0,
    )  # fmt: skip
    encoder = _ENCODER.start(header)
    if mptcp:
        encoder.u32(u.INET_DIAG_REQ_PROTOCOL, protocol)
    return encoder.finish()


def parse_connection(payload: bytes) -> Connection:
    """An answer to ``request`` for IPPROTO_MPTCP.

    Errors  DecodeError: too short, no INET_DIAG_INFO, or one without a token.
    Source  net/mptcp/mptcp_diag.c: mptcp_diag_get_info; struct mptcp_info may grow.
    """
    known = _INFO_AT.get(len(payload))
    values = None if known is None else known[0].read(payload)
    if known is None or values is None:
        return _connection_plain(payload)
    state, sport, dport, src, dst, ifindex, uid, inode, flags, token = values
    path = Path(src, _BE16(sport)[0], dst, _BE16(dport)[0])
    return Connection(path, state, ifindex, uid, inode, token, flags, bytes(payload[known[1]]))


def parse_subflow(payload: bytes) -> Subflow | None:
    """An answer to ``request`` for IPPROTO_TCP; None for a socket that is no MPTCP subflow.

    The MPTCP part is told only to CAP_NET_ADMIN: without it every answer is None.
    Errors  DecodeError.
    Source  net/mptcp/diag.c: subflow_get_info.
    """
    known = _ULP_AT.get(len(payload))
    values = None if known is None else known.read(payload)
    if values is None:
        return _subflow_plain(payload)
    state, sport, dport, src, dst, ifindex, token, flags, local_id, remote_id = values
    path = Path(src, _BE16(sport)[0], dst, _BE16(dport)[0])
    return Subflow(path, state, ifindex, token, flags, local_id, remote_id)


_BE16 = Struct(">H").unpack
_PAIR = Struct("=II")
# By the length of the message: the kernel builds them all alike. 1.5 us a message instead of 4 (a
# connection) and 10 (a subflow), measured.
_INFO_AT: dict[int, tuple[Shape, slice]] = {}
_ULP_AT: dict[int, Shape] = {}
_MOST = 64
# What both want of inet_diag_msg, by family; the family itself is a part of the shape.
_FAMILY = (0, "B")
_ENDS = {
    AF_INET: [(1, "B"), (4, "2s"), (6, "2s"), (8, "4s"), (24, "4s"), (40, "I")],
    AF_INET6: [(1, "B"), (4, "2s"), (6, "2s"), (8, "16s"), (24, "16s"), (40, "I")],
}
_UID_INODE = [(64, "I"), (68, "I")]
_SUBFLOW = {
    u.MPTCP_SUBFLOW_ATTR_TOKEN_LOC: ("MPTCP_SUBFLOW_ATTR_TOKEN_LOC", attrs.u32, "I"),
    u.MPTCP_SUBFLOW_ATTR_FLAGS: ("MPTCP_SUBFLOW_ATTR_FLAGS", attrs.u32, "I"),
    u.MPTCP_SUBFLOW_ATTR_ID_LOC: ("MPTCP_SUBFLOW_ATTR_ID_LOC", attrs.u8, "B"),
    u.MPTCP_SUBFLOW_ATTR_ID_REM: ("MPTCP_SUBFLOW_ATTR_ID_REM", attrs.u8, "B"),
}


def _connection_plain(payload: bytes) -> Connection:
    """As ``parse_connection``, attribute by attribute; remembers the shape."""
    family, path, state, ifindex, uid, inode = _socket(payload)
    found, places = walk(payload, MESSAGE, len(payload))
    start, length = found.get(u.INET_DIAG_INFO, (0, 0))
    if length < _INFO_LEAST:
        raise DecodeError(f"INET_DIAG_INFO: {length} bytes, at least {_INFO_LEAST}")
    flags, token = _PAIR.unpack_from(payload, start + _INFO_FLAGS)
    if len(_INFO_AT) < _MOST:
        values = [(start + _INFO_FLAGS, "I"), (start + _INFO_TOKEN, "I")]
        shape = Shape(payload, [_FAMILY, *places], _ENDS[family] + _UID_INODE + values)
        _INFO_AT[len(payload)] = shape, slice(start, start + length)
    return Connection(
        path, state, ifindex, uid, inode, token, flags, bytes(payload[start : start + length])
    )


def _subflow_plain(payload: bytes) -> Subflow | None:
    """As ``parse_subflow``, attribute by attribute; remembers the shape."""
    family, path, state, ifindex, _uid, _inode = _socket(payload)
    found, places = walk(payload, MESSAGE, len(payload))
    ulp, length = found.get(u.INET_DIAG_ULP_INFO, (0, 0))
    found, more = walk(payload, ulp, ulp + length)
    nest, length = found.get(u.INET_ULP_INFO_MPTCP, (0, 0))
    if not length:
        return None
    found, most = walk(payload, nest, nest + length)
    numbers, values = [], []
    for kind, (name, reader, form) in _SUBFLOW.items():
        start, length = found.get(kind, (0, 0))
        numbers.append(reader(name, payload[start : start + length]) if start else 0)
        values.append((start, form))
    if len(_ULP_AT) < _MOST and found.keys() >= _SUBFLOW.keys():
        fixed = [_FAMILY, *places, *more, *most]
        _ULP_AT[len(payload)] = Shape(payload, fixed, _ENDS[family] + values)
    return Subflow(path, state, ifindex, *numbers)


def _socket(payload: bytes) -> tuple[int, Path, int, int, int, int]:
    if len(payload) < MESSAGE:
        raise DecodeError(f"inet_diag_msg: {len(payload)} bytes instead of {MESSAGE}")
    family, state, sport, dport, src, dst, ifindex, uid, inode = _INET_DIAG_MSG.unpack_from(payload)
    if family == AF_INET:
        src, dst = src[:4], dst[:4]
    elif family != AF_INET6:
        raise DecodeError(f"inet_diag_msg: address family {family}")
    path = Path(src, _BE16(sport)[0], dst, _BE16(dport)[0])
    return family, path, state, ifindex, uid, inode


def walk(
    payload: bytes, start: int, end: int
) -> tuple[dict[int, tuple[int, int]], list[tuple[int, str]]]:
    """The attributes from ``start`` to ``end``: offset and length of each payload, by type; and
    where their headers are, for ``Shape``. A type seen twice keeps its last payload.

    Errors  DecodeError.
    """
    found, places = {}, []
    while end - start >= nlattr.size:
        length, kind = nlattr.unpack_from(payload, start)
        if length < nlattr.size or length > end - start:
            raise DecodeError(f"attribute at offset {start}: length {length}")
        found[kind & attrs.TYPE_MASK] = start + nlattr.size, length - nlattr.size
        places.append((start, HEADER))
        start += (length + 3) & ~3
    return found, places
