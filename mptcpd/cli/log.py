"""Where log messages go: stderr, syslog, the systemd journal, or nowhere.

Knows    the standard library's logging, and the two datagram protocols that log daemons speak.
Not      who logs what.
Errors   LogError at start, when nobody listens where the messages should go. Later nothing that
         happens to a message raises: what cannot be sent is printed on stderr instead.
Source   systemd, "Native Journal Protocol"; RFC 3164 as glibc's syslog(3) writes it.

Not logging.handlers (it imports pickle and queue), nor the syslog module (libc loses messages
without a word when the socket is gone).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import TextIO

SYSLOG_SOCKET = "/dev/log"
JOURNAL_SOCKET = "/run/systemd/journal/socket"

_IDENTIFIER = "mptcpd"
_DAEMON_FACILITY = 3 << 3  # sys/syslog.h: LOG_DAEMON
_SYSLOG_LINE = 8000  # bytes; rsyslog cuts at 8 KiB by default, header included
_SEND_TIMEOUT = struct.pack("@ll", 1, 0)  # struct timeval: a stuck log daemon costs a second, once
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class LogError(Exception):
    """The log destination cannot be used; one line for the user."""


def priority(level: int) -> int:
    """A level of the logging module as a syslog priority, 2 (critical) to 7 (debug)."""
    for least, result in (
        (logging.CRITICAL, 2),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO + 1, 5),
        (logging.INFO, 6),
    ):
        if level >= least:
            return result
    return 7


def journal_entry(fields: Iterable[tuple[str, str]]) -> bytes:
    """Fields as the journal takes them.

    Shape   ``NAME=value\\n``; a value with line feeds: ``NAME\\n``, u64 length (little-endian, of
            the value alone), value, ``\\n``.
    """
    parts = []
    for name, value in fields:
        raw = value.encode(errors="backslashreplace")
        if b"\n" in raw:
            parts.append(b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(raw)), raw))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), raw))
    return b"".join(parts)


class _Lines(logging.Formatter):
    """The bare message, as the C daemon prints it; debug messages say which code they are from."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno > logging.DEBUG:
            return text
        return f"{record.filename}:{record.funcName}() {text}"


class _SocketHandler(logging.Handler):
    """Sends each record in datagrams to a log daemon, or prints it while that takes none."""

    def __init__(self, what: str, file: str) -> None:
        super().__init__()
        self._what = what
        self._file = file
        self._failing = False
        self._stderr = logging.StreamHandler()
        self._stderr.setFormatter(_Lines())
        # Not connected, so that it finds a log daemon that was restarted under the same name.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
                probe.connect(file)
        except OSError as error:
            self.close()
            raise LogError(f"Unable to log to {what}: {file}: {error.strerror or error}") from error

    def close(self) -> None:
        self._socket.close()
        super().close()

    def datagrams(self, record: logging.LogRecord) -> list[bytes]:
        """What to send for one record."""
        raise NotImplementedError

    def emit(self, record: logging.LogRecord) -> None:
        try:
            datagrams = self.datagrams(record)
        except Exception:  # a log call whose arguments do not fit: what the logging module does
            self.handleError(record)
            return
        try:
            for datagram in datagrams:
                self._send(datagram)
        except OSError as error:
            if not self._failing:
                self._failing = True
                reason = error.strerror or error
                self._print(f"{self._what}: {reason}; messages go here until it works again")
            self._stderr.handle(record)
        else:
            self._failing = False

    def _send(self, datagram: bytes) -> None:
        # While it fails nothing waits for it, or every message would cost the daemon a second.
        flags = socket.MSG_DONTWAIT if self._failing else 0
        try:
            self._socket.sendto(datagram, flags, self._file)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self.send_large(datagram, flags, error)

    def send_large(self, datagram: bytes, flags: int, error: OSError) -> None:
        """Send what is too large for a datagram in another way, or raise ``error``."""
        raise error

    def _print(self, text: str) -> None:
        self._stderr.handle(
            logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
        )


