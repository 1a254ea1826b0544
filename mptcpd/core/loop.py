"""The event loop: descriptors, deadlines, signals. One thread, one wait.

Knows time and readiness; must not know what a descriptor carries. With no deadline pending it
sleeps in one system call until a descriptor is ready: nothing here wakes by itself.
"""

from __future__ import annotations

import heapq
import math
import selectors
import signal
import socket
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

# epoll_wait(2) takes at most 2**31 - 1 ms; a deadline further away is waited for in parts.
_LONGEST = 2_000_000.0  # seconds, 23 days
_SWEEP = 64  # timers before it is worth looking for cancelled ones


class Timer:
    """A deadline that was set with ``Loop.call_later``; ``cancel`` may be called at any time."""

    __slots__ = ("_arguments", "_function")

    def __init__(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self._function: Callable[..., object] | None = function
        self._arguments = arguments

    def cancel(self) -> None:
        """Do not call the function; harmless if it was called or cancelled before."""
        self._function, self._arguments = None, ()

    @property
    def pending(self) -> bool:
        """Whether the function is still to be called."""
        return self._function is not None

    def fire(self) -> None:
        function, arguments = self._function, self._arguments
        self.cancel()
        if function is not None:
            function(*arguments)


class Rounds:
    """How long the loop was busy between two waits: as long as somebody had to wait for his turn.

    LIMITS   seconds, of the buckets
    counts   of rounds for each bucket; the last one is for those beyond all limits
    seconds  of all rounds together     longest  one so far, in seconds
    """

    LIMITS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

    def __init__(self) -> None:
        self.counts = [0] * (len(self.LIMITS) + 1)
        self.seconds = 0.0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        # Nearly all are in the first bucket.
        self.counts[0 if seconds <= 0.001 else bisect_left(self.LIMITS, seconds)] += 1
        self.seconds += seconds
        if seconds > self.longest:
            self.longest = seconds


class Loop:
    """Calls functions when a descriptor can be read, a deadline passes or a signal comes.

    ``clock`` gives seconds that never go back. An exception from a called function ends ``run``:
    whoever wants to go on after a failure catches it where it happens.

    rounds  how long it was busy at a time
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.rounds = Rounds()
        self._selector = selectors.DefaultSelector()
        self._readers: dict[int, selectors.SelectorKey] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = 0  # equal deadlines are called in the order they were set
        self._sweep = _SWEEP
        self._running = False
        self._signals: dict[int, Callable[[], object]] = {}
        self._wakeup: tuple[socket.socket, socket.socket] | None = None

    def time(self) -> float:
        """The clock's time, in seconds."""
        return self._clock()

    def add_reader(self, fd: int, function: Callable[[], object]) -> None:
        """Call ``function`` whenever ``fd`` can be read (level-triggered)."""
        self._readers[fd] = self._selector.register(fd, selectors.EVENT_READ, function)

    def remove_reader(self, fd: int) -> None:
        """Forget a descriptor. Errors: KeyError if it is not there."""
        self._selector.unregister(fd)
        del self._readers[fd]

    def call_later(self, seconds: float, function: Callable[..., object], *arguments: Any) -> Timer:
        """Call ``function(*arguments)`` once, ``seconds`` from now (at once if not positive).

        Errors  ValueError for seconds that are no number.
        """
        if math.isnan(seconds):
            raise ValueError("a deadline in nan seconds")
        if len(self._timers) >= self._sweep:
            # Who cancels and sets anew at every event would else fill the memory until the
            # cancelled deadlines pass.
            self._timers = [entry for entry in self._timers if entry[2].pending]
            heapq.heapify(self._timers)
            self._sweep = max(_SWEEP, 2 * len(self._timers))
        timer = Timer(function, arguments)
        self._count += 1
        heapq.heappush(self._timers, (self._clock() + max(seconds, 0.0), self._count, timer))
        return timer

    def on_signal(self, number: int, function: Callable[[], object]) -> None:
        """Call ``function`` from the loop when signal ``number`` arrives.

        The signal itself only writes its number into a descriptor that the loop waits for
        (signal.set_wakeup_fd), so nothing runs between two instructions of ours.
        """
        if self._wakeup is None:
            self._wakeup = socket.socketpair()
            for end in self._wakeup:
                end.setblocking(False)
            signal.set_wakeup_fd(self._wakeup[1].fileno(), warn_on_full_buffer=False)
            self.add_reader(self._wakeup[0].fileno(), self._signalled)
        self._signals[number] = function
        signal.signal(number, _nothing)

    def run(self) -> None:
        """Serve until ``stop`` is called."""
        self._running = True
        while self._running:
            ready = self._selector.select(self._wait())
            began = self._clock()
            for key, _events in ready:
                # A function called before this one may have removed the descriptor.
                if self._readers.get(key.fd) is key:
                    key.data()
            self._expire()
            self.rounds.add(self._clock() - began)

    def stop(self) -> None:
        """End ``run`` when the descriptors that are ready now have been served."""
        self._running = False

    def close(self) -> None:
        """Release the loop's descriptors and give the signals back to their defaults."""
        for number in self._signals:
            signal.signal(number, signal.SIG_DFL)
        self._signals.clear()
        if self._wakeup is not None:
            signal.set_wakeup_fd(-1)
            for end in self._wakeup:
                end.close()
            self._wakeup = None
        self._selector.close()

    def _wait(self) -> float | None:
        while self._timers and not self._timers[0][2].pending:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return min(max(self._timers[0][0] - self._clock(), 0.0), _LONGEST)

    def _expire(self) -> None:
        now = self._clock()
        # Only deadlines set before this round: one that sets itself again with 0 s cannot starve
        # the descriptors.
        last = self._count
        while self._timers and self._timers[0][0] <= now:
            if self._timers[0][1] > last:
                break
            heapq.heappop(self._timers)[2].fire()

    def _signalled(self) -> None:
        assert self._wakeup is not None
        # One that came several times is one call: it says that something is to be done.
        for number in dict.fromkeys(self._wakeup[0].recv(256)):
            if number in self._signals:
                self._signals[number]()


def _nothing(_number: int, _frame: object) -> None:
    """What a signal does besides waking the loop."""
