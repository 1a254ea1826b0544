"""Looks for input that breaks a claim, with new seeds each round, until the time is over.

    hunt.py SECONDS [TESTS]      TESTS: files or folders for pytest, by default tests/fuzz and the
                                 long run of the network's model

A round is the fuzz tests with new examples; by default half as long again goes to the parsers and
the datagram entry point alone: to ``guided`` where atheris is installed, else to ``blast``.

Exit 0: nothing found. Exit 1: a test failed, shown with what makes it fail and the command that
repeats it; ``keep`` has written it to tests/fuzz/regressions, where it stays for every ``make
check``, unless it says that it cannot. A round that hangs is a finding too: a parser must not loop.

The number of examples follows the clock, so that a round takes about ROUND seconds and the last
one ends about when the time does.
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time

ROUND = 60.0  # seconds a round is meant to take
HANG = 600.0  # seconds after which a round counts as hung; finding and shrinking take at most 300
TESTS = ["tests/fuzz", "tests/kernel/model_long.py"]
FIRST, FEWEST, MOST = 50, 10, 100_000  # examples for each test in a round


def round_command(tests: list[str], seed: int) -> list[str]:
    """The pytest run of one round; faulthandler shows where a hung test hangs."""
    return [
        *(sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider"),
        *("-p", "tests.fuzz.keep"),
        *("-o", f"faulthandler_timeout={HANG / 2:.0f}", f"--hypothesis-seed={seed}", *tests),
    ]


def alone_command(seconds: float, seed: int, folder: str) -> list[str]:
    """The run of the parsers alone."""
    if importlib.util.find_spec("atheris"):
        return [sys.executable, "-m", "tests.fuzz.guided", f"{seconds:.0f}", str(seed), folder]
    return [sys.executable, "-m", "tests.fuzz.blast", f"{seconds:.0f}", str(seed)]


def run(command: list[str], changes: dict[str, str]) -> tuple[str, str | None]:
    """What it printed; and what is wrong, or None."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **changes},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=HANG,
        )
    except subprocess.TimeoutExpired as hung:
        return (hung.stdout or b"").decode(errors="replace"), f"hung for {HANG:.0f} s"
    failed = f"failed with exit code {done.returncode}" if done.returncode else None
    return done.stdout.decode(errors="replace"), failed


def hunt(seconds: float, tests: list[str] | None) -> int:
    """Run rounds for ``seconds``; the exit code."""
    start = time.monotonic()
    rounds = tried = inputs = 0
    examples = FIRST

    def found(command: list[str], changes: dict[str, str]) -> str | None:
        nonlocal inputs
        output, verdict = run(command, changes)
        if verdict is None:
            counts = re.search(r"executed_units: (\d+)|(\d+) datagrams in", output)
            inputs += int(counts[1] or counts[2]) if counts else 0
            return None
        print(output)
        settings = [f"{name}={value}" for name, value in changes.items()]
        repeat = shlex.join(["env", *settings, *command] if settings else command)
        return f"fuzz: round {rounds + 1} {verdict}. To repeat it:\n  {repeat}"

    while (left := start + seconds - time.monotonic()) > 0 or not rounds:
        seed = random.SystemRandom().getrandbits(31) or 1
        changes = {"HYPOTHESIS_PROFILE": "hunt", "HUNT_EXAMPLES": str(examples)}
        began = time.monotonic()
        finding = found(round_command(tests or TESTS, seed), changes)
        took = time.monotonic() - began
        left -= took
        if finding is None and tests is None and left > 1:
            with tempfile.TemporaryDirectory() as folder:
                finding = found(alone_command(min(ROUND / 2, left), seed, folder), {})
        if finding is not None:
            print(finding)
            return 1
        rounds += 1
        tried += examples
        elapsed = time.monotonic() - start
        print(
            f"fuzz: {elapsed:4.0f} of {seconds:.0f} s, {rounds} rounds, {tried} examples a test"
            f"{f', {inputs} inputs to the parsers alone' if inputs else ''}, nothing found",
            flush=True,
        )
        aim = min(ROUND, max(start + seconds - time.monotonic(), 0.0))
        examples = max(FEWEST, min(MOST, int(examples * aim / took)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(hunt(float(sys.argv[1]), sys.argv[2:] or None))
    except KeyboardInterrupt:
        sys.exit("fuzz: interrupted; nothing found so far")
