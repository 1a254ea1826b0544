"""What the daemon costs at rest: start, memory, wake-ups; and what a command costs.

    .venv/bin/python -m bench.start [RUNS]

Medians of several runs (default 10), in a private network namespace. Prints numbers and judges
nothing.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab import Host, Lab, wait_until
from mptcpd.core.endpoints import Endpoints
from mptcpd.core.ids import AddressIds

DAEMON = [
    "-I", "-c",
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from mptcpd.cli.daemon import main; sys.exit(main())",
    os.getcwd(), "--log=null", "--config=etc/mptcpd.conf", "--runtime-dir=none",
    "--plugin-dir=plugins", "--load-plugins=addr_adv",
]  # fmt: skip
C_DAEMON = ["/usr/libexec/mptcpd", "--addr-flags=subflow", "--notify-flags=existing"]
COMMANDS = 100_000  # of one measurement
REST = 10.0  # seconds


@contextmanager
def running(host: Host, command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """The daemon, and the seconds from exec to the first endpoint in the kernel."""
    host.mptcp.flush_addrs()
    began = time.perf_counter()
    process = host.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not host.mptcp.dump_addrs():
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}")
        yield process, time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def status(process: subprocess.Popen[bytes], field: str) -> int:
    """A number of /proc/PID/status."""
    with open(f"/proc/{process.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field + ":"))


def starts(host: Host, name: str, command: list[str], runs: int) -> None:
    """Time from exec to the first endpoint, and memory a second later."""
    seconds, memory = [], []
    for _run in range(runs):
        with running(host, command) as (process, took):
            seconds.append(took)
            # Memory once it rests: no switch of its own will for half a second.
            rested = Rest(process)
            wait_until(rested, "the daemon to rest", timeout=10.0)
            memory.append(status(process, "VmRSS"))
    print(
        f"{name}: exec to first endpoint {1000 * statistics.median(seconds):.0f} ms "
        f"(least {1000 * min(seconds):.0f}), VmRSS {statistics.median(memory) / 1024:.1f} MiB"
    )


class Rest:
    """True once a process has not woken for half a second."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._count = -1
        self._since = 0.0

    def __call__(self) -> bool:
        count = status(self._process, "voluntary_ctxt_switches")
        if count != self._count:
            self._count, self._since = count, time.monotonic()
        return time.monotonic() - self._since > 0.5


def wakeups(host: Host, command: list[str]) -> None:
    """How often the daemon wakes in REST seconds when nothing happens."""
    with running(host, command) as (process, _took):
        wait_until(Rest(process), "the daemon to rest", timeout=10.0)
        before = status(process, "voluntary_ctxt_switches")
        end = time.monotonic() + REST
        wait_until(lambda: time.monotonic() > end, "the rest to be over", timeout=REST + 1)
        woken = status(process, "voluntary_ctxt_switches") - before
        print(f"mptcpd at rest: {woken} wake-ups in {REST:.0f} s")


def commands(host: Host, runs: int) -> None:
    """GET_LIMITS through the plugin API's ``pm.limits``."""
    limits = Endpoints(host.mptcp, AddressIds()).limits
    rates = []
    for _run in range(runs):
        began = time.perf_counter()
        for _command in range(COMMANDS):
            limits()
        rates.append(COMMANDS / (time.perf_counter() - began))
    print(f"commands: {statistics.median(rates):,.0f} GET_LIMITS a second (most {max(rates):,.0f})")


def main(runs: int) -> None:
    """All of it."""
    with Lab() as lab:
        host, other = lab.host("bench"), lab.host("peer")
        lab.link(host, "eth0", ["10.0.1.1/24"], other, "eth0", ["10.0.1.2/24"])
        starts(host, "mptcpd", [sys.executable, *DAEMON], runs)
        if os.access(C_DAEMON[0], os.X_OK):
            starts(host, "the C daemon", C_DAEMON, runs)
        commands(host, runs)
        wakeups(host, [sys.executable, *DAEMON])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
