"""Numbers for people: bytes, rates, times and shares in a few characters.

Knows units and rounding; must not know what is counted. Decimal prefixes, three digits:
``1.50 MB``. What is not known is ``-``.
"""

from __future__ import annotations

from collections.abc import Sequence

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
UNKNOWN = "-"


def scaled(value: float, unit: str) -> str:
    """Three digits, a prefix and the unit: ``999 B``, ``1.00 kB``, ``38.2 Mbit/s``."""
    power = 0
    # What would be rounded up to four digits belongs to the next prefix.
    while value >= 999.5 and power < len(_PREFIXES) - 1:
        value /= 1000
        power += 1
    whole = not power and value == int(value)
    return f"{value:.0f} {unit}" if whole else f"{_three(value)} {_PREFIXES[power]}{unit}"


def _three(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def size(count: int | None) -> str:
    """Bytes: ``412 MB``."""
    return UNKNOWN if count is None else scaled(count, "B")


def rate(bytes_per_second: float | None) -> str:
    """Bytes a second, shown as bits: ``38.2 Mbit/s``. Less than one bit a second is nothing."""
    if bytes_per_second is None:
        return UNKNOWN
    bits = 8 * bytes_per_second
    return scaled(round(bits) if bits < 999.5 else bits, "bit/s")


def milliseconds(microseconds: int | None) -> str:
    """``0.04 ms``, ``12.1 ms``, ``340 ms``."""
    if microseconds is None:
        return UNKNOWN
    return f"{_three(microseconds / 1000)} ms"


def duration(seconds: float | None) -> str:
    """How long ago or how long: ``12 ms``, ``3.2 s``, ``4 min 5 s``, ``3 h 2 min``, ``5 d 1 h``."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def percentages(amounts: Sequence[float]) -> list[int | None]:
    """The part of each in the whole, in percent; together 100. None for all where there is nothing.

    Rounded down, and what is left given to those that lost most by that (largest remainder).
    """
    whole = sum(amounts)
    if whole <= 0:
        return [None] * len(amounts)
    exact = [100 * amount / whole for amount in amounts]
    found = [int(share) for share in exact]
    by_loss = sorted(range(len(exact)), key=lambda index: found[index] - exact[index])
    for index in by_loss[: 100 - sum(found)]:
        found[index] += 1
    return list(found)


def share(percent: int | None) -> str:
    return UNKNOWN if percent is None else f"{percent} %"
