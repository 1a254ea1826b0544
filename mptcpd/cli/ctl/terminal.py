"""A terminal taken over by curses: lines of styled text go out, keys and signals come in.

Knows curses, colours, signals and how a terminal can go away; must not know what is shown.

Signals only write a byte into a pipe that the wait looks at, so nothing is interrupted halfway.
curses is left before anything else is written to the terminal, also when an exception passes.
"""

from __future__ import annotations

import contextlib
import curses
import locale
import os
import select
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from mptcpd.cli.ctl import glyphs
from mptcpd.cli.ctl.top_view import COLOURS, Line

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_LOOKED_AT = (*ENDING, signal.SIGWINCH, signal.SIGCONT)
# For interfaces, in the order of the picture's colours where the terminal has 256; else of the 8.
_MANY = (39, 214, 78, 212, 203, 147)
_FEW = (curses.COLOR_CYAN, curses.COLOR_YELLOW, curses.COLOR_GREEN, curses.COLOR_MAGENTA,
        curses.COLOR_RED, curses.COLOR_BLUE)  # fmt: skip
_WARN = len(_MANY) + 1


class Unusable(Exception):
    """This terminal cannot do it; the text says why."""


class Terminal:
    """Use as a context. ``width``, ``height`` in cells, as they are now.

    ended  the reason to stop: the terminal is gone, or a signal of ENDING came
    """

    def __init__(self, *, colour: bool = True) -> None:
        self._colour = colour
        self._window: curses.window | None = None
        self._before: dict[signal.Signals, object] = {}
        self._read = self._write = -1
        self._styles: dict[str, int] = {}
        self.glyphs = glyphs.ASCII
        self.width, self.height = 80, 24
        self.ended = False

    def __enter__(self) -> Terminal:
        """Errors: Unusable."""
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise Unusable("standard input and output are no terminal")
        with contextlib.suppress(locale.Error):  # an unknown locale: as without one
            locale.setlocale(locale.LC_CTYPE, "")
        try:
            curses.setupterm()
            able = curses.tigetstr("cup")
        except curses.error as error:
            raise Unusable(f"the terminal {os.environ.get('TERM', '')!r}: {error}") from None
        if not able:
            raise Unusable(f"the terminal {os.environ.get('TERM', '')!r} has no cursor to move")
        os.environ.setdefault("ESCDELAY", "25")
        self.glyphs = glyphs.fitting(locale.nl_langinfo(locale.CODESET))
        self._window = curses.initscr()
        try:
            self._start(self._window)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        with contextlib.suppress(curses.error, OSError):
            curses.endwin()
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)

    def _start(self, window: curses.window) -> None:
        curses.noecho()
        curses.cbreak()
        window.keypad(True)
        window.nodelay(True)
        with contextlib.suppress(curses.error):
            curses.curs_set(0)
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _LOOKED_AT:
            # Who started us with SIGHUP ignored (nohup) meant it; the lost terminal shows anyway.
            self._before[number] = signal.signal(number, _noted)
        self._paint()
        self._measure()

    def _paint(self) -> None:
        """What each style looks like here."""
        self._styles = {
            "title": curses.A_REVERSE | curses.A_BOLD, "bold": curses.A_BOLD, "dim": curses.A_DIM,
            "warn": curses.A_BOLD,
        }  # fmt: skip
        if not self._colour:
            return
        with contextlib.suppress(curses.error):
            curses.start_color()
            curses.use_default_colors()
            if not curses.has_colors():
                return
            many = curses.COLORS >= 256
            for index in range(COLOURS):
                curses.init_pair(index + 1, (_MANY if many else _FEW)[index], -1)
                self._styles[str(index)] = curses.color_pair(index + 1)
            curses.init_pair(_WARN, 203 if many else curses.COLOR_RED, -1)
            self._styles["warn"] = curses.color_pair(_WARN)
            if many:
                curses.init_pair(_WARN + 1, 245, -1)
                self._styles["dim"] = curses.color_pair(_WARN + 1)

    def _measure(self) -> None:
        try:
            size = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            self.ended = True
            return
        # A size of 0 is what a serial line that was never told says.
        self.width, self.height = size.columns or 80, size.lines or 24
        with contextlib.suppress(curses.error):
            # Not resizeterm, which puts a KEY_RESIZE into the queue each time.
            curses.resize_term(self.height, self.width)

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines, from the top; what is beyond the edges is cut off."""
        window = self._window
        if window is None or self.ended:
            return
        window.erase()
        for row, line in enumerate(lines[: self.height]):
            column = 0
            for span in line:
                room = self.width - column
                if room <= 0:
                    break
                # Writing the last cell of the last line moves the cursor out: an error, but done.
                with contextlib.suppress(curses.error):
                    window.addnstr(row, column, span.text, room, self._styles.get(span.style, 0))
                column += len(span.text)
        with contextlib.suppress(curses.error):
            window.refresh()

    def keys(self, timeout: float) -> list[int | str]:
        """Wait for keys, a new size or the end, ``timeout`` seconds at most.

        A key is its character, or curses' number for one that has none. An empty list: the time is
        over, or the size has changed, or it is ``ended``.
        """
        poll = select.poll()
        poll.register(sys.stdin.fileno(), select.POLLIN)
        poll.register(self._read, select.POLLIN)
        for fd, events in poll.poll(1000 * max(0.0, timeout)):
            if fd == self._read:
                self._signals(os.read(fd, 512))
            elif events & ~select.POLLIN:
                self.ended = True  # the terminal was closed
        return [] if self.ended else self._typed()

    def _typed(self) -> list[int | str]:
        window = self._window
        found: list[int | str] = []
        while window is not None and len(found) < 256:
            try:
                key = window.get_wch()
            except curses.error:
                break
            found.append(key)
        return found

    def _signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in ENDING:
                self.ended = True
            elif self._window is not None:  # another size, or something ran meanwhile
                self._measure()
                self._window.clearok(True)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The byte in the pipe is all that is wanted."""
