"""What mptcpize costs: a socket() call, the start of a program, and what the supervisor needs.

    .venv/bin/python -m bench.sockets [CALLS]

Medians and 90th and 99th percentiles, one caller at a time, in a private network namespace. Prints
numbers and judges nothing.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
import time

from lab import Host, Lab

OURS = [sys.executable, "-m", "mptcpd.cli.mptcpize", "run"]
C_PROGRAM = ["/usr/bin/mptcpize", "run"]  # Debian's
STARTS = 20  # of each kind

CALLER = """
import sys, time, _socket
protocol, calls = map(int, sys.argv[1:])
took = []
for _ in range(calls):
    begun = time.perf_counter_ns()
    made = _socket.socket(2, 1, protocol)
    took.append((time.perf_counter_ns() - begun) / 1000)
    made.close()
took.sort()
print(*(f"{took[calls * part // 100]:.1f}" for part in (50, 90, 99)))
"""


def run(host: Host, words: list[str]) -> str:
    """What a program prints, in the host."""
    with host:
        return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def calls(host: Host, count: int) -> None:
    for name, before, protocol in (
        ("TCP", [], 0),
        ("MPTCP, asked for by the program", [], 262),
        ("MPTCP by mptcpize", OURS, 0),
        ("MPTCP by the C mptcpize", C_PROGRAM, 0),
    ):
        if before and not os.path.exists(before[0]):
            continue
        words = [*before, sys.executable, "-c", CALLER, str(protocol), str(count)]
        print(f"socket(), {name}: {run(host, words)} us", flush=True)


def starts(host: Host) -> None:
    for name, before in (("alone", []), ("mptcpize", OURS), ("the C mptcpize", C_PROGRAM)):
        if before and not os.path.exists(before[0]):
            continue
        took = []
        for _ in range(STARTS):
            begun = time.perf_counter()
            run(host, [*before, "true"])
            took.append((time.perf_counter() - begun) * 1000)
        print(f"start to end of true(1), {name}: {statistics.median(took):.1f} ms", flush=True)


def memory(host: Host) -> None:
    """The supervisor's own memory, once its starter has become another program."""
    shell = (
        "for process in /proc/[0-9]*; do"
        "  if read -r name <$process/comm && [ $name = mptcpize-serve ]"
        "     && grep -qz BENCH=$BENCH $process/environ; then"
        "    grep -E '^(Pss|Private_Dirty|Rss):' $process/smaps_rollup; fi; done 2>/dev/null"
    )
    os.environ["BENCH"] = str(os.getpid())
    found = re.findall(r"(\w+): +(\d+) kB", run(host, [*OURS, "sh", "-c", shell]))
    print("supervisor: " + ", ".join(f"{name} {int(kib) / 1024:.1f} MiB" for name, kib in found))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print(f"Linux {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
    print("socket() in us: median, 90th, 99th percentile")
    with Lab() as lab:
        host = lab.host("caller")
        calls(host, count)
        starts(host)
        memory(host)


if __name__ == "__main__":
    main()
