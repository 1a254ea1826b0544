"""Throws damaged datagrams at the datagram entry point, as many a second as it can.

    python -m tests.fuzz.blast SECONDS [SEED] [COUNT]

Ends after SECONDS or COUNT inputs and says how many a second it made. Without a SEED it draws one
and says which. Exit 1: an input broke the claim of ``test_fuzz_nl.test_datagrams``; it is shown and
kept (``keep``). This is random, not clever: what hypothesis and a coverage-guided fuzzer lack in
number it makes up for.
"""

from __future__ import annotations

import random
import sys
import time
import traceback

from tests.fuzz import damage, keep, parsers
from tests.fuzz.datagrams import Entry

# After so many inputs the compiled parsers forget: their tables are full by then, and what is not
# learnt is not tested.
FORGET = 5000


def inputs(rng: random.Random, whole: list[bytes]) -> bytes:
    """One datagram: a damaged message, or several, or noise."""
    real = rng.random

    def choose(low: int, high: int) -> int:
        return low + int(real() * (high - low + 1))

    message = damage.damaged(whole[choose(0, len(whole) - 1)], choose)
    kind = real()
    if kind < 0.85:
        return message
    if kind < 0.97:
        pad = bytes(-len(message) & 3)
        return message + pad + damage.damaged(whole[choose(0, len(whole) - 1)], choose)
    return rng.randbytes(choose(0, 120))


def blast(seconds: float, seed: int, count: int | None = None) -> tuple[Entry, float, bytes | None]:
    """The entry with its counts, the seconds it took, and the input that broke it, if one did."""
    rng = random.Random(seed)
    whole = parsers.EVENTS + parsers.REPLIES
    entry = Entry()
    parsers.forget()
    began = time.monotonic()
    while count is None or entry.inputs < count:
        if entry.inputs % FORGET == 0:
            parsers.forget()
        if entry.inputs % 256 == 0 and time.monotonic() - began > seconds:
            break
        datagram = inputs(rng, whole)
        try:
            entry.take(datagram)
        except Exception:
            traceback.print_exc()
            return entry, time.monotonic() - began, datagram
    return entry, time.monotonic() - began, None


def main(seconds: float, seed: int | None = None, count: int | None = None) -> int:
    if seed is None:
        seed = random.SystemRandom().getrandbits(32)
    entry, took, broken = blast(seconds, seed, count)
    print(
        f"blast: seed {seed}: {entry.inputs} datagrams in {took:.1f} s, "
        f"{entry.inputs / took:.0f} a second: {entry.events} events, {entry.values} other values, "
        f"{entry.refused} refused",
        flush=True,
    )
    if broken is None:
        return 0
    kept = keep.write("tests/fuzz/test_fuzz_nl.py", f"test_datagrams(data={broken!r})")
    print(f"blast: it broke the claim: {broken.hex()}\nkept as {kept}")
    return 1


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(float(words[0]), *(int(word) for word in words[1:])))
