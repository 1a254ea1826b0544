"""Reads wait a moment where events come fast, and nowhere else."""

from __future__ import annotations

import pytest

from mptcpd.core.pace import FAST, PAUSE, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def waits(rate: float, seconds: float, every: float, clock: Clock, pace: Pace) -> list[float]:
    """What is waited after each read, at so many events a second and a read ``every`` seconds."""
    found = []
    for _read in range(round(seconds / every)):
        clock.now += every
        found.append(pace.after(round(rate * every)))
    return found


@pytest.mark.parametrize("every", [0.0001, 0.001, 0.02])
def test_a_calm_reader_is_never_held_up(every: float) -> None:
    clock = Clock()
    assert set(waits(0.5 * FAST, 0.2, every, clock, Pace(clock))) == {0.0}


@pytest.mark.parametrize("every", [0.0001, 0.001, 0.02])
def test_fast_events_gather_until_they_are_slow_again(every: float) -> None:
    clock = Clock()
    pace = Pace(clock)
    assert waits(2 * FAST, 0.1, every, clock, pace)[-1] == PAUSE
    assert waits(0.5 * FAST, 0.1, every, clock, pace)[-1] == 0.0


def test_a_burst_is_no_rate() -> None:
    """A hundred events at once, after a rest and before the next one."""
    clock = Clock()
    pace = Pace(clock)
    for _burst in range(20):
        clock.now += 0.02
        assert pace.after(100) == 0.0
