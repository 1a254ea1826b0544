"""Tells the service manager how it goes: sd_notify(3), spoken directly.

Knows the datagrams that systemd and its like take at $NOTIFY_SOCKET, and what they ask in the
environment; must not know what the daemon does. Without that variable nothing is sent and nothing
is opened.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

from mptcpd.core.loop import Loop

_LOG = logging.getLogger("mptcpd")
_MOST = 4096  # bytes of one message; systemd takes no more


class Notifier:
    """Sends state changes to ``address``; None: to nobody.

    address   a file's name, or ``@name`` for an abstract socket
    watchdog  seconds within which a sign of life is expected; 0: none is
    Errors    of every method: none. What cannot be sent is said in the log, once.
    """

    def __init__(self, address: str | None, watchdog: float = 0.0) -> None:
        self._address = b""
        if address:
            name = os.fsencode(address)
            self._address = b"\0" + name[1:] if name.startswith(b"@") else name
        self.watchdog = watchdog
        self._socket: socket.socket | None = None
        if self._address:
            # Opened before powers are given up.
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._failed = False

    def ready(self, status: str) -> None:
        """The start, or a reload, is over."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def reloading(self) -> None:
        """A reload begins; ``ready`` is to follow."""
        # In microseconds of CLOCK_MONOTONIC, which tells systemd that this comes after its signal.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=Reading the configuration anew")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1\nSTATUS=Ending")

    def failed(self, why: str) -> None:
        """It cannot start."""
        self._send(f"STATUS={_line(why)}")

    def keep_alive(self, loop: Loop) -> None:
        """From now on tell of being alive, from the loop, twice as often as is expected."""
        if self._socket is not None and self.watchdog:
            self._send("WATCHDOG=1")
            loop.call_later(self.watchdog / 2, self.keep_alive, loop)

    def close(self) -> None:
        """Nothing is told any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            # A service manager that does not read must not stop us.
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            # Cut where a character ends, or systemd does not take the status.
            data = text.encode(errors="replace")[:_MOST].decode(errors="ignore").encode()
            self._socket.sendto(data, flags, self._address)
        except (OSError, ValueError) as error:
            if not self._failed:
                self._failed = True
                _LOG.warning("The service manager cannot be told how it goes: %s", error)
        else:
            self._failed = False


NOBODY = Notifier(None)


def from_environment(environment: Mapping[str, str], pid: int | None = None) -> Notifier:
    """What the environment asks for, if it means this process.

    Source  sd_notify(3), sd_watchdog_enabled(3): NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID.
    """
    address = environment.get("NOTIFY_SOCKET")
    if address and not address.startswith(("/", "@")):
        _LOG.warning("NOTIFY_SOCKET=%s is not understood: only files and @names are.", address)
        address = None
    meant = environment.get("WATCHDOG_PID")
    text = environment.get("WATCHDOG_USEC", "")
    ours = meant is None or meant == str(os.getpid() if pid is None else pid)
    plain = text.isascii() and text.isdigit() and len(text) < 16
    return Notifier(address, int(text) / 1e6 if ours and plain else 0.0)


def _line(text: str) -> str:
    """A status is one line; the next one would be taken for another variable.

    With a NUL in it systemd would take nothing of the whole message.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
