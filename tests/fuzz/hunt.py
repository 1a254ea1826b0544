"""Runs the fuzz tests again and again, each round with a new seed, until the time is over.

    hunt.py SECONDS [TESTS]      TESTS: files or folders for pytest, by default tests/fuzz and the
                                 long run of the network's model

Exit 0: nothing found. Exit 1: a test failed, shown with its falsifying example and the command
that repeats it. A round that hangs is a finding too: a parser must not loop.

The number of examples follows the clock, so that a round takes about ROUND seconds and the last
one ends about when the time does.
"""

from __future__ import annotations

import os
import random
import shlex
import subprocess
import sys
import time

ROUND = 60.0  # seconds a round is meant to take
HANG = 600.0  # seconds after which a round counts as hung; finding and shrinking take at most 300
TESTS = ["tests/fuzz", "tests/kernel/model_long.py"]
FIRST, FEWEST, MOST = 50, 10, 100_000  # examples for each test in a round


def round_command(tests: list[str], seed: int) -> list[str]:
    """The pytest run of one round; faulthandler shows where a hung test hangs."""
    return [
        *(sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider"),
        *("-o", f"faulthandler_timeout={HANG / 2:.0f}", f"--hypothesis-seed={seed}", *tests),
    ]


def hunt(seconds: float, tests: list[str]) -> int:
    """Run rounds for ``seconds``; the exit code."""
    start = time.monotonic()
    rounds = tried = 0
    examples = FIRST
    while (left := start + seconds - time.monotonic()) > 0 or not rounds:
        seed = random.SystemRandom().getrandbits(32)
        command = round_command(tests, seed)
        changes = {"HYPOTHESIS_PROFILE": "hunt", "HUNT_EXAMPLES": str(examples)}
        began = time.monotonic()
        try:
            run = subprocess.run(
                command,
                env={**os.environ, **changes},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=HANG,
            )
            output, verdict = run.stdout, f"failed with exit code {run.returncode}"
            failed = run.returncode != 0
        except subprocess.TimeoutExpired as hung:
            output, verdict, failed = hung.stdout or b"", f"hung for {HANG:.0f} s", True
        took = time.monotonic() - began
        if failed:
            print(output.decode(errors="replace"))
            print(f"fuzz: round {rounds + 1} {verdict}. To repeat it:")
            settings = [f"{name}={value}" for name, value in changes.items()]
            print(f"  env {shlex.join([*settings, *command])}")
            return 1
        rounds += 1
        tried += examples
        elapsed = time.monotonic() - start
        print(
            f"fuzz: {elapsed:4.0f} of {seconds:.0f} s, {rounds} rounds, "
            f"{tried} examples a test, nothing found",
            flush=True,
        )
        aim = min(ROUND, max(left - took, 0.0))
        examples = max(FEWEST, min(MOST, int(examples * aim / took)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(hunt(float(sys.argv[1]), sys.argv[2:] or TESTS))
    except KeyboardInterrupt:
        sys.exit("fuzz: interrupted; nothing found so far")
