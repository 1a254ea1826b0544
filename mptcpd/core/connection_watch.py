"""Follows the kernel's MPTCP events: reads them, keeps the table right, resynchronises.

Knows when to read, when to trust the queue and when to ask the kernel for the truth; must not know
what an event does to a connection (``connections``) nor how the two are compared (``resync``).

Subscribe first, dump second, then read what queued up meanwhile. When the kernel had to drop
events, what still waits in the queue is applied first (it is older than the dump will be), then the
table is compared with a dump. While events pour in faster than they are read there is no point in
that: it waits until the queue was empty once, and no resync starts sooner after the last than that
one took.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from mptcpd.core.connections import Connections
from mptcpd.core.loop import Loop, Timer
from mptcpd.core.resync import Diag, Outcome, resync
from mptcpd.nl import bpf, mptcp_event
from mptcpd.nl.errors import DecodeError, NetlinkError, Overrun
from mptcpd.nl.mptcp_event import Event
from mptcpd.nl.mptcp_reader import Quick

_LOG = logging.getLogger("mptcpd")
_BATCHES = 16  # read at most this many batches before other descriptors get their turn
_RETRY = 1.0  # seconds until a resync that failed is tried again


class Events(Protocol):
    """What is needed of ``nl.sock.EventSocket``."""

    foreign: int

    def fileno(self) -> int: ...
    def join(self, group: int) -> None: ...
    def filter(self, program: Sequence[tuple[int, int, int, int]]) -> None: ...


class Reader(Protocol):
    """What is needed of ``nl.mptcp_reader.EventReader``."""

    events: int

    def receive(
        self,
        take: Callable[[Event], object],
        malformed: Callable[[DecodeError], object],
        quick: Quick | None,
    ) -> int: ...


class ConnectionWatch:
    """Keeps the connection table equal to what the kernel has.

    events         events that were taken
    decode_errors  events that were malformed and dropped
    overruns       times that the kernel dropped events
    resyncs        comparisons with the kernel, the one at the start included
    """

    def __init__(
        self,
        loop: Loop,
        events: Events,
        reader: Reader,
        kernel: Diag,
        table: Connections,
        trace: Callable[[Event], None] | None = None,
    ) -> None:
        self._loop = loop
        self._events = events
        self._reader = reader
        self._kernel = kernel
        self._table = table
        self._trace = trace
        # What is traced has to be seen whole.
        self._quick: Quick | None = table if trace is None else None
        self.decode_errors = 0
        self.overruns = 0
        self.resyncs = 0
        self._dirty = False
        self._again: Timer | None = None
        self._not_before = 0.0
        self._said: set[int] = set()

    @property
    def events(self) -> int:
        return self._reader.events

    def start(self, group: int, kinds: frozenset[int]) -> None:
        """Subscribe to events of these kinds, and adopt the connections that are there.

        The group is joined even if no kind is wanted: with the userspace path manager the kernel
        takes joins from peers only while somebody is subscribed.
        Errors  OSError: EPERM without CAP_NET_ADMIN; NetlinkError.
        """
        self._events.filter(bpf.commands(kinds))
        self._events.join(group)
        if not kinds:
            return
        self._loop.add_reader(self._events.fileno(), self._readable)
        if kinds & mptcp_event.OF_CONNECTIONS:
            self._resync()

    def stop(self) -> None:
        """No event is read any more."""
        if self._again is not None:
            self._again.cancel()

    def _readable(self) -> None:
        for _batch in range(_BATCHES):
            try:
                count = self._reader.receive(self._take, self._malformed, self._quick)
            except Overrun as overrun:
                self.overruns += 1
                if not self._dirty:
                    self._dirty = True
                    _LOG.warning("MPTCP events: %s; comparing with the kernel", overrun)
                continue
            if not count:
                break
        else:
            return
        if self._dirty and self._again is None:
            self._again = self._loop.call_later(
                self._not_before - time.monotonic(), self._resync_when_quiet
            )

    def _resync_when_quiet(self) -> None:
        self._again = None
        self._dirty = False
        self._resync()

    def _resync(self) -> None:
        began = time.monotonic()
        try:
            outcome = resync(self._kernel, self._table)
        except NetlinkError as error:
            _LOG.error("Unable to compare connections with the kernel: %s; trying again", error)
            self._dirty = True
            self._again = self._loop.call_later(_RETRY, self._resync_when_quiet)
            return
        self.resyncs += 1
        now = time.monotonic()
        self._not_before = now + (now - began)
        if outcome != Outcome():
            _LOG.info(
                "Connections compared with the kernel: %d appeared, %d gone; "
                "subflows: %d appeared, %d gone.",
                *outcome,
            )

    def _take(self, event: Event) -> None:
        if self._trace is not None:
            self._trace(event)
        if not self._table.take(event) and event.kind not in self._said:
            self._said.add(event.kind)
            _LOG.error("Unhandled MPTCP event: %d (said once)", event.kind)

    def _malformed(self, error: DecodeError) -> None:
        self.decode_errors += 1
        _LOG.error("A malformed MPTCP event was dropped: %s", error)
