"""``top``: the connections as they are now, again and again, on a terminal or as frames of text.

Knows keys, pace and how often; must not know how a frame is built (``top_screen``).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mptcpd.cli.ctl import glyphs, grammar, kernel
from mptcpd.cli.ctl.aside import aside
from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.connection_filter import Filter, wanted
from mptcpd.cli.ctl.ending import Ending
from mptcpd.cli.ctl.errors import Failure
from mptcpd.cli.ctl.output import Output
from mptcpd.cli.ctl.rates import Change, SubflowView
from mptcpd.cli.ctl.table import OBJECTS
from mptcpd.cli.ctl.top_screen import SORTS, Frame, State, compose, order, whole
from mptcpd.cli.ctl.top_view import plain
from mptcpd.cli.ctl.watcher import Watcher
from mptcpd.nl.errors import NetlinkError

if TYPE_CHECKING:
    from mptcpd.cli.ctl.terminal import Terminal

PACES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_INTERVAL = 1.0
_FIRST = 0.3  # seconds to the second look, which has rates
_LINES = 1000  # between two writes
_WIDTH = 120  # of a frame that goes to no terminal
_BLIND = "without CAP_NET_ADMIN this kernel does not tell subflows' address IDs, flags and backup"


def run(call: Call) -> int:
    """Show the live view, or write frames with -b. Errors: Failure where there is no terminal."""
    args = call.args
    want = wanted(args, call.settings.family)
    state = State(args.get("interval", _INTERVAL), args.get("sort", "rate"))

    def watch() -> Watcher:
        return Watcher(kernel.dumps(), kernel.interfaces(), kernel.path_managers(), want)

    if args.get("batch"):
        with Ending() as ending:
            frames(watch(), state, call.out, args.get("count"), ending)
        return 0
    try:
        from mptcpd.cli.ctl.terminal import Terminal, Unusable
    except ImportError as error:  # distributions split it off
        raise Failure(f"Error: {error}; top -b does without.") from None
    command = next(one for one in OBJECTS if one.name == "connection").commands[0]

    def parse(text: str) -> Filter:
        return wanted(grammar.read(command, text.split()), call.settings.family)

    colour = call.settings.colour or not os.environ.get("NO_COLOR")
    try:
        with Terminal(colour=colour) as terminal:
            Top(watch(), state, terminal, parse).run(args.get("count"))
    except Unusable as error:
        raise Failure(f"Error: {error}; top -b writes frames of text.") from None
    return 0


def frames(
    watcher: Watcher, state: State, out: Output, count: int | None, ending: Ending
) -> None:
    """Write frames, an empty line between two, until there are ``count`` or it is ended.

    The first one waits for a second look, so that it has rates.
    Errors  NetlinkError, OSError; BrokenPipeError when nobody reads any more.
    """
    shown = glyphs.fitting(sys.stdout.encoding)
    watcher.look()
    if watcher.blind:
        aside(f"Note: {_BLIND}.")
    written = 0
    due = time.monotonic()
    while count is None or written < count:
        due = max(due + watcher.pause(state.interval), time.monotonic())
        while not ending.came and time.monotonic() < due:
            ending.wait(due - time.monotonic())
        if ending.came:
            return
        watcher.look()
        frame = Frame(_clock(), time.monotonic(), shown, _width(), 0, watcher.interface)
        out.write("\n" if written else "")
        for index, line in enumerate(whole(watcher.views(), state, frame)):
            out.write(plain(line) + "\n")
            if index % _LINES == _LINES - 1:
                out.flush()
        out.flush()
        written += 1


def _width() -> int:
    """Cells of a frame: the terminal's, or COLUMNS, or what is read well."""
    try:
        return os.get_terminal_size(1).columns or _WIDTH
    except OSError:
        text = os.environ.get("COLUMNS", "")
        plain = text.isascii() and text.isdigit() and len(text) < 10
        return min(max(int(text), 40), 1000) if plain else _WIDTH


