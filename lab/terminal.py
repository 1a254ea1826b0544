"""A terminal for a program: a pty, and the screen that the program has drawn on it.

Knows as much of an xterm's control sequences as curses programs use with TERM=xterm-256color; what
it does not know it leaves out, and ``strange`` lists it. For tests, and for pictures in docs/.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from lab.host import Host
from lab.process import stop

_SEQUENCE = re.compile(
    r"\x1b\[([?>]?)([0-9;]*)([@-~])|\x1b[()][0-9A-B]|\x1b[=>78cM]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
)


class Style(NamedTuple):
    """colour: None, or a number of 256; the others as they say."""

    colour: int | None = None
    bold: bool = False
    dim: bool = False
    reverse: bool = False


PLAIN = Style()
_BLANK = (" ", PLAIN)


class Screen:
    """What a terminal shows. cells[row][column]: character and style."""

    def __init__(self, columns: int, rows: int) -> None:
        self.strange: list[str] = []
        self.cells: list[list[tuple[str, Style]]] = []
        self._style = PLAIN
        self._row = self._column = 0
        self._rest = ""
        self._last = " "
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._top, self._bottom = 0, rows  # the rows that scroll
        kept = [row[:columns] + [_BLANK] * (columns - len(row)) for row in self.cells[:rows]]
        self.cells = kept + [[_BLANK] * columns for _row in range(rows - len(kept))]
        self._row, self._column = min(self._row, rows - 1), min(self._column, columns - 1)

    @property
    def lines(self) -> list[str]:
        return ["".join(cell for cell, _style in row).rstrip() for row in self.cells]

    def feed(self, text: str) -> None:
        """Take what the program has written."""
        text, self._rest = self._rest + text, ""
        at = 0
        while at < len(text):
            one = text[at]
            if one == "\x1b":
                found = _SEQUENCE.match(text, at)
                if found is None:
                    if len(text) - at < 64:
                        self._rest = text[at:]  # the rest of it is still to come
                        return
                    self.strange.append(text[at : at + 8])
                    at += 1
                    continue
                if found[0] == "\x1bM":
                    self._up()
                elif found[3]:
                    self._control(found[1], found[2], found[3])
                at = found.end()
                continue
            at += 1
            if one == "\r":
                self._column = 0
            elif one == "\n":
                self._down()
            elif one == "\b":
                self._column = max(0, self._column - 1)
            elif one >= " ":
                self._put(one)

    def _put(self, one: str) -> None:
        if self._column >= self.columns:
            self._column = 0
            self._down()
        self.cells[self._row][self._column] = one, self._style
        self._column += 1
        self._last = one

    def _down(self) -> None:
        if self._row == self._bottom - 1:
            self._scroll(self._top, 1)
        elif self._row < self.rows - 1:
            self._row += 1

    def _up(self) -> None:
        if self._row == self._top:
            self._scroll(self._top, -1)
        elif self._row:
            self._row -= 1

    def _scroll(self, top: int, count: int) -> None:
        """Move the rows from ``top`` to the end of those that scroll up, or down if negative."""
        part = self.cells[top : self._bottom]
        many = min(abs(count), len(part))
        blank = [[_BLANK] * self.columns for _row in range(many)]
        moved = part[many:] + blank if count > 0 else blank + part[: len(part) - many]
        self.cells[top : self._bottom] = moved

    def _control(self, private: str, arguments: str, kind: str) -> None:
        if private or kind in "hltc":
            return  # modes and the window: nothing of them is seen
        numbers = [int(part) if part else 0 for part in arguments.split(";")]
        first = numbers[0] or 1
        if kind == "m":
            self._paint(numbers)
        elif kind == "r":
            self._top = min(first, self.rows) - 1
            self._bottom = min((numbers[1:] or [0])[0] or self.rows, self.rows)
            self._row = self._column = 0
        elif kind in "ST":
            self._scroll(self._top, first if kind == "S" else -first)
        elif kind in "LM" and self._top <= self._row < self._bottom:
            self._scroll(self._row, first if kind == "M" else -first)
        elif kind == "H":
            self._row = min(first, self.rows) - 1
            self._column = min((numbers[1] or 1) if len(numbers) > 1 else 1, self.columns) - 1
        elif kind in "ABCDGd":
            row, column = self._row, self._column
            row = {"A": row - first, "B": row + first, "d": first - 1}.get(kind, row)
            column = {"C": column + first, "D": column - first, "G": first - 1}.get(kind, column)
            self._row = min(max(row, 0), self.rows - 1)
            self._column = min(max(column, 0), self.columns - 1)
        elif kind in "KJXP":
            self._erase(kind, numbers[0], first)
        elif kind == "b":
            for _time in range(first):
                self._put(self._last)
        else:
            self.strange.append(f"CSI {arguments}{kind}")

    def _erase(self, kind: str, number: int, count: int) -> None:
        row = self.cells[self._row]
        if kind == "P":
            del row[self._column : self._column + count]
            row += [_BLANK] * (self.columns - len(row))
            return
        start = 0 if kind != "X" and number else self._column
        end = {"X": self._column + count, "K": self._column + 1 if number == 1 else self.columns}
        for column in range(start, min(end.get(kind, self.columns), self.columns)):
            row[column] = _BLANK
        if kind == "J":
            below = range(0 if number else self._row + 1, self.rows)
            for index in below:
                self.cells[index] = [_BLANK] * self.columns

    def _paint(self, numbers: list[int]) -> None:
        rest = list(reversed(numbers))
        while rest:
            code = rest.pop()
            style = self._style
            if code == 0:
                self._style = PLAIN
            elif code == 38 and rest[-1:] == [5] and len(rest) > 1:
                rest.pop()
                self._style = style._replace(colour=rest.pop())
            elif code == 39:
                self._style = style._replace(colour=None)
            elif 30 <= code <= 37 or 90 <= code <= 97:
                self._style = style._replace(colour=code - 30 if code < 40 else code - 82)
            elif code in (1, 2, 7):
                name = {1: "bold", 2: "dim", 7: "reverse"}[code]
                self._style = style._replace(**{name: True})
            elif code == 22:
                self._style = style._replace(bold=False, dim=False)
            elif code == 27:
                self._style = style._replace(reverse=False)
            elif code not in (10, 49):
                self.strange.append(f"SGR {code}")


class Terminal:
    """A program of a host on a terminal of its own. ``close`` kills it."""

    def __init__(
        self, host: Host, args: list[str], columns: int = 80, rows: int = 24, **options: Any
    ) -> None:
        self.screen = Screen(columns, rows)
        self.fd, other = os.openpty()
        self._size(columns, rows)
        environment = {**os.environ, "TERM": "xterm-256color", **options.pop("env", {})}
        for name in ("LINES", "COLUMNS", "NO_COLOR"):
            environment.pop(name, None)
        self.process: subprocess.Popen[Any] = host.popen(
            args, stdin=other, stdout=other, stderr=other, env=environment, controlling=True,
            **options,
        )  # fmt: skip
        os.close(other)

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """As when somebody drags the window's corner; the program hears of it by SIGWINCH."""
        self._size(columns, rows)
        self.screen.resize(columns, rows)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait(self, seconds: float) -> None:
        """Take what comes within some time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self._read(left):
            pass

    def until(
        self, condition: Callable[[list[str]], object], what: str, timeout: float = 10.0
    ) -> list[str]:
        """The lines of the screen, as soon as they meet a condition. Errors: TimeoutError."""
        end = time.monotonic() + timeout
        while not condition(self.screen.lines):
            left = end - time.monotonic()
            if left <= 0 or not self._read(left):
                if condition(self.screen.lines):
                    break
                text = "\n".join(self.screen.lines)
                raise TimeoutError(f"not within {timeout:g} s: {what}; the screen shows\n{text}")
        return self.screen.lines

    def _read(self, timeout: float) -> bool:
        if select.select([self.fd], [], [], timeout)[0]:
            try:
                data = os.read(self.fd, 1 << 16)
            except OSError:  # EIO: the program has closed the terminal
                return False
            self.screen.feed(data.decode("utf-8", "replace"))
            return bool(data)
        return True

    def hang_up(self) -> None:
        """Close the window: the program's terminal is gone."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        stop(self.process)
        self.hang_up()
