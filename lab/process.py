"""Children that never outlive their parent: programs, and Python functions run in a fork.

The kernel kills each child when its parent dies (PR_SET_PDEATHSIG), also when that was by SIGKILL.
Each leads a session of its own: Ctrl-C reaches the parent alone, which ends its children in order.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pickle
import select
import signal
import subprocess
import sys
import termios
import time
import traceback
from collections.abc import Callable
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_prctl = ctypes.CDLL(None, use_errno=True).prctl


class ChildFailed(Exception):
    """A function that ran in a child raised (its traceback), or the child was killed."""


def _die_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before the call
        os._exit(1)


def start(args: list[str], **options: Any) -> subprocess.Popen[Any]:
    """``subprocess.Popen``, but the child dies with us. Without ``stdin`` it has none.

    ``controlling=True``: its stdin, a terminal, is its controlling one: Ctrl-C there is a signal.
    """
    parent = os.getpid()
    options.setdefault("stdin", subprocess.DEVNULL)
    controlling = options.pop("controlling", False)

    def prepare() -> None:
        _die_with(parent)
        if controlling:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    return subprocess.Popen(args, start_new_session=True, preexec_fn=prepare, **options)


def stop(child: subprocess.Popen[Any]) -> None:
    """Kill the child with all that is in its session, and close the pipes to it."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


class Call:
    """A function running in a forked child; its result or exception comes back.

    The child has copies of everything that is open here, sockets among them. It ends without
    running anybody's cleanup (``os._exit``).
    """

    def __init__(self, function: Callable[..., Any], *args: object) -> None:
        self._name = getattr(function, "__name__", repr(function))
        parent = os.getpid()
        self._pipe, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            try:
                _die_with(parent)
                os.setsid()
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_DFL)
                answer = _run(function, args)
                with open(write, "wb") as stream:
                    stream.write(answer)
            finally:
                os._exit(0)
        os.close(write)
        self._status: int | None = None

    def result(self, timeout: float = 30.0) -> Any:
        """What the function returned (must be picklable). Once only.

        Errors  ChildFailed; TimeoutError after ``timeout`` seconds, the child then is killed.
        """
        deadline = time.monotonic() + timeout
        data = b""
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._pipe], [], [], left)[0]:
                self.stop()
                raise TimeoutError(f"{self._name}: no result within {timeout:g} s")
            part = os.read(self._pipe, 1 << 16)
            if not part:
                break
            data += part
        self.stop()
        if not data:
            raise ChildFailed(f"{self._name}: the child ended without a result ({self._status})")
        fine, value = pickle.loads(data)
        if not fine:
            raise ChildFailed(f"{self._name} failed in its child:\n{value}")
        return value

    @property
    def running(self) -> bool:
        """False once the result is there or the child has died."""
        return self._status is None and not select.select([self._pipe], [], [], 0)[0]

    def stop(self) -> None:
        """Kill the child if it still runs. Harmless when repeated."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            self._status = os.waitpid(self.pid, 0)[1]
            os.close(self._pipe)


def _run(function: Callable[..., Any], args: tuple[object, ...]) -> bytes:
    try:
        return pickle.dumps((True, function(*args)))
    except BaseException:  # told to the parent: nothing of it may be lost here
        return pickle.dumps((False, traceback.format_exc()))
