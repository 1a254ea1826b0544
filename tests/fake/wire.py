"""Netlink as the kernel reads and writes it: requests taken apart, answers put together.

Knows struct nlmsghdr, nlattr, nlmsgerr and extended acks; must not know families. It is written
anew here, in plain form: a fake that used the code under test would share its faults.

Source  net/netlink/af_netlink.c: netlink_ack, netlink_dump; lib/nlattr.c (Linux 6.18).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from struct import Struct
from typing import NamedTuple

from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError

_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
HEADER = _HEADER.size
# What a dump's datagrams hold at most; the kernel's have 32 KiB, which few tests would fill.
_PAGE = 2048
POLICY = "Attribute failed policy validation"

Payload = bytes | list[tuple[int, "Payload"]]


class Attribute(NamedTuple):
    """An attribute of a request. ``offset``: of its header, from the request's first byte."""

    kind: int
    offset: int
    data: bytes


class Request(NamedTuple):
    """A request. ``header``: the family's own, of the size that ``attributes`` was told."""

    kind: int
    flags: int
    seq: int
    portid: int
    whole: bytes

    @property
    def body(self) -> bytes:
        return self.whole[HEADER:]

    @property
    def is_dump(self) -> bool:
        return self.flags & u.NLM_F_DUMP == u.NLM_F_DUMP

    def attributes(self, header: int) -> list[Attribute]:
        return walk(self.whole, HEADER + header, len(self.whole))


def requests(datagram: bytes) -> list[Request]:
    """The requests of a datagram; what follows an impossible length is not looked at."""
    found, offset = [], 0
    while len(datagram) - offset >= HEADER:
        length, kind, flags, seq, portid = _HEADER.unpack_from(datagram, offset)
        if not HEADER <= length <= len(datagram) - offset:
            break
        found.append(Request(kind, flags, seq, portid, datagram[offset : offset + length]))
        offset += (length + 3) & ~3
    return found


def walk(whole: bytes, start: int, end: int) -> list[Attribute]:
    """The attributes between two offsets."""
    found = []
    while end - start >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(whole, start)
        if not _ATTRIBUTE.size <= length <= end - start:
            break
        found.append(Attribute(kind & 0x3FFF, start, whole[start + 4 : start + length]))
        start += (length + 3) & ~3
    return found


def nested(whole: bytes, nest: Attribute) -> list[Attribute]:
    """The attributes inside one, with offsets that count from the request's first byte."""
    return walk(whole, nest.offset + 4, nest.offset + 4 + len(nest.data))


class Refusal(Exception):
    """The kernel says no: errno, words, and the extended ack's further attributes."""

    late = False  # found out when a dump had begun: its end carries it

    def __init__(self, number: int, words: str = "", *more: tuple[int, Payload]) -> None:
        super().__init__(number, words)
        self.number, self.words, self.more = number, words, more


# Type -> what its payload is: an integer or bytes of this size (negative: a signed integer), or a
# nest with a policy of its own.
Policy = Mapping[int, "int | Policy"]


def check(
    whole: bytes, attributes: Iterable[Attribute], policy: Policy, *, strict: bool = False
) -> dict[int, Attribute]:
    """By type, the last of each that the policy knows. Errors: Refusal, for the first bad one.

    strict  as dumps are checked: nothing may be there that the policy does not know. Otherwise it
            is skipped, and an integer may be longer than it should.
    """
    found = {}
    for one in attributes:
        wanted = policy.get(one.kind)
        offset = (u.NLMSGERR_ATTR_OFFS, number(one.offset, 4))
        if wanted is None:
            if strict:
                beyond = one.kind > max(policy)
                words = "Unknown attribute type" if beyond else "Unsupported attribute"
                raise Refusal(errno.EINVAL, words, offset)
        elif isinstance(wanted, int):
            size = abs(wanted)
            told = (u.NLMSGERR_ATTR_POLICY, _told_policy(wanted))
            if strict and len(one.data) != size:
                raise Refusal(errno.EINVAL, "invalid attribute length", offset, told)
            if len(one.data) < size:
                raise Refusal(errno.ERANGE, POLICY, offset, told)
        else:
            check(whole, nested(whole, one), wanted, strict=strict)
        if wanted is not None:
            found[one.kind] = one
    return found


