"""Which reply answers which request: sequence, port ID, multipart, acks and errors.

Knows the rules of a netlink conversation; must not know sockets: datagrams come in, payloads come
out. One Exchange serves one request.
"""

from __future__ import annotations

from collections.abc import Mapping

from mptcpd.nl import attrs, messages
from mptcpd.nl._attrs import nlattr, nlmsghdr
from mptcpd.nl.errors import KernelError, Overrun
from mptcpd.nl.uapi import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSG_MIN_TYPE,
    NLMSG_NOOP,
    NLMSG_OVERRUN,
)

# Attribute type -> (name, names of the attributes inside).
Names = Mapping[int, tuple[str, Mapping[int, str]]]


class Exchange:
    """The replies to one request.

    command      what was asked, for the error's text
    request      the whole message as sent: offsets of extended acks count from its first byte
    header       bytes of the family's header behind the nlmsghdr (4 for genetlink)
    names        the family's attribute names
    replies      payloads of the messages that answer, in order
    interrupted  the dump saw changes while it ran (NLM_F_DUMP_INTR): repeat it
    stray        messages that answer something else; they were dropped
    """

    __slots__ = (
        "_command", "_dump", "_header", "_names", "_portid", "_request", "_seq", "_wants_ack",
        "done", "interrupted", "replies", "stray",
    )  # fmt: skip

    def __init__(
        self, command: str, request: bytes, *, header: int = 4, names: Names | None = None
    ) -> None:
        message = next(messages.split(request))
        self._command = command
        self._request = request
        self._header = messages.HEADER + header
        self._names = names or {}
        self._seq, self._portid = message.seq, message.portid
        self._dump = message.flags & NLM_F_DUMP == NLM_F_DUMP
        self._wants_ack = bool(message.flags & NLM_F_ACK) or self._dump
        self.replies: list[bytes] = []
        self.interrupted = False
        self.stray = 0
        self.done = False

    def feed(self, datagram: bytes) -> bool:
        """Take a datagram that the kernel sent; True when the answer is complete.

        Errors  KernelError: refused. DecodeError: malformed. Overrun: the kernel lost a part.
        """
        if self._dump and not self.done and self._plain(datagram):
            return False
        for message in messages.split(datagram):
            if message.seq != self._seq or message.portid != self._portid or self.done:
                self.stray += 1
                continue
            if message.flags & NLM_F_DUMP_INTR:
                self.interrupted = True
            if message.type == NLMSG_ERROR:
                self._end(messages.parse_error(message.payload, message.flags))
            elif message.type == NLMSG_DONE:
                self._end(messages.parse_done(message.payload, message.flags))
            elif message.type == NLMSG_OVERRUN:
                raise Overrun(f"{self._command}: the kernel lost a part of the answer")
            elif message.type != NLMSG_NOOP:
                self.replies.append(message.payload)
                self.done = not self._wants_ack
        return self.done

    def _plain(self, datagram: bytes) -> bool:
        """Whether this is a part of a dump with nothing but answers in it, which then are taken.

        All datagrams of a long dump but the last are such: 0.4 instead of 1.4 us a message.
        """
        answers, offset, end = [], 0, len(datagram)
        while end - offset >= messages.HEADER:
            length, kind, flags, seq, portid = nlmsghdr.unpack_from(datagram, offset)
            if (
                kind < NLMSG_MIN_TYPE
                or seq != self._seq
                or portid != self._portid
                or flags & NLM_F_DUMP_INTR
                or not messages.HEADER <= length <= end - offset
            ):
                return False
            answers.append(datagram[offset + messages.HEADER : offset + length])
            offset += (length + 3) & ~3
        if offset < end:
            return False
        self.replies += answers
        return True

    def take(self) -> list[bytes]:
        """The replies so far, which are then forgotten: for dumps read as they come."""
        replies, self.replies = self.replies, []
        return replies

    def _end(self, ack: messages.Ack) -> None:
        self.done = True
        if ack.errno:
            attribute = blame(ack, self._request, self._header, self._names)
            raise KernelError(self._command, ack.errno, ack.words, attribute)


def blame(ack: messages.Ack, request: bytes, start: int, names: Names) -> str | None:
    """The name of the attribute that an extended ack complains about, or None.

    A missing attribute is named by its type and by the offset of the nest it should be in; a bad
    one by its offset. ``start`` is where the request's attributes begin. An attribute that
    ``names`` lacks is called by its number. Extended acks that point nowhere name nothing.
    Source  include/linux/netlink.h: NL_SET_BAD_ATTR, NL_REQ_ATTR_CHECK.
    """
    if ack.miss_type is not None:
        if ack.miss_nest is None:
            return _name(names, ack.miss_type)
        for offset, kind, _length in _walk(request, start, len(request)):
            if offset == ack.miss_nest:
                return _inner(names, kind, ack.miss_type)
        return f"number {ack.miss_type}"
    if ack.offset is None:
        return None
    for offset, kind, length in _walk(request, start, len(request)):
        if offset == ack.offset:
            return _name(names, kind)
        if offset < ack.offset < offset + length:
            for inner, inner_kind, _ in _walk(request, offset + nlattr.size, offset + length):
                if inner == ack.offset:
                    return _inner(names, kind, inner_kind)
    return None


def _name(names: Names, kind: int) -> str:
    return names[kind][0] if kind in names else f"number {kind}"


def _inner(names: Names, outer: int, kind: int) -> str:
    return names[outer][1].get(kind, f"number {kind}") if outer in names else f"number {kind}"


def _walk(request: bytes, start: int, end: int) -> list[tuple[int, int, int]]:
    """(offset, type, length) of each attribute of a request that we built ourselves."""
    offset, found = start, []
    while end - offset >= nlattr.size:
        length, kind = nlattr.unpack_from(request, offset)
        if length < nlattr.size:
            break  # what is no nest was looked into: the kernel's refusal counts, not its name
        found.append((offset, kind & attrs.TYPE_MASK, length))
        offset += (length + 3) & ~3
    return found
