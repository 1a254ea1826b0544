"""A terminal's screen as SVG: text in a grid, bars as rectangles so that no font tears them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from lab.terminal import Screen, Style
from mptcpd.cli.ctl.svg import element, escape

_CELL, _LINE, _SIZE = 8.4, 18, 14  # pixels of a cell, and of the letters
_PAD, _BAR = 16, 34  # around the text, and the window's title bar
_GROUND, _FRAME, _TEXT, _DIM = "#0d1117", "#30363d", "#e6edf3", "#8b949e"
_BASIC = ("#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4")
_LEFT = " \u258f\u258e\u258d\u258c\u258b\u258a\u2589\u2588"  # eighths from the left
_RISE = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"  # and from below
_STYLE = (
    f"text{{font:{_SIZE}px 'DejaVu Sans Mono',Menlo,Consolas,monospace;white-space:pre;"
    f"fill:{_TEXT}}}.bold{{font-weight:700}}"
)


def svg(screen: Screen, title: str) -> str:
    """The whole screen in a window; ``title`` stands in its bar."""
    width = screen.columns * _CELL + 2 * _PAD
    height = screen.rows * _LINE + 2 * _PAD + _BAR
    parts = [
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        element("rect", x=0.5, y=0.5, width=width - 1, height=height - 1, rx=10, fill=_GROUND,
                stroke=_FRAME),
        element("text", escape(title), x=width / 2, y=23, text_anchor="middle",
                style=f"fill:{_DIM}"),
    ]  # fmt: skip
    for place, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        parts.append(element("circle", cx=20 + 20 * place, cy=18, r=6, fill=colour))
    for row, cells in enumerate(screen.cells):
        parts += _row(cells, _BAR + _PAD + row * _LINE)
    return (
        element(
            "svg", "\n" + "\n".join(parts) + "\n", xmlns="http://www.w3.org/2000/svg", role="img",
            viewBox=f"0 0 {width:g} {height:g}", width=width, height=height,
            **{"xml:space": "preserve"},  # not every reader of SVG knows white-space
        )
        + "\n"
    )  # fmt: skip


def _row(cells: list[tuple[str, Style]], top: float) -> Iterator[str]:
    column = 0
    for (style, drawn), run in groupby(cells, key=lambda cell: (cell[1], _drawn(cell[0]))):
        text = "".join(cell for cell, _style in run)
        x, count = _PAD + column * _CELL, len(text)
        column += count
        colour = _colour(style)
        if style.reverse:
            yield element("rect", x=x, y=top, width=count * _CELL, height=_LINE, fill=colour)
            colour = _GROUND
        if drawn:
            yield from _bars(text, x, top, colour)
        elif text.strip():
            lead = len(text) - len(text.lstrip())
            text = text.strip()
            yield element(
                "text", escape(text), x=x + lead * _CELL, y=top + 13.5,
                class_="bold" if style.bold else None, style=f"fill:{colour}",
                textLength=len(text) * _CELL, lengthAdjust="spacingAndGlyphs",
            )  # fmt: skip


def _bars(text: str, x: float, top: float, colour: str) -> Iterator[str]:
    """Full cells in one piece; a curve is a row of columns."""
    at = 0
    for cell, run in groupby(text):
        count = len(list(run))
        left = x + at * _CELL
        at += count
        if cell in _LEFT:
            part = _LEFT.index(cell) / 8
            yield element("rect", x=left, y=top + 4, width=count * _CELL * part, height=_LINE - 8,
                          fill=colour)  # fmt: skip
        else:
            part = _RISE.index(cell) / 8
            tall = (_LINE - 4) * part
            yield element("rect", x=left, y=top + _LINE - 2 - tall, width=count * _CELL,
                          height=tall, fill=colour)  # fmt: skip


def _drawn(cell: str) -> bool:
    return cell != " " and (cell in _LEFT or cell in _RISE)


def _colour(style: Style) -> str:
    """Of 256, as xterm has them."""
    number = style.colour
    if number is None:
        return _DIM if style.dim else _TEXT
    if number < 16:
        return _BASIC[number % 8]
    if number >= 232:
        return "#" + 3 * f"{8 + 10 * (number - 232):02x}"
    steps = (0, 95, 135, 175, 215, 255)
    parts = ((number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6)
    return "#" + "".join(f"{steps[part]:02x}" for part in parts)