def _told_policy(size: int) -> list[tuple[int, Payload]]:
    """What an extended ack says of an attribute's policy (net/netlink/policy.c)."""
    if size < 0:
        # NL_POLICY_TYPE_ATTR_MIN_VALUE_S, _MAX_VALUE_S, _TYPE: NL_ATTR_TYPE_S32
        least = (1 << 64) - (1 << 8 * -size - 1)
        return [(2, number(least, 8)), (3, number(~least & (1 << 64) - 1, 8)), (1, number(8, 4))]
    if size not in _INTEGERS:
        # NL_POLICY_TYPE_ATTR_MIN_LENGTH, _MAX_LENGTH, _TYPE: NL_ATTR_TYPE_BINARY
        return [(6, number(size, 4)), (7, number(size, 4)), (1, number(11, 4))]
    most = (1 << 8 * size) - 1
    # NL_POLICY_TYPE_ATTR_MIN_VALUE_U, _MAX_VALUE_U, _TYPE
    return [(4, number(0, 8)), (5, number(most, 8)), (1, number(_INTEGERS[size], 4))]


_INTEGERS = {1: 2, 2: 3, 4: 4}  # bytes -> NL_ATTR_TYPE_U8, _U16, _U32


def missing(kind: int, nest: Attribute | None = None) -> Refusal:
    """An attribute that must be there (NL_REQ_ATTR_CHECK): EINVAL without words."""
    more: list[tuple[int, Payload]] = [(u.NLMSGERR_ATTR_MISS_TYPE, number(kind, 4))]
    if nest is not None:
        more.append((u.NLMSGERR_ATTR_MISS_NEST, number(nest.offset, 4)))
    return Refusal(errno.EINVAL, "", *more)


def refusal(
    error: KernelError, found: Mapping[int, Attribute], names: Mapping[str, int]
) -> Refusal:
    """What a table refused with, which names the attribute that it means."""
    kind = names.get(error.attribute or "", -1)
    more: list[tuple[int, Payload]] = []
    if kind in found:
        more.append((u.NLMSGERR_ATTR_OFFS, number(found[kind].offset, 4)))
    refused = Refusal(error.errno, error.words or "", *more)
    refused.late = True
    return refused


def number(value: int, size: int, order: str = "host") -> bytes:
    """An integer of an attribute."""
    if order == "big":
        return value.to_bytes(size, "big")
    return Struct({1: "=B", 2: "=H", 4: "=I", 8: "=Q"}[size]).pack(value)


def integer(attribute: Attribute, size: int) -> int:
    """What an integer's attribute holds; what is longer counts no more than the kernel lets it."""
    return int(Struct({1: "=B", 2: "=H", 4: "=I"}[size]).unpack_from(attribute.data)[0])


def build(attributes: Iterable[tuple[int, Payload]]) -> bytes:
    """Attributes one after the other, nests marked as such, all padded."""
    parts = []
    for kind, payload in attributes:
        if not isinstance(payload, bytes):
            payload, kind = build(payload), kind | u.NLA_F_NESTED
        parts.append(_ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) & 3))
    return b"".join(parts)


def message(kind: int, flags: int, seq: int, portid: int, payload: bytes) -> bytes:
    return _HEADER.pack(HEADER + len(payload), kind, flags, seq, portid) + payload


def answer(request: Request, kind: int, payload: bytes) -> bytes:
    """One message in answer to a request that is no dump."""
    return message(kind, 0, request.seq, request.portid, payload)


def ack(request: Request, refused: Refusal | None = None, *, capped: bool = True) -> bytes:
    """NLMSG_ERROR: done, or why not. ``capped``: the request is not sent back with an error."""
    flags = u.NLM_F_CAPPED if capped or refused is None else 0
    code = 0 if refused is None else -refused.number
    copy = request.whole[:HEADER] if flags else request.whole
    copy += bytes(-len(copy) & 3)
    tlvs = _tlvs(refused)
    return message(
        u.NLMSG_ERROR, flags | (u.NLM_F_ACK_TLVS if tlvs else 0), request.seq, request.portid,
        Struct("=i").pack(code) + copy + tlvs,
    )  # fmt: skip


def _tlvs(refused: Refusal | None) -> bytes:
    if refused is None:
        return b""
    words: list[tuple[int, Payload]] = []
    if refused.words:
        words.append((u.NLMSGERR_ATTR_MSG, refused.words.encode() + b"\0"))
    return build([*words, *refused.more])


def dump(
    request: Request, answers: Iterable[tuple[int, bytes]], refused: Refusal | None = None
) -> list[bytes]:
    """The datagrams of a dump: parts, and the end of it, which carries what went wrong."""
    datagrams, page = [], b""
    for kind, payload in answers:
        part = message(kind, u.NLM_F_MULTI, request.seq, request.portid, payload)
        part += bytes(-len(part) & 3)
        if page and len(page) + len(part) > _PAGE:
            datagrams.append(page)
            page = b""
        page += part
    if page:
        datagrams.append(page)
    code = 0 if refused is None else -refused.number
    tlvs = _tlvs(refused)
    flags = u.NLM_F_MULTI | (u.NLM_F_ACK_TLVS if tlvs else 0)
    end = Struct("=i").pack(code) + tlvs
    return [*datagrams, message(u.NLMSG_DONE, flags, request.seq, request.portid, end)]
