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
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from mptcpd.core.connections import Connections
from mptcpd.core.loop import Loop, Timer
from mptcpd.core.pace import Pace
from mptcpd.core.resync import Diag, Outcome, resync
from mptcpd.core.silent_ends import SilentEnds
from mptcpd.nl import bpf, mptcp_event
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError, NetlinkError, Overrun
from mptcpd.nl.mptcp_event import Event
from mptcpd.nl.mptcp_reader import Quick

_LOG = logging.getLogger("mptcpd")
_BATCHES = 16  # read at most this many batches before other descriptors get their turn
_RETRY = 1.0  # seconds until a resync that failed is tried again
_SILENCE = 60.0  # seconds after an overrun was logged in which others are not


class Events(Protocol):
    """What is needed of ``nl.sock.EventSocket``."""

    foreign: int

    def fileno(self) -> int: ...
    def join(self, group: int) -> None: ...
    def filter(self, program: Sequence[tuple[int, int, int, int]]) -> None: ...

    @property
    def slots(self) -> int: ...


class Reader(Protocol):
    """What is needed of ``nl.mptcp_reader.EventReader``."""

    counts: dict[int, int]
    quickly: int

    def receive(
        self,
        take: Callable[[Event], object],
        malformed: Callable[[DecodeError], object],
        quick: Quick | None,
    ) -> int: ...


class Observer(Protocol):
    """Somebody who looks at the events while they are taken (``ConnectionWatch.observe``)."""

    def wants(self) -> bool:
        """Whether it can take more; if not, nothing is done to show it the next batch."""

    def event(self, event: Event) -> None: ...
    def missed(self, count: int) -> None:
        """So many were taken without being shown."""


