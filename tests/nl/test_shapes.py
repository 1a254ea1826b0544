"""A shape reads what it was made of, and nothing that differs in what is fixed."""

from __future__ import annotations

import struct

from mptcpd.nl.shapes import HEADER, Shape

#       0            4     5         8            12          14
FORM = "=IB3xIH2xI"
FIXED = [(0, HEADER), (8, HEADER)]
VALUES = [(16, "I"), (4, "B"), (12, "2s")]


def message(first: int = 1, small: int = 2, second: int = 3, pair: int = 4, last: int = 5) -> bytes:
    return struct.pack(FORM, first, small, second, pair, last)


def test_values_come_in_the_order_they_were_asked_for() -> None:
    shape = Shape(message(), FIXED, VALUES)
    assert shape.read(message()) == (5, 2, struct.pack("=H", 4))
    other = message(small=200, pair=0xFFFF, last=0xFFFFFFFF)
    assert shape.read(other) == (0xFFFFFFFF, 200, b"\xff\xff")


def test_a_difference_in_what_is_fixed_is_another_shape() -> None:
    shape = Shape(message(), FIXED, VALUES)
    assert shape.read(message(first=2)) is None
    assert shape.read(message(second=2)) is None
    assert shape.read(message(first=1 << 24)) is None


def test_what_is_neither_does_not_matter() -> None:
    shape = Shape(message(), FIXED, VALUES)
    data = bytearray(message())
    data[5:8], data[14:16] = b"\xff" * 3, b"\xff" * 2
    assert shape.read(bytes(data)) == (5, 2, struct.pack("=H", 4))


def test_one_fixed_place_is_enough() -> None:
    shape = Shape(message(), [(0, HEADER)], VALUES)
    assert shape.read(message(second=9)) == (5, 2, struct.pack("=H", 4))
    assert shape.read(message(first=9)) is None
