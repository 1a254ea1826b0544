"""How answers and notifications go wrong, on demand: what a socket gets instead of what was sent.

Each takes the datagrams of one answer (or of one notification) and gives what is to be received.
``MOODS`` has those that make sense for answers, ``RUMOURS`` those for notifications.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping

from mptcpd.nl import uapi as u
from tests.fake import wire
from tests.fake.sockets import Item

Mood = Callable[[list[Item]], list[Item]]
_LATE = 1.0  # seconds; less than a command waits


def enobufs(items: list[Item]) -> list[Item]:
    """The receive buffer was full: all of it is lost, and recv says so once."""
    return [Item(b"", error=errno.ENOBUFS)]


def eintr(items: list[Item]) -> list[Item]:
    """A signal came. (Python repeats what it calls itself, PEP 475; recvmmsg it does not call.)"""
    return [Item(b"", error=errno.EINTR), *items]


def eagain(items: list[Item]) -> list[Item]:
    """The descriptor was said to be readable, and is not."""
    return [Item(b"", error=errno.EAGAIN), *items]


def late(items: list[Item]) -> list[Item]:
    """The answer takes its time."""
    return [item._replace(at=_LATE) for item in items]


def never(items: list[Item]) -> list[Item]:
    """Nothing comes."""
    return []


def short(items: list[Item]) -> list[Item]:
    """The last datagram ends too soon."""
    return [*items[:-1], items[-1]._replace(data=items[-1].data[:-3])]


def no_header(items: list[Item]) -> list[Item]:
    """The last datagram is not even a header."""
    return [*items[:-1], items[-1]._replace(data=items[-1].data[:7])]


def impossible(items: list[Item]) -> list[Item]:
    """The last datagram's message says that it has no length."""
    return [*items[:-1], items[-1]._replace(data=bytes(4) + items[-1].data[4:])]


def too_long(items: list[Item]) -> list[Item]:
    """The last datagram is longer than any buffer of ours: it comes truncated."""
    return [*items[:-1], items[-1]._replace(data=items[-1].data + bytes(70_000))]


def interrupted(items: list[Item]) -> list[Item]:
    """The dump saw changes while it ran. For others than dumps: nothing happens."""
    return [item._replace(data=_flagged(item.data, u.NLM_F_DUMP_INTR)) for item in items]


def swapped(items: list[Item]) -> list[Item]:
    """The datagrams come in the other order."""
    return items[::-1]


def doubled(items: list[Item]) -> list[Item]:
    """Each comes twice, with the same sequence number."""
    return [item for item in items for _time in range(2)]


def stale(items: list[Item]) -> list[Item]:
    """An answer to an earlier question comes first."""
    return [item._replace(data=_numbered(item.data, 0)) for item in items] + items


def other_answer(items: list[Item]) -> list[Item]:
    """Only an answer to another question comes."""
    return [item._replace(data=_numbered(item.data, 0)) for item in items]


def foreign(items: list[Item]) -> list[Item]:
    """Somebody else, who knows what was asked, answers first: with a refusal."""
    seq, portid = wire.requests(items[0].data)[0][2:4]
    refused = (-errno.EPERM).to_bytes(4, sys.byteorder, signed=True) + bytes(16)
    lie = wire.message(u.NLMSG_ERROR, 0, seq, portid, refused)
    return [Item(lie, sender=4711), *items]


def noop(items: list[Item]) -> list[Item]:
    """A message that means nothing comes first."""
    seq, portid = wire.requests(items[0].data)[0][2:4]
    return [Item(wire.message(u.NLMSG_NOOP, 0, seq, portid, b"")), *items]


def overrun(items: list[Item]) -> list[Item]:
    """The kernel says that it has lost a part of the answer."""
    seq, portid = wire.requests(items[0].data)[0][2:4]
    return [Item(wire.message(u.NLMSG_OVERRUN, 0, seq, portid, b""))]


def refused(items: list[Item]) -> list[Item]:
    """No memory."""
    request = wire.requests(items[0].data)[0]
    return [Item(wire.ack(request, wire.Refusal(errno.ENOMEM)))]


def future(items: list[Item]) -> list[Item]:
    """As it is (``FakeKernel.future`` puts in what a later kernel says)."""
    return items


def unknown(items: list[Item]) -> list[Item]:
    """An event of a later kernel comes first: a command that nobody has heard of."""
    kind = wire.requests(items[0].data)[0].kind
    strange = bytes([77, 1, 0, 0]) + wire.build([(1, bytes(4)), (200, b"future")])
    return [Item(wire.message(kind, 0, 0, 0, strange)), *items]


def lost(items: list[Item]) -> list[Item]:
    """All of it is lost, and the next recv says so."""
    return [Item(b"", error=errno.ENOBUFS)]


def _flagged(datagram: bytes, flag: int) -> bytes:
    """All messages of a datagram with one more flag."""
    return b"".join(
        wire.message(each.kind, each.flags | flag, each.seq, each.portid, each.body)
        + bytes(-len(each.whole) & 3)
        for each in wire.requests(datagram)
    )


def _numbered(datagram: bytes, seq: int) -> bytes:
    """All messages of a datagram with another sequence number."""
    return b"".join(
        wire.message(each.kind, each.flags, seq, each.portid, each.body)
        + bytes(-len(each.whole) & 3)
        for each in wire.requests(datagram)
    )


def spurious(items: list[Item]) -> list[Item]:
    """The descriptor stays readable when all was read."""
    return [*items, Item(b"", error=errno.EAGAIN)]


_BOTH = (short, no_header, impossible, too_long, foreign, doubled, noop)
MOODS: Mapping[str, Mood] = {
    mood.__name__: mood
    for mood in (
        *_BOTH, eagain, enobufs, late, never, interrupted, swapped, stale, other_answer, overrun,
        refused, future,
    )
}  # fmt: skip
RUMOURS: Mapping[str, Mood] = {
    mood.__name__: mood for mood in (*_BOTH, eintr, lost, spurious, swapped, unknown)
}