class ConnectionWatch:
    """Keeps the connection table equal to what the kernel has.

    counts         MPTCP_EVENT_* -> events of this kind that were taken
    decode_errors  events that were malformed and dropped
    overruns       times that the kernel dropped events
    resyncs        comparisons with the kernel, the one at the start included
    retries        comparisons that failed, each followed by another
    found          what the comparisons found, added up
    trace          called with every event
    """

    def __init__(
        self,
        loop: Loop,
        events: Events,
        reader: Reader,
        kernel: Diag,
        table: Connections,
        trace: Callable[[Event], None] | None = None,
        aborted: Callable[[], int] = lambda: 0,
    ) -> None:
        """``aborted``: how many connections peers have aborted so far (``silent_ends``)."""
        self._loop = loop
        self._events = events
        self._reader = reader
        self._kernel = kernel
        self._table = table
        self.trace = trace
        self._observer: Observer | None = None
        self._observed: frozenset[int] = frozenset()  # kinds that the observer is shown
        self._taken: frozenset[int] = frozenset()  # kinds that the table takes
        self.decode_errors = 0
        self.overruns = 0
        self.resyncs = 0
        self.retries = 0
        self.found = Outcome()
        self._reading = False
        self._dirty = False
        self._follows = False  # whether there is a table to be kept right
        self._again: Timer | None = None
        self._not_before = 0.0
        self._warn_after = 0.0
        self._level = logging.DEBUG  # of what the next comparison after an overrun found
        self._said: set[int] = set()
        self._pace = Pace()
        self._pause: Timer | None = None
        self._silent = SilentEnds(loop, aborted, self._compare, lambda: bool(table.by_token))

    @property
    def counts(self) -> Mapping[int, int]:
        return self._reader.counts

    @property
    def foreign(self) -> int:
        """Messages that no kernel sent, dropped."""
        return self._events.foreign

    @property
    def follows(self) -> bool:
        """Whether there is a table to be kept right: some plugin has a hook for connections."""
        return self._follows

    def start(self, group: int, kinds: frozenset[int]) -> None:
        """Subscribe to events of these kinds, and adopt the connections that are there.

        The group is joined even if no kind is wanted: with the userspace path manager the kernel
        takes joins from peers only while somebody is subscribed.
        Errors  OSError: EPERM without CAP_NET_ADMIN; NetlinkError.
        """
        self._select(kinds)
        self._events.join(group)
        if self._follows:
            self._adopt()

    def change(self, kinds: frozenset[int]) -> None:
        """Take events of these kinds from now on. Errors: OSError; NetlinkError.

        If connections begin to be followed, those that are there are adopted; if nobody follows
        them any more, they are forgotten.
        """
        followed = self._follows
        self._select(kinds)
        if self._follows and not followed:
            self._adopt()
        elif followed and not self._follows:
            self._silent.stop()
            self._dirty = False
            if self._again is not None:
                self._again.cancel()
                self._again = None
            self._table.abandon()

    def _select(self, kinds: frozenset[int]) -> None:
        self._follows = bool(kinds & mptcp_event.OF_CONNECTIONS)
        self._taken = kinds
        if self._follows:
            self._taken |= {u.MPTCP_EVENT_LISTENER_CLOSED}  # connections may end with it
        self._filter()

    def _adopt(self) -> None:
        self._resync(logging.INFO)
        if self._table.by_token:
            self._silent.stirred()

    def observe(self, observer: Observer | None, kinds: frozenset[int] = frozenset()) -> None:
        """Show events of these kinds to an observer, besides what is done with them; None: no more.

        Errors  OSError.
        """
        self._observer, self._observed = observer, kinds
        self._filter()

    def _filter(self) -> None:
        kinds = self._taken | self._observed
        self._events.filter(bpf.commands(kinds))
        if kinds and not self._reading:
            self._reading = True
            self._loop.add_reader(self._events.fileno(), self._readable)

    def stop(self) -> None:
        """No event is read any more."""
        self._silent.stop()
        for timer in (self._again, self._pause):
            if timer is not None:
                timer.cancel()

    def _readable(self) -> None:
        taken = self._drain()
        if self._follows and taken:
            self._silent.stirred()
        pause = self._pace.after(taken)
        # Who was too slow once has no time for pauses.
        if pause and not self.overruns:
            self._loop.remove_reader(self._events.fileno())
            self._pause = self._loop.call_later(pause, self._go_on)

    def _drain(self) -> int:
        """Take what waits, but let others have their turn. Returns how many events there were."""
        taken = 0
        for _batch in range(_BATCHES):
            quick, seen = self._quick(), self._reader.quickly
            try:
                count = self._reader.receive(self._take, self._malformed, quick)
            except Overrun as overrun:
                self._overrun(overrun)
                continue
            taken += count
            if self._observer is not None and self._reader.quickly != seen:
                self._observer.missed(self._reader.quickly - seen)
            # Less than a batch was all that was there. If the kernel dropped messages at that very
            # moment, the descriptor stays readable to tell of it.
            if count < self._events.slots:
                self._emptied()
                break
        return taken

    def _quick(self) -> Quick | None:
        """The quick way for the next batch, unless somebody has to see events whole."""
        if self.trace is not None or not self._follows:
            return None
        if self._observer is not None and self._observer.wants():
            return None
        return self._table

    def _emptied(self) -> None:
        """Nothing waits to be read any more."""
        self._table.settled()
        if self._dirty and self._again is None:
            self._again = self._loop.call_later(
                self._not_before - time.monotonic(), self._resync_when_quiet
            )

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._events.fileno(), self._readable)
        self._readable()

    def _overrun(self, overrun: Overrun) -> None:
        self.overruns += 1
        self._dirty = True
        now = time.monotonic()
        if now >= self._warn_after:
            self._warn_after = now + _SILENCE
            self._level = logging.INFO
            _LOG.warning("MPTCP events: %s; comparing with the kernel", overrun)
        if self._again is not None:
            # It would come before the queue was read empty, and until then more is dropped.
            self._again.cancel()
            self._again = None

    def _resync_when_quiet(self) -> None:
        self._again = None
        self._dirty = False
        self._resync(self._level)
        self._level = logging.DEBUG

    def _compare(self) -> None:
        """Look for what ended silently. What only waits to be read is not meant by that."""
        self._drain()
        self._resync(logging.DEBUG)

    def _resync(self, level: int) -> None:
        began = time.monotonic()
        try:
            outcome = resync(self._kernel, self._table, self._drain)
        except NetlinkError as error:
            _LOG.error("Unable to compare connections with the kernel: %s; trying again", error)
            self.retries += 1
            self._dirty = True
            if self._again is None:
                self._again = self._loop.call_later(_RETRY, self._resync_when_quiet)
            return
        if self._table.doubtful:
            self._drain()  # or they would wait for the next event
        self.resyncs += 1
        self.found = Outcome(*map(sum, zip(self.found, outcome, strict=True)))
        now = time.monotonic()
        self._not_before = now + (now - began)
        if outcome != Outcome():
            _LOG.log(
                level,
                "Connections compared with the kernel: %d appeared, %d gone; "
                "subflows: %d appeared, %d gone.",
                *outcome,
            )

    def _take(self, event: Event) -> None:
        if event.kind == u.MPTCP_EVENT_LISTENER_CLOSED and self._follows:
            self._silent.suspect()
        if self.trace is not None:
            self.trace(event)
        if self._observer is not None:
            self._observer.event(event)
        # What came before the filter was changed, or for an observer alone, is not for the table.
        if event.kind not in self._taken and event.kind in mptcp_event.EVENTS:
            return
        if not self._table.take(event) and event.kind not in self._said:
            self._said.add(event.kind)
            _LOG.error("Unhandled MPTCP event: %d (said once)", event.kind)

    def _malformed(self, error: DecodeError) -> None:
        self.decode_errors += 1
        _LOG.error("A malformed MPTCP event was dropped: %s", error)
