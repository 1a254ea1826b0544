"""Structs that grow: each length gives the fields that it holds, and None for the others."""

from __future__ import annotations

import struct

import pytest

from mptcpd.nl import growing
from mptcpd.nl.growing import Growing

FIELDS = [(0, "B"), (4, "I"), (8, "Q"), (20, "H")]
WHOLE = struct.pack("=B3xIQ4xH", 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, (None, None, None, None)),
        (1, (1, None, None, None)),
        (7, (1, None, None, None)),
        (8, (1, 2, None, None)),
        (15, (1, 2, None, None)),
        (16, (1, 2, 3, None)),
        (22, (1, 2, 3, 4)),
        (50, (1, 2, 3, 4)),
    ],
)
def test_by_length(length: int, expected: tuple[int | None, ...]) -> None:
    reader = Growing(FIELDS)
    for _compiled_then_known in range(2):
        assert reader.read(WHOLE.ljust(50, b"\xff")[:length]) == expected


def test_no_more_lengths_than_some_are_remembered() -> None:
    reader = Growing(FIELDS)
    for length in range(200):
        reader.read(bytes(length))
    assert len(reader._known) == growing._MOST
