"""SVG by hand: elements as text, numbers short, everything escaped.

Knows XML; must not know what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
Attribute = str | float | None


def escape(text: str) -> str:
    """Text for an element or an attribute; what XML cannot hold is a question mark."""
    return "".join(
        _ESCAPES.get(one, one if one.isprintable() or one in "\n\t" else "?") for one in text
    )


def number(value: float) -> str:
    """At most one decimal: a tenth of a pixel is seen by nobody."""
    text = f"{value:.1f}"
    return text.removesuffix(".0") if text != "-0.0" else "0"


def element(name: str, inside: str = "", **attributes: Attribute) -> str:
    """``element("rect", x=1, stroke_width=2)``; _ is -, and an attribute that is None is left out.

    ``inside`` is taken as it is: elements, or text that was escaped.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{said}>{inside}</{name}>" if inside else f"<{name}{said}/>"


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else number(value)


def text(x: float, y: float, words: str, class_: str = "", **attributes: Attribute) -> str:
    """A text whose baseline is at ``y``."""
    return element("text", escape(words), x=x, y=y, class_=class_ or None, **attributes)


def polygon(points: Iterable[tuple[float, float]], **attributes: Attribute) -> str:
    """A closed area."""
    corners = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return element("polygon", "", points=corners, **attributes)
