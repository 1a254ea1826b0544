"""What the demo prints: plain lines, a bar for each path, colour and motion on a terminal only."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

_WIDTH = 16  # cells of a full bar
_BLOCKS = " ▏▎▍▌▋▊▉█"  # eighths of a cell
_BOLD, _DIM = "1", "2"
_PATHS = ("36", "35")  # a colour for each path


class Screen:
    """Writes to ``stream``. ``full`` is the value of a full bar, in Mbit/s."""

    def __init__(self, full: float, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._full = full
        self._live = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._colour = self._live and not os.environ.get("NO_COLOR")
        try:
            _BLOCKS.encode(stream.encoding or "ascii")
            self._blocks = True
        except UnicodeEncodeError:
            self._blocks = False
        self._pending = False

    def title(self, text: str) -> None:
        self.line(self._paint(_BOLD, text))

    def line(self, text: str = "") -> None:
        """A line of its own, also while a row is shown."""
        if self._pending:
            self._stream.write("\r\x1b[K")
            self._pending = False
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def event(self, seconds: float, text: str) -> None:
        """Something happened at this time of the transfer."""
        self.line(f"  {seconds:5.1f} s  {self._paint(_BOLD, text)}")

    def row(self, seconds: float, rates: Sequence[float | None], done: float, last: bool) -> None:
        """What each path carries, in Mbit/s (None: it is cut), and the part done, up to 1.

        On a terminal a row is written over by the next one, until the ``last`` of its second.
        """
        if not (last or self._live):
            return
        cells = [f"  {seconds:5.1f} s"]
        for colour, rate in zip(_PATHS, rates, strict=True):
            cells.append(self._cut() if rate is None else self._bar(colour, rate))
        cells.append(f"{sum(rate or 0 for rate in rates):5.1f} Mbit/s  {done:4.0%}")
        text = "  ".join(cells)
        if last:
            self.line(text)
        else:
            self._stream.write(f"\r{text}\x1b[K")
            self._stream.flush()
            self._pending = True

    def verdict(self, passed: bool, text: str) -> None:
        """The last line: plain, so that whoever searches for its beginning finds it."""
        self.line(f"demo: {'PASS' if passed else 'FAIL'}: {text}")

    def heads(self, names: Sequence[str]) -> None:
        """The heading of the rows."""
        cells = [
            self._paint(colour, f"{name:{_WIDTH + 6}}")
            for colour, name in zip(_PATHS, names, strict=True)
        ]
        self.line("  ".join([" " * 9, *cells, "together      done"]))

    def _bar(self, colour: str, rate: float) -> str:
        eighths = round(max(0.0, min(rate / self._full, 1.0)) * _WIDTH * 8)
        full, rest = divmod(eighths, 8)
        bar = _BLOCKS[8] * full + _BLOCKS[rest].strip() if self._blocks else "#" * full
        return f"{self._paint(colour, f'{bar:{_WIDTH}}')} {rate:5.1f}"

    def _cut(self) -> str:
        return self._paint(_DIM, f"{'--- cut ---':{_WIDTH}}") + f" {0:5.1f}"

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text
