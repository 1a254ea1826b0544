"""nlmsghdr: a datagram's messages; acknowledgements, errors with extended acks, ends of dumps.

Knows linux/netlink.h; must not know families, sockets, or which request a reply belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mptcpd.nl import attrs
from mptcpd.nl._attrs import ORDER, nlmsgerr, nlmsghdr
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.uapi import (
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLMSGERR_ATTR_COOKIE,
    NLMSGERR_ATTR_MISS_NEST,
    NLMSGERR_ATTR_MISS_TYPE,
    NLMSGERR_ATTR_MSG,
    NLMSGERR_ATTR_OFFS,
    NLMSGERR_ATTR_POLICY,
)

HEADER = nlmsghdr.size  # 16 bytes
_ERRNO = 4  # bytes of the error number that begins NLMSG_ERROR and NLMSG_DONE
_MAX_ERRNO = 4095  # include/linux/err.h: MAX_ERRNO


class Message(NamedTuple):
    """One netlink message: header fields in host byte order, payload without header and pad."""

    type: int
    flags: int
    seq: int
    portid: int
    payload: bytes


class Ack(NamedTuple):
    """What NLMSG_ERROR or NLMSG_DONE says. Absent parts of the extended ack are None.

    errno      0 or a positive error number
    words      the kernel's text
    offset     of the attribute it complains about, in bytes from the request's nlmsghdr
    miss_type  type of an attribute that is missing; miss_nest: offset of the nest it belongs in
    policy     the nest that tells what the attribute may be, as bytes
    cookie     bytes of the subsystem's own
    """

    errno: int
    words: str | None = None
    offset: int | None = None
    miss_type: int | None = None
    miss_nest: int | None = None
    policy: bytes | None = None
    cookie: bytes | None = None


def build(kind: int, flags: int, seq: int, portid: int, payload: bytes) -> bytes:
    """One message with its header: ``payload`` is the family's header and attributes."""
    return nlmsghdr.pack(HEADER + len(payload), kind, flags, seq, portid) + payload


def split(datagram: bytes) -> Iterator[Message]:
    """Yield the messages of a datagram in order.

    Errors  DecodeError, naming the offset, at the first message whose length is impossible; the
            messages before it have been yielded, those after it cannot be found any more.
    Source  linux/netlink.h: struct nlmsghdr, NLMSG_OK, NLMSG_NEXT.
    """
    offset, end = 0, len(datagram)
    while offset < end:
        if end - offset < HEADER:
            raise DecodeError(f"message at offset {offset}: {end - offset} bytes are no header")
        length, kind, flags, seq, portid = nlmsghdr.unpack_from(datagram, offset)
        if length < HEADER:
            raise DecodeError(f"message at offset {offset}: length {length} is below its header")
        if length > end - offset:
            raise DecodeError(
                f"message at offset {offset}: length {length}, but {end - offset} bytes are left"
            )
        payload = bytes(datagram[offset + HEADER : offset + length])
        yield Message(kind, flags, seq, portid, payload)
        offset += (length + 3) & ~3


def parse_error(payload: bytes, flags: int) -> Ack:
    """Payload of NLMSG_ERROR: errno, the request's header (or all of it), extended ack.

    With NETLINK_CAP_ACK (NLM_F_CAPPED) the TLVs start right after the copied header, without it
    after the copied message. The request is copied whole only for an error, and a plain ack
    (errno 0) holds its header alone (net/netlink/af_netlink.c: netlink_ack).
    Errors  DecodeError when the payload is too short for what its flags promise.
    """
    if len(payload) < nlmsgerr.size:
        raise DecodeError(f"NLMSG_ERROR of {len(payload)} bytes instead of {nlmsgerr.size}")
    error, length, *_ = nlmsgerr.unpack_from(payload)
    number = _positive("NLMSG_ERROR", error)
    if not flags & NLM_F_ACK_TLVS:
        return Ack(number)
    start = nlmsgerr.size
    if error and not flags & NLM_F_CAPPED:
        start += ((max(length, HEADER) + 3) & ~3) - HEADER
    if start > len(payload):
        raise DecodeError(f"NLMSG_ERROR: extended ack at offset {start} of {len(payload)} bytes")
    return _extended(number, payload, start)


def parse_done(payload: bytes, flags: int) -> Ack:
    """Payload of NLMSG_DONE: an errno if 4 bytes are there, then an extended ack if flagged.

    Errors  DecodeError when the payload holds one to three bytes or malformed TLVs.
    Source  net/netlink/af_netlink.c: netlink_dump_done.
    """
    if not payload:
        return Ack(0)
    if len(payload) < _ERRNO:
        raise DecodeError(f"NLMSG_DONE of {len(payload)} bytes instead of {_ERRNO}")
    error = int.from_bytes(payload[:_ERRNO], ORDER, signed=True)
    if error > 0:  # the return value of a dump that went well is its length
        error = 0
    number = _positive("NLMSG_DONE", error)
    if not flags & NLM_F_ACK_TLVS:
        return Ack(number)
    return _extended(number, payload, _ERRNO)


def _positive(name: str, error: int) -> int:
    if not -_MAX_ERRNO <= error <= 0:
        raise DecodeError(f"{name} carries {error}, which is not a negative error number")
    return -error


def _extended(errno: int, payload: bytes, start: int) -> Ack:
    found = attrs.parse(payload, start)

    def number(kind: int, name: str) -> int | None:
        return attrs.u32(name, found[kind]) if kind in found else None

    words = found.get(NLMSGERR_ATTR_MSG)
    return Ack(
        errno,
        None if words is None else attrs.string("NLMSGERR_ATTR_MSG", words),
        number(NLMSGERR_ATTR_OFFS, "NLMSGERR_ATTR_OFFS"),
        number(NLMSGERR_ATTR_MISS_TYPE, "NLMSGERR_ATTR_MISS_TYPE"),
        number(NLMSGERR_ATTR_MISS_NEST, "NLMSGERR_ATTR_MISS_NEST"),
        found.get(NLMSGERR_ATTR_POLICY),
        found.get(NLMSGERR_ATTR_COOKIE),
    )
