"""Notices that connections have ended of which no event tells.

Knows when to look and what is suspicious; must not know the table, nor where the count comes from.
Linux (6.18) sends no MPTCP_EVENT_CLOSED

- for a connection that the peer aborted (MP_FASTCLOSE, what a close with unread data sends, too):
  its token is gone at once (net/mptcp/protocol.c: mptcp_check_fastclose), and without a token the
  later close of its own program is told to nobody;
- for those that wait to be accepted when their listener closes (__mptcp_unaccepted_force_close).

Of the first the kernel keeps a count (MPTcpExt MPFastcloseRx), of the second the listener's event
tells. Neither wakes anybody, so somebody has to look: a second after events have come, and then,
while there are connections, after ever longer times. No look is made while there are none.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mptcpd.core.loop import Loop, Timer

FIRST = 1.0  # seconds from an event to the first look
_LONGER = 4.0  # each next look without an event in between comes so many times later
_MOST = 4096.0  # seconds at most
_SHARE = 0.05  # of the time that comparing may take while events keep coming


class SilentEnds:
    """Calls ``compare`` when the table may hold connections that are gone.

    aborted  how many connections peers have aborted since the machine was started
    exist    whether there are connections in the table
    """

    def __init__(
        self,
        loop: Loop,
        aborted: Callable[[], int],
        compare: Callable[[], object],
        exist: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._aborted = aborted
        self._compare = compare
        self._exist = exist
        self._clock = clock
        self._count = self._known = aborted()  # as last read; as far as it has been dealt with
        self._suspicious = False
        self._stirred = False
        self._wait = FIRST
        self._not_before = 0.0
        self._timer: Timer | None = None

    def stirred(self) -> None:
        """Events have come."""
        self._stirred = True
        if self._timer is None or self._wait > FIRST:
            self._look_in(FIRST)

    def suspect(self) -> None:
        """Connections may have ended now."""
        self._suspicious = True
        self.stirred()

    def stop(self) -> None:
        """No look is made any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_in(self, seconds: float) -> None:
        self.stop()
        self._wait = seconds
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        busy, self._stirred = self._stirred, False
        before, self._count = self._count, self._aborted()
        began = self._clock()
        # When it is quiet the table has to be right; while it is not, others need the time, too.
        if self._believable() and not (busy and began < self._not_before):
            # The count goes up a moment before the token is gone: what was counted since the last
            # look is not believed to be dealt with yet.
            self._known, self._suspicious = before, False
            self._compare()
            ended = self._clock()
            self._not_before = ended + (ended - began) / _SHARE
        if self._exist():
            soon = busy or self._believable()
            self._look_in(FIRST if soon else min(self._wait * _LONGER, _MOST))

    def _believable(self) -> bool:
        """Whether there is a reason to believe that connections have ended."""
        return self._suspicious or self._count != self._known
