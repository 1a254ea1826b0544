"""How a command that runs until somebody ends it hears of its end.

Knows signals and poll(2); must not know what is waited for.
"""

from __future__ import annotations

import os
import select
import signal
import time
from types import FrameType

_AGAIN = 1.0  # seconds


class Ending:
    """SIGINT and SIGTERM as something that can be waited for beside descriptors.

    ``with Ending() as ending:`` the handlers are those from before afterwards. A signal that comes
    again, a second or more later, ends the process: it may be stuck in a write that nobody reads.
    (Sooner it may be the same one, sent by the terminal and by a parent.)
    """

    def __init__(self) -> None:
        self.came = False
        self._first = 0.0  # when it came
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)

    def __enter__(self) -> Ending:
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, self._noted)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._read)
        os.close(self._write)

    def _noted(self, number: int, _frame: FrameType | None) -> None:
        if self.came and time.monotonic() - self._first > _AGAIN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not self.came:
            self.came, self._first = True, time.monotonic()

    def watch(self, fd: int, events: int = select.POLLIN) -> None:
        """Let ``wait`` return when something comes on ``fd`` (``select.POLL*``)."""
        self._poll.register(fd, events)

    def pause(self, fd: int, seconds: float) -> None:
        """Wait for the end alone, for a while; ``fd`` would only say again what it said."""
        self._poll.unregister(fd)
        self.wait(seconds)
        self.watch(fd)

    def wait(self, seconds: float | None = None) -> list[tuple[int, int]]:
        """Wait for a descriptor, a signal or the time; the descriptors that have something.

        A signal sets ``came``; it also counts when it came before the call.
        """
        if self.came:
            return []
        ready = self._poll.poll(None if seconds is None else max(0.0, 1000 * seconds))
        for fd, _events in ready:
            if fd == self._read:
                os.read(fd, 4096)  # one byte a signal, of whatever kind (a resized terminal's, too)
        return [(fd, events) for fd, events in ready if fd != self._read]