class Top:
    """The live view. parse: makes a Filter of what was typed, or raises Failure."""

    def __init__(
        self, watcher: Watcher, state: State, terminal: Terminal, parse: Callable[[str], Filter]
    ) -> None:
        self._watcher = watcher
        self._state = state
        self._terminal = terminal
        self._parse = parse
        self._first = True

    def run(self, count: int | None) -> None:
        """Until it is ended, or has been renewed ``count`` times. Errors: of the first look."""
        self._watcher.look()
        if self._watcher.blind:
            self._state.message = _BLIND
        due = time.monotonic() + min(_FIRST, self._state.interval)
        while not self._terminal.ended:
            self._draw()
            keys = self._terminal.keys(due - time.monotonic())
            for key in keys:
                self._state.message = ""
                if self._typed(key) if self._state.typing is not None else self._pressed(key):
                    return
            if time.monotonic() >= due and not self._terminal.ended:
                if not self._state.paused:
                    if count is not None:
                        count -= 1
                        if count < 0:
                            return
                    self._look()
                due = time.monotonic() + self._watcher.pause(self._state.interval)

    def _look(self) -> None:
        try:
            self._watcher.look()
        except (NetlinkError, OSError) as error:
            self._state.message = str(error)  # the next one may do better
            return
        names = self._watcher.interface

        def name(change: Change) -> str:
            socket = change.subflow
            return (names(SubflowView(socket, None)) or "") if socket is not None else ""

        self._state.note(_clock(), self._watcher.changes(), name)

    def _draw(self) -> None:
        terminal = self._terminal
        frame = Frame(
            _clock(), time.monotonic(), terminal.glyphs, terminal.width, terminal.height,
            self._watcher.interface,
        )  # fmt: skip
        terminal.draw(compose(self._watcher.views(), self._state, frame))

    def _pressed(self, key: int | str) -> bool:
        """What a key does; True ends it."""
        import curses

        state = self._state
        if state.help:
            state.help = False
            return False
        moves = {
            curses.KEY_UP: -1, curses.KEY_DOWN: 1, curses.KEY_PPAGE: -10, curses.KEY_NPAGE: 10,
            curses.KEY_HOME: -(1 << 30), curses.KEY_END: 1 << 30,
        }  # fmt: skip
        sorts = {"r": "rate", "t": "rtt", "x": "retrans", "k": "token"}
        if key in ("q", "Q"):
            return True
        if isinstance(key, int):
            if key in moves:
                self._move(moves[key])
            elif key == curses.KEY_ENTER:
                self._follow()
        elif key in sorts:
            state.sort = sorts[key]
        elif key == "s":
            names = list(SORTS)
            state.sort = names[(names.index(state.sort) + 1) % len(names)]
        elif key == "/":
            state.typing = state.filter
        elif key in (" ", "p"):
            state.paused = not state.paused
        elif key in ("\n", "\r", "f"):
            self._follow()
        elif key == "\x1b":
            state.followed = state.selected = None
        elif key in ("+", "-"):
            self._pace(faster=key == "+")
        elif key in ("?", "h"):
            state.help = True
        return False

    def _typed(self, key: int | str) -> bool:
        """A key while the filter is typed."""
        import curses

        state = self._state
        text = state.typing or ""
        if key in ("\n", "\r", curses.KEY_ENTER):
            try:
                self._watcher.filter(self._parse(text))
            except Failure as error:
                state.message = " ".join(str(error).split())
            else:
                state.filter = text.strip()
                state.followed = state.selected = None
                self._look()
            state.typing = None
        elif key == "\x1b":
            state.typing = None
        elif key in ("\x7f", "\b", curses.KEY_BACKSPACE):
            state.typing = text[:-1]
        elif key == "\x15":
            state.typing = ""
        elif isinstance(key, str) and key.isprintable() and len(text) < 200:
            state.typing = text + key
        return False

    def _move(self, by: int) -> None:
        state = self._state
        if state.followed is not None:
            return
        cookies = [view.socket.cookie for view in order(self._watcher.views(), state)]
        if not cookies:
            return
        if state.selected in cookies:
            place = cookies.index(state.selected) + by
        else:
            place = by - 1 if by > 0 else len(cookies) + by
        state.selected = cookies[max(0, min(place, len(cookies) - 1))]

    def _follow(self) -> None:
        state = self._state
        if state.followed is None:
            if state.selected is None:
                self._move(1)
            state.followed = state.selected
        else:
            state.followed = None

    def _pace(self, *, faster: bool) -> None:
        state = self._state
        if faster:
            better = [pace for pace in PACES if pace < state.interval]
            state.interval = better[-1] if better else PACES[0]
        else:
            better = [pace for pace in PACES if pace > state.interval]
            state.interval = better[0] if better else PACES[-1]


def _clock() -> str:
    return time.strftime("%H:%M:%S")
