"""Characters for bars and curves in text: eighths of a cell, or ASCII where that is all there is.

Knows how a number becomes a bar; must not know what it means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Glyphs(NamedTuple):
    """bar: nothing to a full cell, from the left; rise: the same from below."""

    bar: str
    rise: str
    track: str
    arrow: str
    up: str
    down: str
    more: str
    dot: str
    mark: str
    horizontal: str


UNICODE = Glyphs(" ▏▎▍▌▋▊▉█", " ▁▂▃▄▅▆▇█", "·", "→", "↑", "↓", "…", "·", "▸", "─")
ASCII = Glyphs(" #", " .:-=+*#", ".", ">", "up", "down", "~", "|", ">", "-")


def fitting(encoding: str | None) -> Glyphs:
    """UNICODE where the output can show it."""
    try:
        "".join(UNICODE).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def bar(glyphs: Glyphs, part: float, width: int) -> str:
    """The filled part of a bar of ``width`` cells; what is not nothing shows at least a trace."""
    steps = len(glyphs.bar) - 1
    filled = round(min(1.0, max(0.0, part)) * width * steps)
    if part > 0 and width > 0:
        filled = max(1, filled)
    full, rest = divmod(filled, steps)
    return glyphs.bar[-1] * full + (glyphs.bar[rest] if rest else "")


def curve(glyphs: Glyphs, values: Sequence[float], width: int) -> str:
    """The latest ``width`` values, one cell each, the highest of them as high as it goes."""
    shown = values[-width:] if width > 0 else []
    top = max(shown, default=0)
    if top <= 0:
        return ""
    steps = len(glyphs.rise) - 1
    return "".join(
        glyphs.rise[max(1, round(value / top * steps)) if value > 0 else 0] for value in shown
    )


def shorten(glyphs: Glyphs, text: str, width: int) -> str:
    """At most ``width`` characters of a text, its end cut off where it is longer."""
    if len(text) <= width:
        return text
    return text[: max(0, width - len(glyphs.more))] + glyphs.more[:width]
