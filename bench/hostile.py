"""Clients of the control socket that mean ill, each kind in processes of their own.

    .venv/bin/python -m bench.hostile [SECONDS]

Knows how to be a nuisance; must not know what a daemon makes of it. As a program it prints what
they do to the latency of the daemon's loop, to its memory, and to a client that behaves.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.load import Churn, Held
from bench.watched import Daemon, stopped
from lab import Call, Lab, wait_until
from mptcpd.cli.control_client import ControlClient, NoDaemon, Refused

CONNECTIONS = 10_000
BIG = 1 << 30  # bytes of one line
SECONDS = 20.0
_DEEP = b"[" * 16_000 + b"\n"


class Hostile:
    """All kinds at once, until the ``with`` block ends."""

    def __init__(self, file: str, *, connections: int = CONNECTIONS, big: int = BIG) -> None:
        """``connections``: how many are opened at a time; ``big``: bytes of the one long line."""
        self._calls = [
            Call(_crowd, file, connections),
            Call(_asking_crowd, file),
            Call(_half_lines, file),
            Call(_one_long_line, file, big),
            Call(_junk, file),
            Call(_deep, file),
            Call(_never_reads, file),
            Call(_asks_all_the_time, file),
        ]

    @property
    def running(self) -> bool:
        """Whether all of them go on."""
        return all(call.running for call in self._calls)

    def __enter__(self) -> Hostile:
        return self

    def __exit__(self, *_error: object) -> None:
        for call in self._calls:
            call.stop()


def _connected(file: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(file)  # blocking: whoever waits in the row gets in, too
    except OSError:
        sock.close()
        raise
    sock.settimeout(5)
    return sock


def _again_and_again(file: str, once: Callable[[socket.socket], object]) -> None:
    """Connect and be a nuisance until the parent has had enough of it."""
    while True:
        with contextlib.suppress(OSError), _connected(file) as sock:
            once(sock)
        time.sleep(0.001)  # or nobody else would get at the socket at all


def _crowd(file: str, connections: int) -> None:
    """So many connections that say nothing, all at once, over and over."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 100
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # who is not root has what he has
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    while True:
        crowd: list[socket.socket] = []
        with contextlib.suppress(OSError):
            for _connection in range(connections):
                crowd.append(_connected(file))
        time.sleep(0.2)
        for sock in crowd:
            sock.close()


def _asking_crowd(file: str) -> None:
    """So many that ask, do not read, and stay."""
    while True:
        crowd: list[socket.socket] = []
        with contextlib.suppress(OSError):
            for _connection in range(200):
                crowd.append(_connected(file))
                crowd[-1].sendall(b'{"command":"connections"}\n{"command":"status"}\n')
        for sock in crowd:
            sock.close()


def _half_lines(file: str) -> None:
    def once(sock: socket.socket) -> None:
        for byte in b'{"command":"status"':
            sock.send(bytes([byte]))
            time.sleep(0.05)

    _again_and_again(file, once)


def _one_long_line(file: str, big: int) -> None:
    def once(sock: socket.socket) -> None:
        piece = b"x" * (1 << 20)
        for _piece in range(big >> 20):
            sock.sendall(piece)

    _again_and_again(file, once)


def _junk(file: str) -> None:
    def once(sock: socket.socket) -> None:
        for _line in range(200):
            sock.sendall(os.urandom(1000) + b"\xff\xfe\n")
            with contextlib.suppress(BlockingIOError):
                sock.recv(1 << 16, socket.MSG_DONTWAIT)

    _again_and_again(file, once)


def _deep(file: str) -> None:
    def once(sock: socket.socket) -> None:
        for _line in range(200):
            sock.sendall(_DEEP)
            sock.recv(1 << 16)

    _again_and_again(file, once)


def _never_reads(file: str) -> None:
    def once(sock: socket.socket) -> None:
        while True:
            sock.sendall(b'{"command":"connections"}\n' * 1000)

    _again_and_again(file, once)


def _asks_all_the_time(file: str) -> None:
    def once(sock: socket.socket) -> None:
        while True:
            sock.sendall(b'{"command":"connections"}\n{"command":"counters"}\n{"command":"x"}\n')
            sock.recv(1 << 20)

    _again_and_again(file, once)


def main(seconds: float) -> int:
    """Print what they do to the daemon. Returns the exit status."""
    with Lab() as lab, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        host = lab.host("bench")
        daemon = Daemon(host, folder, "count", runtime=folder / "run")
        file = str(folder / "run" / "control.sock")
        held = Held(host, 1000)
        with stopped(daemon):
            daemon.report()
            with ControlClient(file, patience=10) as client:
                client.ask("connections")
                client.ask("counters", format="openmetrics")
            for hostile in (False, True):
                _measure(daemon, file, seconds, hostile)
        held.close()
    return 0


def _measure(daemon: Daemon, file: str, seconds: float, hostile: bool) -> None:
    before = _counters(file)
    memory = daemon.memory()
    with contextlib.ExitStack() as stack:
        if hostile:
            stack.enter_context(Hostile(file))
        # What the loop has to do besides: connections that come and go.
        load = Churn(daemon.host, seconds=seconds, rate=1000.0, processes=1)
        times: list[float] = []
        refused = 0
        while load.running:
            began = time.monotonic()
            try:
                with ControlClient(file) as client:
                    client.ask("status")
                times.append(1000 * (time.monotonic() - began))
            except (NoDaemon, Refused):
                refused += 1
            time.sleep(0.05)
        done = load.result()
    wait_until(daemon.sleeps, "it has nothing left to do", 30)
    after = _counters(file)
    rounds = {
        each["le"]: each["value"] - _bucket(before, each["le"])
        for each in after["mptcpd_loop_round_seconds_bucket"]
    }
    print("with hostile clients:" if hostile else "without:")
    print(f"  connections a second beside: {done.rate:.0f}")
    print(f"  loop rounds: {rounds['+Inf']}, over 10 ms {rounds['+Inf'] - rounds['0.01']}, "
          f"over 25 ms {rounds['+Inf'] - rounds['0.025']}, "
          f"over 50 ms {rounds['+Inf'] - rounds['0.05']}")  # fmt: skip
    peak = daemon.memory()
    print(f"  memory: {memory.resident} KiB before, {peak.resident} after, {peak.peak} at most")
    median = f"{statistics.median(times):.1f} ms at the median" if times else "never served"
    print(f"  a client that behaves: {len(times)} times served, {median}; {refused} times not")
    print(f"  cut off: {after.get('mptcpd_control_cut_off_total')}")


def _counters(file: str) -> dict[str, Any]:
    found = wait_until(lambda: _asked(file), "a place for one who behaves", 30.0)
    assert found is not None
    return found


def _asked(file: str) -> dict[str, Any] | None:
    try:
        with ControlClient(file, patience=5) as client:
            found: dict[str, Any] = client.ask("counters")
            return found
    except (NoDaemon, Refused):
        return None


def _bucket(counters: dict[str, Any], limit: str) -> int:
    return int(
        next(
            each["value"]
            for each in counters["mptcpd_loop_round_seconds_bucket"]
            if each["le"] == limit
        )
    )


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS))
