"""What commands print: the same records as text for people, or as JSON for programs.

Knows forms: text, JSON, pretty JSON, one line a record, colours. Must not know what is in a record.
JSON is laid out as iproute2 lays it out, to the byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Json = Any  # None, bool, int, float, str, and lists and dicts of such

# Colours as iproute2 chooses them: on a light background, and on a dark one.
COLOURS = {
    "ipv4": ("35", "1;35"),
    "ipv6": ("34", "1;94"),
    "interface": ("36", "1;36"),
    "good": ("32", "1;32"),
    "bad": ("31", "1;31"),
}


class Field(NamedTuple):
    """One item of a record.

    text    how people see it, with the blanks around it; "" for JSON alone
    key     its name in JSON; "" for text alone
    value   its value in JSON
    colour  a key of COLOURS, for ``text`` without its last character, or ""
    """

    text: str
    key: str = ""
    value: Json = None
    colour: str = ""


class Settings(NamedTuple):
    """The options that say how to print.

    json, pretty, oneline  -j, -p (which matters with -j only), -o
    stamp    "" for no timestamps, "long" for -t, "short" for -ts
    family   None, 4 or 6 (-4, -6)
    colour   whether to colour: decided, not asked
    socket   the daemon's control socket; None: where it usually is
    """

    json: bool = False
    pretty: bool = False
    oneline: bool = False
    stamp: str = ""
    family: int | None = None
    colour: bool = False
    socket: str | None = None


class Output:
    """Collects what is to be printed, and writes it to standard output when told.

    Errors of everything that writes: OSError; BrokenPipeError when nobody reads any more.
    """

    def __init__(self, settings: Settings, fd: int = 1) -> None:
        self.settings = settings
        self._fd = fd
        self._parts: list[str] = []
        self._dark = _dark() if settings.colour else False

    def write(self, text: str) -> None:
        """Print text as it is."""
        self._parts.append(text)

    def line(self, text: str = "") -> None:
        """Print text and the end of a line, which is ``\\`` with -o."""
        self._parts.append(text + ("\\" if self.settings.oneline else "\n"))

    def paint(self, colour: str, text: str) -> str:
        """The text in a colour, if colours are wanted."""
        if not self.settings.colour or not colour:
            return text
        # iproute2 colours the blank behind a field, too.
        return f"\033[{COLOURS[colour][self._dark]}m{text}\033[0m"

    def records(self, records: Iterable[Sequence[Field]]) -> None:
        """Print records of a list: a line each, or a JSON list with an object each."""
        if self.settings.json:
            self.json([{f.key: f.value for f in record if f.key} for record in records])
            return
        for record in records:
            self.line("".join(self.paint(field.colour, field.text) for field in record))

    def json(self, value: Json) -> None:
        """Print a JSON document."""
        self._parts.append(dump(value, self.settings.pretty) + "\n")

    def flush(self) -> None:
        """Write what was collected."""
        if self._parts:
            data = memoryview("".join(self._parts).encode("utf-8", "surrogateescape"))
            self._parts.clear()
            while data:
                data = data[os.write(self._fd, data) :]


def dump(value: Json, pretty: bool = False) -> str:
    """``value`` as JSON, compact or as iproute2's -p has it."""
    if pretty:
        return _pretty(value, 0)
    import json

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _pretty(value: Json, depth: int) -> str:
    if isinstance(value, dict):
        start = "\n" + 4 * (depth + 1) * " "
        inside = ",".join(
            f"{start}{dump(str(key))}: {_pretty(item, depth + 1)}" for key, item in value.items()
        )
        end = "\n" + 4 * depth * " " if value else ""
        return f"{{{inside}{end}}}"
    if isinstance(value, (list, tuple)):
        inside = ",".join(_pretty(item, depth + 1) for item in value)
        return f"[ {inside}{' ' if value else ''}]"
    return dump(value)


def _dark() -> bool:
    """Whether the terminal's background is dark, by COLORFGBG; dark if it does not say."""
    background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return not background or background in ("0", "1", "2", "3", "4", "5", "6", "8")
