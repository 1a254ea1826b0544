"""Axes: round ticks that cover everything, few enough to be read."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcpd.cli.ctl import scales


@pytest.mark.parametrize(
    ("most", "ticks", "unit"),
    [
        (39e6, [0, 10e6, 20e6, 30e6, 40e6], "Mbit/s"),
        (55e6, [0, 20e6, 40e6, 60e6], "Mbit/s"),
        (900, [0, 200, 400, 600, 800, 1000], "kbit/s"),
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0], "bit/s"),
        (0, [0, 1000], "kbit/s"),
    ],
)
def test_rates(most: float, ticks: list[float], unit: str) -> None:
    found = scales.rates(most, 5)
    assert found[0] == pytest.approx(ticks)
    assert found[1] == unit


@given(st.floats(1e-3, 1e15), st.integers(2, 10))
def test_rates_cover_all(most: float, count: int) -> None:
    ticks, _unit, divisor = scales.rates(most, count)
    assert ticks[0] == 0
    assert ticks[-1] >= most * 0.99999
    assert len(ticks) <= count + 2
    assert all(len(scales.number(tick / divisor)) <= 6 for tick in ticks if most > 1)


@given(st.floats(1e-3, 1e8), st.integers(2, 20))
def test_times(length: float, count: int) -> None:
    ticks = scales.times(length, count)
    assert ticks[0] == 0
    assert ticks[-1] <= length * 1.00001
    assert len(ticks) <= count + 1
    assert all(math.isclose(two - one, ticks[1]) for one, two in itertools.pairwise(ticks))


@pytest.mark.parametrize(
    ("seconds", "length", "text"),
    [(2.5, 10, "2.5 s"), (0, 10, "0 s"), (90, 300, "1:30"), (3720, 7200, "1:02:00"),
     (60, 100, "60 s")],
)  # fmt: skip
def test_clock(seconds: float, length: float, text: str) -> None:
    assert scales.clock(seconds, length) == text
