"""Axes: round numbers for ticks, and what is written at them.

Knows numbers and units; must not know pixels.
"""

from __future__ import annotations

import math

_TIMES = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600,
    900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
)  # fmt: skip
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def rates(most: float, count: int) -> tuple[list[float], str, float]:
    """Ticks from 0 to at least ``most`` bit/s, the unit they share, and what to divide by.

    count   of steps, at most and about
    """
    if most <= 0:
        return [0.0, 1000.0], "kbit/s", 1000.0
    rough = most / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999999)
    ticks = [index * step for index in range(math.ceil(most / step * 0.999999) + 1)]
    prefix = min(len(_PREFIXES) - 1, max(0, math.floor(math.log10(ticks[-1]) / 3)))
    return ticks, f"{_PREFIXES[prefix]}bit/s", 1000.0**prefix


def times(length: float, count: int) -> list[float]:
    """Ticks from 0 up to ``length`` seconds, ``count`` steps at most."""
    step = next((one for one in _TIMES if length / one <= count), None)
    if step is None:
        step = _TIMES[-1] * math.ceil(length / _TIMES[-1] / count)
    return [index * step for index in range(int(length / step * 1.000001) + 1)]


def number(value: float) -> str:
    """Without zeros that say nothing: ``2.5``, ``20``."""
    return f"{value:.6g}"


def clock(seconds: float, length: float) -> str:
    """A time on an axis of ``length`` seconds: ``2.5 s``, ``1:30``, ``1:02:00``."""
    if length < 120:
        return f"{number(seconds)} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if length >= 3600 else f"{minutes}:{rest:02}"
