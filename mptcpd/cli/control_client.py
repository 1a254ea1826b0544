"""Asks a running daemon over its control socket; the other end of ``control_server``.

Knows the protocol (docs/control.md) and the clock; must not know what the answers are for.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

PATIENCE = 1.0  # seconds for a part of an answer
# struct timeval; its fields have 64 bits everywhere with SO_SNDTIMEO_NEW (asm-generic/socket.h).
_TIMEVAL = struct.Struct("=qq" if socket.SO_SNDTIMEO == 67 else "@ll")
_MOST = 1 << 24  # bytes of a line; the daemon's are far shorter


class NoDaemon(Exception):
    """Nobody answers at the socket, or not to us."""


class Refused(Exception):
    """The daemon refuses a request. ``kind`` and ``more`` as in its reply."""

    def __init__(self, kind: str, text: str, more: dict[str, Any]) -> None:
        super().__init__(text)
        self.kind = kind
        self.more = more


class ControlClient:
    """A connection to a daemon.

    Errors  of every method: Refused; NoDaemon, also when it falls silent or speaks something else.
    """

    def __init__(self, file: str, patience: float = PATIENCE) -> None:
        self._file = file
        self._buffer = b""
        self._patience = patience
        # Loaded before there is a connection, on which the daemon waits for a request.
        import json

        self._json = json
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A connect that blocks waits in a row for its turn while many others want the same; one on
        # a socket that Python made non-blocking, for a timeout, would be refused (EAGAIN).
        seconds = int(patience)
        limit = _TIMEVAL.pack(seconds, int((patience - seconds) * 1e6))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.connect(file)
        except (OSError, ValueError) as error:
            self._socket.close()
            if isinstance(error, BlockingIOError):
                raise self._silent(TimeoutError()) from error
            reason = error.strerror if isinstance(error, OSError) else None
            raise NoDaemon(f"no daemon at {file}: {reason or error}") from error
        self._socket.settimeout(patience)

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self, command: str, **arguments: object) -> Any:
        """The result of a command; that of one with several parts is one list."""
        parts = list(self.parts(command, **arguments))
        if len(parts) == 1 and not isinstance(parts[0], list):
            return parts[0]
        return [value for part in parts for value in part]

    def parts(self, command: str, **arguments: object) -> Iterator[Any]:
        """The result of a command in the parts in which it comes."""
        request = self._json.dumps({"version": 1, "command": command, **arguments}).encode() + b"\n"
        try:
            self._socket.sendall(request)
        except OSError as error:
            # It may have said why before it hung up.
            if not isinstance(error, (BrokenPipeError, ConnectionResetError)):
                raise self._silent(error) from error
        while True:
            reply = self._line()
            if not reply.get("ok"):
                error_ = reply.get("error") or {}
                more = {k: v for k, v in error_.items() if k not in ("kind", "text")}
                raise Refused(str(error_.get("kind")), str(error_.get("text")), more)
            yield reply.get("result")
            if not reply.get("more"):
                return

    def fileno(self) -> int:
        """The descriptor, for who has subscribed and waits for what comes."""
        return self._socket.fileno()

    def take(self) -> bytes:
        """What has come beyond the last reply, and is not taken yet."""
        found, self._buffer = self._buffer, b""
        return found

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            try:
                data = self._socket.recv(1 << 16)
            except OSError as error:
                raise self._silent(error) from error
            if not data:
                raise NoDaemon(f"the daemon at {self._file} has hung up")
            self._buffer += data
            if len(self._buffer) > _MOST:
                raise NoDaemon(f"what answers at {self._file} is no mptcpd")
        line, _feed, self._buffer = self._buffer.partition(b"\n")
        try:
            said = self._json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise NoDaemon(f"what answers at {self._file} is no mptcpd")
        return said

    def _silent(self, error: OSError) -> NoDaemon:
        if isinstance(error, TimeoutError):
            patience = f"{self._patience:g} s"
            return NoDaemon(f"the daemon at {self._file} does not answer within {patience}")
        return NoDaemon(f"the daemon at {self._file}: {error.strerror or error}")
