"""sock_diag: MPTCP connections with their tokens, TCP subflows with their MPTCP state.

Knows linux/sock_diag.h, inet_diag.h and the ULP part of mptcp.h; must not know sockets of ours, nor
what a connection table does with what is found. IPv4 and IPv6 are asked for separately (the kernel
answers AF_UNSPEC with ENOENT); an IPv6 socket may hold IPv4-mapped addresses.

A dump of sockets is no snapshot: sockets that open or close while it runs may be in it or not, and
the kernel does not mark it as interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from mptcpd.nl import attrs
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import ORDER, Encoder, nlattr
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp import AF_INET, AF_INET6

# struct inet_diag_req_v2; ports and addresses in network order, the rest in host order.
_REQUEST = Struct("=BBBBI2s2s16s16sIII")
REQUEST = _REQUEST.size  # 56 bytes
# struct inet_diag_msg, read as if it were all in network order: right for ports and addresses,
# while the few other numbers are put right by ``_host`` where they are not 0.
_MESSAGE = Struct(">BBxxHH16s16sI8x12xII")
_HEADER = _MESSAGE.size  # 72 bytes
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
LISTENING = 1 << TCP_LISTEN

_INFO_FLAGS, _INFO_TOKEN = 8, 12  # offsets in struct mptcp_info
_INFO_LEAST = 16


class Path(NamedTuple):
    """Both ends of a socket: IPs of 4 or 16 bytes in network order, ports in host order."""

    local_ip: bytes
    local_port: int
    remote_ip: bytes
    remote_port: int


class Connection(NamedTuple):
    """An MPTCP socket.

    token  names the connection          state  TCP_*
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
    family: int, protocol: int, states: int, *, path: Path | None = None, token: int | None = None
) -> bytes:
    """A dump of the sockets of a family and protocol, or one socket by path or token.

    protocol  IPPROTO_TCP, or IPPROTO_MPTCP: which does not fit the u8 and goes into an attribute
    states    bits 1 << TCP_*
    token     MPTCP only: the one connection it names (idiag_cookie[0])
    """
    mptcp = protocol == u.IPPROTO_MPTCP
    # For TCP, too: the kernel tells of the ULP only to those who ask for tcp_info.
    ext = 1 << (u.INET_DIAG_INFO - 1)
    local_ip, local_port, remote_ip, remote_port = path or Path(b"", 0, b"", 0)
    header = _REQUEST.pack(
        family, protocol & 0xFF if mptcp else protocol, ext, 0, states,
        local_port.to_bytes(2, "big"), remote_port.to_bytes(2, "big"), local_ip, remote_ip,
        0, _NO_COOKIE if token is None else token, _NO_COOKIE if token is None else 0,
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
    path, state, ifindex, uid, inode = _socket(payload)
    start, length = _find(payload, _HEADER, len(payload), u.INET_DIAG_INFO, _INFO_AT)
    if length < _INFO_LEAST:
        raise DecodeError(f"INET_DIAG_INFO: {length} bytes, at least {_INFO_LEAST}")
    flags, token = _PAIR.unpack_from(payload, start + _INFO_FLAGS)
    return Connection(
        path, state, ifindex, uid, inode, token, flags, bytes(payload[start : start + length])
    )


def parse_subflow(payload: bytes) -> Subflow | None:
    """An answer to ``request`` for IPPROTO_TCP; None for a socket that is no MPTCP subflow.

    The MPTCP part is told only to CAP_NET_ADMIN: without it every answer is None.
    Errors  DecodeError.
    Source  net/mptcp/diag.c: subflow_get_info.
    """
    path, state, ifindex, _uid, _inode = _socket(payload)
    ulp = _find(payload, _HEADER, len(payload), u.INET_DIAG_ULP_INFO, _ULP_AT)
    if not ulp[1]:
        return None
    nest = _find(payload, ulp[0], ulp[0] + ulp[1], u.INET_ULP_INFO_MPTCP, {})
    if not nest[1]:
        return None
    found = attrs.parse(payload[nest[0] : nest[0] + nest[1]])

    def number(
        kind: int, name: str, reader: Callable[[str, bytes], int] = attrs.u32
    ) -> int:
        return reader(name, found[kind]) if kind in found else 0

    return Subflow(
        path,
        state,
        ifindex,
        number(u.MPTCP_SUBFLOW_ATTR_TOKEN_LOC, "MPTCP_SUBFLOW_ATTR_TOKEN_LOC"),
        number(u.MPTCP_SUBFLOW_ATTR_FLAGS, "MPTCP_SUBFLOW_ATTR_FLAGS"),
        number(u.MPTCP_SUBFLOW_ATTR_ID_LOC, "MPTCP_SUBFLOW_ATTR_ID_LOC", attrs.u8),
        number(u.MPTCP_SUBFLOW_ATTR_ID_REM, "MPTCP_SUBFLOW_ATTR_ID_REM", attrs.u8),
    )


_PAIR = Struct("=II")
# Where an attribute was found in a message of a given length: the kernel builds them all alike, so
# the next one is looked for there first.
_INFO_AT: dict[int, int] = {}
_ULP_AT: dict[int, int] = {}
_MOST = 64


def _socket(payload: bytes) -> tuple[Path, int, int, int, int]:
    if len(payload) < _HEADER:
        raise DecodeError(f"inet_diag_msg: {len(payload)} bytes instead of {_HEADER}")
    family, state, sport, dport, src, dst, ifindex, uid, inode = _MESSAGE.unpack_from(payload)
    if family == AF_INET:
        src, dst = src[:4], dst[:4]
    elif family != AF_INET6:
        raise DecodeError(f"inet_diag_msg: address family {family}")
    return Path(src, sport, dst, dport), state, _host(ifindex), _host(uid), _host(inode)


def _host(number: int) -> int:
    """A number that was read in network order, as the host-order number that it is."""
    return int.from_bytes(number.to_bytes(4, "big"), ORDER) if number else 0


def _find(
    payload: bytes, start: int, end: int, kind: int, known: dict[int, int]
) -> tuple[int, int]:
    """Offset and length of an attribute's payload; (0, 0) if it is not there."""
    guess = known.get(len(payload))
    if guess is not None:
        length, found = nlattr.unpack_from(payload, guess)
        if found & attrs.TYPE_MASK == kind and nlattr.size <= length <= end - guess:
            return guess + nlattr.size, length - nlattr.size
    offset = start
    while end - offset >= nlattr.size:
        length, found = nlattr.unpack_from(payload, offset)
        if length < nlattr.size or length > end - offset:
            raise DecodeError(f"attribute at offset {offset}: length {length}")
        if found & attrs.TYPE_MASK == kind:
            if len(known) < _MOST and offset % 4 == 0:
                known[len(payload)] = offset
            return offset + nlattr.size, length - nlattr.size
        offset += (length + 3) & ~3
    return 0, 0
