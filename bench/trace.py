"""The kernel's own record of when it woke a process and when that called the kernel.

Knows tracefs; must not know what is measured. Needs root, and tracefs mounted where it belongs.
Source  Documentation/trace/ftrace.rst: instances, event filters.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

_TRACING = pathlib.Path("/sys/kernel/tracing")
_WAKING = "sched/sched_waking"
_SEND = "syscalls/sys_enter_sendto"  # what send(2) is on every architecture but i386 and s390
_LINE = re.compile(r" (\d+)\.(\d{6}): (sched_waking|sys_sendto)\b")


class Step(NamedTuple):
    """``sends`` False: the kernel woke the process. ``us``: microseconds of CLOCK_MONOTONIC."""

    us: int
    sends: bool


class Trace:
    """A record of its own (an "instance"), from entering the block until leaving it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._folder = _TRACING / "instances" / f"mptcpd-{os.getpid()}"

    @staticmethod
    def possible() -> bool:
        """Whether this kernel keeps such a record for us."""
        return all(
            os.access(_TRACING / "events" / name / "enable", os.W_OK) for name in (_WAKING, _SEND)
        )

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Errors: OSError where tracing is not allowed."""
        self._folder.mkdir()
        try:
            self._write("trace_clock", "mono")
            self._write("buffer_size_kb", "8192")
            self._write(f"events/{_WAKING}/filter", f"pid == {self._pid}")
            self._write(f"events/{_SEND}/filter", f"common_pid == {self._pid}")
            for name in (_WAKING, _SEND):
                self._write(f"events/{name}/enable", "1")
            yield
            self._write("tracing_on", "0")
            self.steps = list(self._read())
        finally:
            self._folder.rmdir()

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    def _read(self) -> Iterator[Step]:
        for found in _LINE.finditer((self._folder / "trace").read_text()):
            yield Step(int(found[1] + found[2]), found[3] == "sys_sendto")

    def delays(self) -> list[float]:
        """Microseconds from each waking to the send that came before the next waking."""
        found: list[float] = []
        woken = None
        for step in self.steps:
            if not step.sends:
                woken = step.us
            elif woken is not None:
                found.append(step.us - woken)
                woken = None
        return found
