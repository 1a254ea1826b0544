"""Life on machines without a service manager: into the background, and a file with the process ID.

Knows    fork, sessions, standard streams, process ID files.
Not      what the daemon does, nor which log destination it has.

The parent waits until the daemon is ready, so that an init script can believe its exit status: 0
for ready, else what the daemon ended with. Till then the daemon has its terminal, to complain on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

_PASSED_ON = (signal.SIGINT, signal.SIGTERM)


class Detached:
    """The daemon's end of the pipe that its parent waits on."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def ready(self) -> None:
        """Let the parent end with 0, and let go of the terminal."""
        with contextlib.suppress(BrokenPipeError):  # it was killed meanwhile: nobody waits
            os.write(self._pipe, b"\0")
        os.close(self._pipe)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)


def detach() -> Detached:
    """Go on in a child, in a session of its own without a terminal; the parent never returns.

    Errors  OSError, of fork(2): nothing has happened then.
    """
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    # Held back until each side knows what to do with them: one that ended the parent alone would
    # leave a daemon that nobody knows of.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child:
        os.close(theirs)
        os._exit(_wait(ours, child))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(ours)
    # A session leader could get a terminal by opening one. The daemon opens none, and as a leader
    # it is the child that its parent can wait for, with its exit status.
    os.setsid()
    os.chdir("/")
    return Detached(theirs)


def _wait(pipe: int, child: int) -> int:
    """Exit status for the parent: 0 when the child is ready, else the child's own."""
    # Who interrupts the start means the daemon: it is in another session, and gets no Ctrl-C.
    for number in _PASSED_ON:
        signal.signal(number, lambda number, _frame: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    if os.read(pipe, 1):
        return 0
    _pid, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code  # killed by a signal: as a shell says it


class PidFile:
    """A file with the process ID and a line feed, made at once and whole.

    Errors  OSError: it cannot be written.

    Its directory may belong to root and the daemon to another user by the time it ends: a file that
    cannot be removed then is emptied, through the descriptor that wrote it.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        fresh = f"{file}.{os.getpid()}"
        # Never through a name that somebody else may have put there.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(fresh, flags, 0o644)
        try:
            os.fchmod(self._fd, 0o644)  # whatever the umask: init scripts of others read it
            os.write(self._fd, b"%d\n" % os.getpid())
            os.rename(fresh, file)
        except OSError:
            os.close(self._fd)
            os.unlink(fresh)
            raise

    def remove(self) -> None:
        """Take it away, unless it is another one by now; or empty it."""
        with contextlib.suppress(OSError):
            ours, there = os.fstat(self._fd), os.stat(self._file, follow_symlinks=False)
            if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                os.unlink(self._file)
        os.ftruncate(self._fd, 0)
        os.close(self._fd)
