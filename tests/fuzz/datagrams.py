"""The datagram entry point: what the daemon does with a datagram of a netlink socket, all of it.

``take`` hands one datagram to everything that a socket could hand it to: the reader of events, the
notifications of rtnetlink, and the exchanges that wait for the answers of mptcp_pm, rtnetlink and
sock_diag. What comes out must be values or the documented errors, and the quick ways must come to
what the plain ones come to.
"""

from __future__ import annotations

from typing import Any

from mptcpd.nl import diag, genl, messages, mptcp, mptcp_event, mptcp_reader, rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError, KernelError, Overrun
from mptcpd.nl.exchange import Exchange
from mptcpd.nl.mptcp_event import Event
from tests.captures.scene import PORTID, SEQ
from tests.fuzz.parsers import bounded

FAMILY = 28  # of mptcp_pm, in the captures
SLOT = 4096
# What the answers of the captures answer: a dump and a command.
REQUESTS = [
    messages.build(FAMILY, u.NLM_F_REQUEST | flags, SEQ, PORTID, genl.header(3))
    for flags in (u.NLM_F_DUMP, u.NLM_F_ACK, 0)
]


class Batch:
    """What an event socket holds after one receive: datagrams in slots full of older bytes."""

    def __init__(self, datagrams: list[bytes], older: bytes = b"") -> None:
        self.slot = max([SLOT, *map(len, datagrams)])
        row = (older * self.slot)[: self.slot] if older else bytes(self.slot)
        self.memory = memoryview(bytearray(row * len(datagrams)))
        self.spans = []
        for index, datagram in enumerate(datagrams):
            start = index * self.slot
            self.memory[start : start + len(datagram)] = datagram
            self.spans.append((start, len(datagram)))

    def batch(self) -> list[tuple[int, int]]:
        return self.spans


class Hasty:
    """Takes no event quickly, but is offered all: what it is offered must be of the right kind."""

    def created(
        self, token: int, path: bytes, flags: int | None, server_side: int | None
    ) -> bool:
        assert len(path) in (12, 36)
        return False

    def established(self, token: int) -> bool:
        return False

    def closed(self, token: int) -> bool:
        return False


class Entry:
    """Takes datagrams; counts what became of them."""

    def __init__(self) -> None:
        self._batch = Batch([b""])
        self._memory = self._batch.memory
        self._reader = mptcp_reader.EventReader(self._batch, FAMILY)
        self._hasty = Hasty()
        self.inputs = self.events = self.values = self.refused = 0

    def take(self, datagram: bytes) -> None:
        """Errors: AssertionError, and whatever no parser may raise: a finding."""
        self.inputs += 1
        with bounded(len(datagram)):
            self._events(datagram)
            self._notifications(datagram)
            self._answers(datagram)

    def _events(self, datagram: bytes) -> None:
        # What lay behind a shorter datagram is left there, as in the socket's own memory.
        length = min(len(datagram), SLOT)
        self._memory[:length] = datagram[:length]
        self._batch.spans = [(0, length)]
        events: list[Event] = []
        errors: list[str] = []
        assert self._reader.receive(
            events.append, lambda error: errors.append(str(error)), self._hasty
        ) == 1  # fmt: skip
        plain, said = events_of([datagram[:length]])
        assert (events, errors) == (plain, said)
        self.events += len(events)

    def _notifications(self, datagram: bytes) -> None:
        try:
            for message in messages.split(datagram):
                self._message(message.type, message.payload)
        except DecodeError as error:
            assert str(error)
            self.refused += 1

    def _message(self, kind: int, payload: bytes) -> None:
        for parser in _BY_TYPE.get(kind, _OTHERS):
            try:
                parser(payload)
            except DecodeError as error:
                assert str(error)
                self.refused += 1
            else:
                self.values += 1

    def _answers(self, datagram: bytes) -> None:
        for request in REQUESTS:
            exchange = Exchange("COMMAND", request, names=mptcp.NAMES)
            try:
                exchange.feed(datagram)
            except (DecodeError, KernelError, Overrun) as error:
                assert str(error)
            assert sum(map(len, exchange.replies)) <= len(datagram)


def events_of(datagrams: list[bytes], family: int = FAMILY) -> tuple[list[Event], list[str]]:
    """Events and errors of datagrams, message by message with the plain parsers."""
    events, errors = [], []
    for datagram in datagrams:
        try:
            for message in messages.split(datagram):
                if message.type != family:
                    continue
                try:
                    events.append(mptcp_event.parse_plain(message.payload))
                except DecodeError as error:
                    errors.append(str(error))
        except DecodeError as error:
            errors.append(str(error))
    return events, errors


def _route(kind: int) -> Any:
    return (lambda payload: rtnl.parse(kind, payload),)


# Who reads a message of a type; the reader of events has its own way.
_BY_TYPE: dict[int, Any] = {
    u.SOCK_DIAG_BY_FAMILY: (diag.parse_connection, diag.parse_subflow),
    u.NLMSG_ERROR: (), u.NLMSG_DONE: (),
    u.GENL_ID_CTRL: (genl.parse_family,),
    FAMILY: (mptcp.parse_address, mptcp.parse_limits, mptcp_event.unknown),
    **{
        kind: _route(kind)
        for kind in (u.RTM_NEWLINK, u.RTM_DELLINK, u.RTM_NEWADDR, u.RTM_DELADDR, u.RTM_NEWROUTE,
                     u.RTM_DELROUTE)
    },
}  # fmt: skip
_OTHERS = _route(0)
