"""Reads mptcp_pm events out of a receive buffer: the hot path.

Knows how a datagram that the kernel sent holds an event; must not know what events mean. A datagram
of a known shape is unpacked where it lies, by one compiled layout; any other goes through the plain
parsers, message by message.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Protocol

from mptcpd.nl import genl, messages, mptcp_event
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp_event import Event

_HEADS = Struct("=IH10xB3x")  # nlmsg_len, nlmsg_type of nlmsghdr; cmd of genlmsghdr
_BODY = _HEADS.size  # 20 bytes


class Batches(Protocol):
    """What is needed of ``sock.EventSocket``."""

    memory: memoryview

    def batch(self) -> list[tuple[int, int]]: ...


class EventReader:
    """Turns what a socket receives into events.

    family   message type of mptcp_pm; other types are no events and are skipped
    unknown  called with the type of each attribute that we do not know, once per type
    """

    def __init__(
        self, socket: Batches, family: int, unknown: Callable[[int], object] = lambda kind: None
    ) -> None:
        self._socket = socket
        self._family = family
        self._unknown = unknown
        self._said: set[int] = set()

    def receive(
        self,
        take: Callable[[Event], object],
        malformed: Callable[[DecodeError], object],
    ) -> int:
        """Receive one batch, and call ``take`` with each event in order.

        ``malformed`` is called for what cannot be parsed; the events around it are taken.
        Returns the number of datagrams, 0 when none waits. Errors: Overrun, OSError.
        """
        memory, family = self._socket.memory, self._family
        heads, known = _HEADS.unpack_from, mptcp_event.parse_known
        found = self._socket.batch()
        for start, length in found:
            if length > _BODY:
                size, kind, command = heads(memory, start)
                if size == length and kind == family:
                    event = known(command, memory, start + _BODY, length - _BODY)
                    if event is not None:
                        take(event)
                        continue
            self._plain(bytes(memory[start : start + length]), take, malformed)
        return len(found)

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
        take(event)


assert _BODY == messages.HEADER + genl.HEADER
