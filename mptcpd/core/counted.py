"""Counts requests to the kernel, and those that it refused.

Knows the protocols of the command sockets (``nl.client.Commands``, ``nl.diag_client.Streams``),
which it stands in for; must not know what is asked. It costs 0.1 us a request of 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from mptcpd.nl import uapi as u
from mptcpd.nl.client import Commands
from mptcpd.nl.diag_client import Streams
from mptcpd.nl.errors import KernelError, NetlinkError
from mptcpd.nl.exchange import Names

Inner = TypeVar("Inner")
Heard = Callable[[str, bytes, "Names | None", "NetlinkError | None"], object]


class Counts:
    """What all counted sockets have been asked.

    sent    command -> how often
    failed  (command, errno) -> how often; errno 0: there was no answer that could be used
    heard   called with every command that changes something, if somebody wants to know: its name,
            its body and names as for ``nl.words``, and what went wrong
    """

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.failed: dict[tuple[str, int], int] = {}
        self.heard: Heard | None = None

    def add(self, command: str) -> None:
        self.sent[command] = self.sent.get(command, 0) + 1

    def fail(self, command: str, error: NetlinkError) -> None:
        key = command, error.errno if isinstance(error, KernelError) else 0
        self.failed[key] = self.failed.get(key, 0) + 1


class _Counted(Generic[Inner]):
    def __init__(self, inner: Inner, counts: Counts) -> None:
        """``inner``: the socket itself, or what shows its requests in the log; may be exchanged."""
        self.inner = inner
        self._counts = counts


class CountedCommands(_Counted[Commands]):
    """A command socket that counts."""

    def query(self, kind: int, body: bytes, command: str, names: Names | None = None) -> bytes:
        self._counts.add(command)
        try:
            return self.inner.query(kind, body, command, names)
        except NetlinkError as error:
            self._counts.fail(command, error)
            raise

    def request(
        self, kind: int, body: bytes, command: str, names: Names | None = None,
        *, flags: int = u.NLM_F_ACK, header: int = 4,
    ) -> list[bytes]:  # fmt: skip
        self._counts.add(command)
        heard = self._counts.heard if flags & u.NLM_F_ACK else None
        try:
            answers = self.inner.request(kind, body, command, names, flags=flags, header=header)
        except NetlinkError as error:
            self._counts.fail(command, error)
            if heard is not None:
                heard(command, body, names, error)
            raise
        if heard is not None:
            heard(command, body, names, None)
        return answers

    def dump(
        self, kind: int, body: bytes, command: str, names: Names | None = None,
        *, header: int = 4,
    ) -> list[bytes]:  # fmt: skip
        self._counts.add(command)
        try:
            return self.inner.dump(kind, body, command, names, header=header)
        except NetlinkError as error:
            self._counts.fail(command, error)
            raise


class CountedStreams(_Counted[Streams]):
    """As CountedCommands, for sock_diag."""

    def stream(self, kind: int, body: bytes, command: str, *, header: int) -> Iterator[bytes]:
        self._counts.add(command)
        try:
            yield from self.inner.stream(kind, body, command, header=header)
        except NetlinkError as error:
            self._counts.fail(command, error)
            raise

    def request(
        self, kind: int, body: bytes, command: str, *, flags: int, header: int
    ) -> list[bytes]:
        self._counts.add(command)
        try:
            return self.inner.request(kind, body, command, flags=flags, header=header)
        except NetlinkError as error:
            self._counts.fail(command, error)
            raise
