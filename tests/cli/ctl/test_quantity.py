"""Numbers for people: three digits, and shares that add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcpd.cli.ctl import quantity


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9994, "9.99 kB"),
        (9995, "10.0 kB"),  # not 9.995, not 10.00
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (1_500_000_000, "1.50 GB"),
        ((1 << 64) - 1, "18.4 EB"),
        (None, "-"),
    ],
)
def test_size(value: int | None, text: str) -> None:
    assert quantity.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 bit/s"), (0.01, "0 bit/s"), (1, "8 bit/s"), (125, "1.00 kbit/s"),
     (4_775_000, "38.2 Mbit/s"), (None, "-")],
)  # fmt: skip
def test_rate(value: float | None, text: str) -> None:
    """Bytes go in, bits come out."""
    assert quantity.rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(40, "0.04 ms"), (12_100, "12.1 ms"), (340_200, "340 ms"), (2_000_000, "2000 ms")],
)
def test_milliseconds(value: int | None, text: str) -> None:
    assert quantity.milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 ms"), (0.012, "12 ms"), (0.9996, "1.0 s"), (59.94, "59.9 s"),
        (59.96, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 min"), (86_399, "23 h 59 min"),
        (90_000, "1 d 1 h"), (None, "-"),
    ],
)  # fmt: skip
def test_duration(value: float | None, text: str) -> None:
    assert quantity.duration(value) == text


@pytest.mark.parametrize(
    ("amounts", "found"),
    [([1, 1, 1], [34, 33, 33]), ([0, 0], [None, None]), ([], []), ([0, 5], [0, 100]),
     ([1, 10**9], [0, 100]), ([2, 1], [67, 33])],
)  # fmt: skip
def test_percentages(amounts: list[float], found: list[int | None]) -> None:
    assert quantity.percentages(amounts) == found


@given(st.lists(st.floats(0, 1e15) | st.integers(0, 1 << 63), min_size=1, max_size=20))
def test_percentages_add_up(amounts: list[float]) -> None:
    """To 100, each less than one away from the truth."""
    found = quantity.percentages(amounts)
    if sum(amounts) == 0:
        assert found == [None] * len(amounts)
        return
    assert sum(one for one in found if one is not None) == 100
    for one, amount in zip(found, amounts, strict=True):
        assert one is not None
        assert abs(one - 100 * amount / sum(amounts)) < 1 + 1e-6
