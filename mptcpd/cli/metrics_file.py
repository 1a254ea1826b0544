"""Writes the counters into a file from time to time, for node_exporter's textfile collector.

Knows one file and a timer; must not know what the text says. The file is replaced as a whole, and
goes with the daemon: old numbers must not look like new ones. Without a file there is no timer.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable

from mptcpd.core.loop import Loop, Timer

_LOG = logging.getLogger("mptcpd")
# What to do about an error, for who reads the log.
_ADVICE = {
    errno.ENOENT: "there has to be a directory {folder}",
    errno.EACCES: "user {user} has to be allowed to write into {folder}",
    errno.EROFS: "systemd's unit needs ReadWritePaths={folder}, see mptcpd.conf(5)",
}


class MetricsFile:
    """The file, once ``keep`` has named one."""

    def __init__(self, loop: Loop, text: Callable[[], str]) -> None:
        self._loop = loop
        self._text = text
        self._file: str | None = None
        self._interval = 0.0
        self._timer: Timer | None = None
        self._failing = False

    def keep(self, file: str | None, interval: float) -> None:
        """Write this file now and every ``interval`` seconds; None: none. May be called again."""
        if (file, interval) == (self._file, self._interval):
            return
        if file != self._file:
            self.close()
        self._file, self._interval = file, interval
        self._write()

    def close(self) -> None:
        """Write no more, and remove what is there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._file)
            self._file = None

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._file is None:
            return
        self._timer = self._loop.call_later(self._interval, self._write)
        fresh = f"{self._file}.new"
        try:
            # Never write through what somebody else may have put there.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(fresh, flags, 0o644), "w", encoding="utf-8") as stream:
                os.fchmod(stream.fileno(), 0o644)  # whatever our umask: another user reads it
                stream.write(self._text())
            os.rename(fresh, self._file)
        except OSError as error:
            self._complain(error)
        else:
            self._failing = False

    def _complain(self, error: OSError) -> None:
        if self._failing or self._file is None:
            return
        self._failing = True
        advice = _ADVICE.get(error.errno or 0, "")
        if advice:
            folder = os.path.dirname(self._file)
            advice = f" ({advice.format(folder=folder, user=os.geteuid())})"
        _LOG.warning(
            "metrics-file=%s: %s%s; trying again every %g s",
            self._file,
            error.strerror,
            advice,
            self._interval,
        )
