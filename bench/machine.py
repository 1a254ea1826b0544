"""What a process costs and what the machine does besides, as /proc tells.

Knows /proc; must not know what is measured. Seconds are CPU seconds, memory is in KiB.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

_TICK = os.sysconf("SC_CLK_TCK")


class Cpu(NamedTuple):
    """CPU seconds in user and system mode, in ticks of 10 ms, and as the scheduler counted them."""

    user: float
    system: float
    scheduled: float

    def __sub__(self, before: Cpu) -> Cpu:
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))


class Memory(NamedTuple):
    """Resident memory now and at most so far."""

    resident: int
    peak: int


def cpu(pid: int) -> Cpu:
    """Errors: OSError if there is no such process."""
    user, system = _times(pid)
    with open(f"/proc/{pid}/schedstat") as stream:
        return Cpu(user, system, int(stream.read().split()[0]) / 1e9)


def memory(pid: int) -> Memory:
    """Errors: OSError if there is no such process."""
    with open(f"/proc/{pid}/status") as stream:
        fields = dict(line.split(":", 1) for line in stream)
    return Memory(*(int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM")))


def woken(pid: int) -> int:
    """How often it has gone to sleep so far, and so was woken. Errors: OSError."""
    with open(f"/proc/{pid}/status") as stream:
        fields = dict(line.split(":", 1) for line in stream)
    return int(fields["voluntary_ctxt_switches"])


def drops(portids: set[int] | None = None, protocol: int = 16) -> int:
    """Messages that netlink sockets of this network namespace have lost: those with one of these
    port IDs, or all that have joined a group."""
    lost = 0
    with open("/proc/thread-self/net/netlink") as stream:
        next(stream)
        for line in stream:
            fields = line.split()
            joined = int(fields[3], 16) if portids is None else int(fields[2]) in portids
            if int(fields[1]) == protocol and joined:
                lost += int(fields[8])
    return lost


class Others:
    """The share of the machine that processes not descending from this one take."""

    def __init__(self) -> None:
        self._began, self._before = time.monotonic(), _others()

    def share(self) -> float:
        """Since the object was made; 1 is the whole machine."""
        taken = sum(
            seconds - self._before.get(pid, 0.0) for pid, seconds in _others().items()
        )
        count = os.cpu_count() or 1
        return max(0.0, taken) / (time.monotonic() - self._began) / count


def wait_for_quiet(share: float = 0.03, timeout: float = 60.0) -> float:
    """Wait until the others took less than ``share`` for two seconds; returns their last share."""
    ends = time.monotonic() + timeout
    calm = 0
    while True:
        others = Others()
        time.sleep(1.0)
        taken = others.share()
        calm = calm + 1 if taken < share else 0
        if calm == 2 or time.monotonic() > ends:
            return taken


def _times(pid: int | str) -> tuple[float, float]:
    with open(f"/proc/{pid}/stat") as stream:
        fields = stream.read().rpartition(")")[2].split()
    return int(fields[11]) / _TICK, int(fields[12]) / _TICK


def _others() -> dict[int, float]:
    """CPU seconds of all processes but the kernel's, this one and what descends from it."""
    parents: dict[int, int] = {}
    taken: dict[int, float] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as stream:
                fields = stream.read().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        pid = int(name)
        parents[pid] = int(fields[1])
        # With the children it has waited for: a process that begins and ends in between counts.
        taken[pid] = sum(int(field) for field in fields[11:15]) / _TICK
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    kernel = {pid for pid, parent in parents.items() if parent == 2 or pid == 2}
    ancestors = set()
    pid = os.getpid()
    while pid := parents.get(pid, 0):
        ancestors.add(pid)  # their children's time is ours
    return {
        pid: seconds for pid, seconds in taken.items() if pid not in ours | kernel | ancestors
    }