class SyslogHandler(_SocketHandler):
    """``<priority>time mptcpd[pid]: text``, a datagram for each line of the message."""

    def datagrams(self, record: logging.LogRecord) -> list[bytes]:
        # Python never calls setlocale(LC_TIME), so the month is in English, as it should be.
        when = time.strftime("%b %e %H:%M:%S", time.localtime(record.created))
        code = _DAEMON_FACILITY | priority(record.levelno)
        head = f"<{code}>{when} {_IDENTIFIER}[{os.getpid()}]: ".encode()
        lines = self.format(record).encode(errors="backslashreplace").split(b"\n")
        return [head + self._cut(line) for line in lines if line]

    @staticmethod
    def _cut(line: bytes) -> bytes:
        """A line that the log daemon will not cut in silence."""
        if len(line) <= _SYSLOG_LINE:
            return line
        return line[:_SYSLOG_LINE] + b" ... (%d bytes cut)" % (len(line) - _SYSLOG_LINE)


class JournalHandler(_SocketHandler):
    """One journal entry a record, however long."""

    def datagrams(self, record: logging.LogRecord) -> list[bytes]:
        fields = [
            ("MESSAGE", self.format(record)),
            ("PRIORITY", str(priority(record.levelno))),
            ("SYSLOG_IDENTIFIER", _IDENTIFIER),
            ("LOGGER", record.name),
            ("CODE_FILE", record.pathname),
            ("CODE_LINE", str(record.lineno)),
            ("CODE_FUNC", record.funcName or ""),
        ]
        return [journal_entry(fields)]

    def send_large(self, datagram: bytes, flags: int, error: OSError) -> None:
        """In a sealed memory file, whose descriptor goes with an empty datagram."""
        fd = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(datagram)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            # Not socket.send_fds(): before Python 3.12 it forgets flags and address.
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("@i", fd))]
            self._socket.sendmsg([], rights, flags, self._file)
        finally:
            os.close(fd)


def _handler(destination: str, stream: TextIO | None, file: str | None) -> logging.Handler:
    if destination == "stderr":
        plain = logging.StreamHandler(stream)
        plain.setFormatter(_Lines())
        return plain
    if destination == "syslog":
        syslog = SyslogHandler("syslog", file or SYSLOG_SOCKET)
        syslog.setFormatter(_Lines())
        return syslog
    if destination == "journal":
        return JournalHandler("the journal", file or JOURNAL_SOCKET)
    if destination == "null":
        return logging.NullHandler()
    raise LogError(f'Unknown logging option: "{destination}"')


def in_background(file: str = SYSLOG_SOCKET) -> str:
    """The destination in place of stderr for who has none: syslog, or null if nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return "null" if probe.connect_ex(file) else "syslog"


def echo() -> Callable[[], None]:
    """Show warnings and worse on stderr, too, until the function that is returned is called."""
    root = logging.getLogger()
    also, level = logging.StreamHandler(), root.level
    also.setFormatter(_Lines())
    also.setLevel(logging.WARNING)
    root.addHandler(also)
    root.setLevel(min(level, logging.WARNING))  # with null, nothing would get this far

    def end() -> None:
        root.removeHandler(also)
        root.setLevel(level)

    return end


def set_up(
    destination: str,
    debug: bool,
    *,
    stream: TextIO | None = None,
    socket_file: str | None = None,
) -> None:
    """Send all log messages of the process to ``destination``; may be called again.

    destination   stderr, syslog, journal or null
    debug         whether debug messages are among them; else information and worse, as in C
    stream        what to use as stderr (default: sys.stderr)
    socket_file   where syslog or the journal listens (default: the usual place)
    Errors        LogError; the messages then go on to where they went before
    """
    handler = _handler(destination, stream, socket_file)
    handler.set_name(__name__)
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.get_name() == __name__]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    if destination == "null":
        root.setLevel(logging.CRITICAL + 1)
    else:
        root.setLevel(logging.DEBUG if debug else logging.INFO)
    # One process, no threads: nothing to look up for every record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
