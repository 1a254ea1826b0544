"""The command line of the measurements: ``python -m bench [--runs N] [NAME...]``."""

from __future__ import annotations

import argparse
import os
import platform
import sys

from bench.measures import MEASURES
from lab import Missing


def main() -> int:
    """Run the measurements that were named, or all. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Prints numbers.")
    parser.add_argument("--runs", type=int, default=3, help="of each measurement (3)")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=", ".join(MEASURES) + "; all if none is given"
    )
    said = parser.parse_args()
    unknown = set(said.names) - MEASURES.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    print(
        f"Linux {platform.release()}, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}",
        flush=True,
    )
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        for name in said.names or MEASURES:
            MEASURES[name](said.runs)
    except Missing as reason:
        print(reason)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
