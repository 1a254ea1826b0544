"""Reads mptcp_pm events out of a receive buffer: the hot path.

Knows how a datagram that the kernel sent holds an event; must not know what events mean. A datagram
goes by the first of three ways that will have it:

quick   CREATED, ESTABLISHED and CLOSED of a known shape, which are nearly all there is: only what
        is needed of them is read, if somebody wants it so (``Quick``).
known   A known shape is unpacked where it lies, by one compiled layout.
plain   Anything else goes through the plain parsers, message by message.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Protocol

from mptcpd.nl import genl, messages, mptcp_event
from mptcpd.nl._attrs import nlattr
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp_event import Event
from mptcpd.nl.uapi import (
    MPTCP_ATTR_TOKEN,
    MPTCP_EVENT_CLOSED,
    MPTCP_EVENT_CREATED,
    MPTCP_EVENT_ESTABLISHED,
)

# nlmsg_len, nlmsg_type of nlmsghdr; cmd of genlmsghdr; the first attribute's header and payload
_HEADS = Struct("=IH10xB3xII")
_BODY = messages.HEADER + genl.HEADER  # 20 bytes, at which the attributes start
(_TOKEN,) = Struct("=I").unpack(nlattr.pack(8, MPTCP_ATTR_TOKEN))
_MOST = (MPTCP_EVENT_CREATED, MPTCP_EVENT_ESTABLISHED, MPTCP_EVENT_CLOSED)


class Quick(Protocol):
    """Takes the events of every connection's life without an Event being made of them.

    Each returns whether it took it; if not, the whole event is handed on as usual.
    """

    def created(
        self, token: int, path: bytes, flags: int | None, server_side: int | None
    ) -> bool:
        """``path``: as ``mptcp_event.opened`` returns it."""
        ...

    def established(self, token: int) -> bool: ...
    def closed(self, token: int) -> bool: ...


class Batches(Protocol):
    """What is needed of ``sock.EventSocket``."""

    memory: memoryview

    def batch(self) -> list[tuple[int, int]]: ...


class EventReader:
    """Turns what a socket receives into events.

    family   message type of mptcp_pm; other types are no events and are skipped
    unknown  called with the type of each attribute that we do not know, once per type
    counts   MPTCP_EVENT_* -> events of this kind that were handed on
    quickly  how many of them were taken by ``Quick``
    """

    def __init__(
        self, socket: Batches, family: int, unknown: Callable[[int], object] = lambda kind: None
    ) -> None:
        self._socket = socket
        self._family = family
        self._unknown = unknown
        self._said: set[int] = set()
        # The three that nearly all events are of are there from the start: no branch for them.
        self.counts = dict.fromkeys(_MOST, 0)
        self.quickly = 0

    @property
    def events(self) -> int:
        """Events that were handed on."""
        return sum(self.counts.values())

    def receive(
        self,
        take: Callable[[Event], object],
        malformed: Callable[[DecodeError], object],
        quick: Quick | None = None,
    ) -> int:
        """Receive one batch, and call ``take`` with each event in order.

        malformed  is called for what cannot be parsed; the events around it are taken
        quick      is offered events before, see there

        Returns the number of datagrams, 0 when none waits. Errors: Overrun, OSError.
        """
        memory, family = self._socket.memory, self._family
        heads, known, matches = _HEADS.unpack_from, mptcp_event.parse_known, mptcp_event.matcher()
        found = self._socket.batch()
        created = established = closed = 0  # of those that ``quick`` takes; counts cost 0.02 us
        for start, length in found:
            size, kind, command, first, token = heads(memory, start)
            if size == length and kind == family:
                body, rest = start + _BODY, length - _BODY
                if quick is not None and first == _TOKEN:
                    if command == MPTCP_EVENT_CLOSED:
                        # The token, which has been seen, is all that Linux sends with it.
                        alone = rest == 8
                        if (alone or matches(command, memory, body, rest)) and quick.closed(token):
                            closed += 1
                            continue
                    elif command == MPTCP_EVENT_ESTABLISHED:
                        if matches(command, memory, body, rest) and quick.established(token):
                            established += 1
                            continue
                    elif command == MPTCP_EVENT_CREATED:
                        opened = mptcp_event.opened(command, memory, body, rest)
                        if opened is not None and quick.created(token, *opened):
                            created += 1
                            continue
                event = known(command, memory, body, rest)
                if event is not None:
                    self._hand_on(event, take)
                    continue
            self._plain(bytes(memory[start : start + length]), take, malformed)
        counts = self.counts
        counts[MPTCP_EVENT_CREATED] += created
        counts[MPTCP_EVENT_ESTABLISHED] += established
        counts[MPTCP_EVENT_CLOSED] += closed
        self.quickly += created + established + closed
        return len(found)

    def _hand_on(self, event: Event, take: Callable[[Event], object]) -> None:
        self.counts[event.kind] = self.counts.get(event.kind, 0) + 1
        take(event)

    def _plain(
        self,
        datagram: bytes,
        take: Callable[[Event], object],
        malformed: Callable[[DecodeError], object],
    ) -> None:
        try:
            for message in messages.split(datagram):
                if message.type == self._family:
                    self._message(message.payload, take, malformed)
        except DecodeError as error:
            malformed(error)

    def _message(
        self,
        payload: bytes,
        take: Callable[[Event], object],
        malformed: Callable[[DecodeError], object],
    ) -> None:
        try:
            event = mptcp_event.parse(payload)
        except DecodeError as error:
            malformed(error)
            return
        for kind in mptcp_event.unknown(payload):
            if kind not in self._said and len(self._said) < 64:
                self._said.add(kind)
                self._unknown(kind)
        self._hand_on(event, take)
