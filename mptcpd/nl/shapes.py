"""One compiled reader for all messages of one shape: several values from different nests at once.

Knows offsets in a message; must not know what the values mean. ``_attrs.Layouts`` does the same for
messages that are nothing but a row of attributes; here a fixed header and nests come in between.

Whoever parsed a message plainly knows where its attribute headers and the wanted values lie. The
kernel builds the messages of a dump all alike, so one ``struct.Struct`` reads the next one, if
every header is what it was: a message that differs anywhere in them is not of this shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from struct import Struct
from typing import Any

HEADER = "I"  # nla_len and nla_type as one number


class Shape:
    """The place of everything in a message.

    fixed   (offset, format) of what has to be as it is in ``payload``: attribute headers
    values  (offset, format) of what is wanted; two at least; none may overlap another
    Units   offsets in bytes; formats are those of ``struct``, one value each, in host byte order
    """

    __slots__ = ("_fixed", "_is", "_unpack", "_wanted")

    def __init__(
        self, payload: bytes, fixed: Iterable[tuple[int, str]], values: list[tuple[int, str]]
    ) -> None:
        form, end = "=", 0
        places = sorted({*fixed, *values})
        for offset, code in places:
            form += f"{offset - end}x{code}"
            end = offset + Struct("=" + code).size
        self._unpack = Struct(f"{form}{len(payload) - end}x").unpack
        at = {place: number for number, place in enumerate(places)}
        wanted = set(values)
        self._fixed = itemgetter(*(number for place, number in at.items() if place not in wanted))
        self._wanted = itemgetter(*(at[place] for place in values))
        self._is = self._fixed(self._unpack(payload))

    def read(self, payload: bytes) -> tuple[Any, ...] | None:
        """The values of a message of the same length, or None if it is of another shape."""
        found = self._unpack(payload)
        if self._fixed(found) != self._is:
            return None
        wanted: tuple[Any, ...] = self._wanted(found)
        return wanted
