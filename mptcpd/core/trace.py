"""Shows every request and its outcome in the debug log.

Knows the Commands protocol, which it stands in for; must not know what is asked. With debugging off
it is not there at all, so it costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from mptcpd.nl import uapi as u
from mptcpd.nl import words
from mptcpd.nl.client import Commands
from mptcpd.nl.diag_client import Streams
from mptcpd.nl.errors import NetlinkError
from mptcpd.nl.exchange import Names
from mptcpd.nl.messages import Message
from mptcpd.nl.mptcp_event import Event

_LOG = logging.getLogger("mptcpd")


class TracedCommands:
    """A command socket that says what goes out and what comes back."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def query(self, kind: int, body: bytes, command: str, names: Names | None = None) -> bytes:
        _LOG.debug("-> %s", words.command(command, body, names))
        try:
            answer = self._commands.query(kind, body, command, names)
        except NetlinkError as error:
            _LOG.debug("<- %s", error)
            raise
        _LOG.debug("<- %s", words.answer(command, answer, names))
        return answer

    def request(
        self, kind: int, body: bytes, command: str, names: Names | None = None,
        *, flags: int = u.NLM_F_ACK, header: int = 4,
    ) -> list[bytes]:  # fmt: skip
        _LOG.debug("-> %s", words.command(command, body, names))
        try:
            answers = self._commands.request(
                kind, body, command, names, flags=flags, header=header
            )
        except NetlinkError as error:
            _LOG.debug("<- %s", error)
            raise
        self._answers(command, answers, names)
        return answers

    def dump(
        self, kind: int, body: bytes, command: str, names: Names | None = None,
        *, header: int = 4,
    ) -> list[bytes]:  # fmt: skip
        _LOG.debug("-> %s (dump)", words.command(command, body, names))
        try:
            answers = self._commands.dump(kind, body, command, names, header=header)
        except NetlinkError as error:
            _LOG.debug("<- %s", error)
            raise
        self._answers(command, answers, names)
        return answers

    def _answers(self, command: str, answers: list[bytes], names: Names | None) -> None:
        if not answers:
            _LOG.debug("<- %s: done", command)
        for answer in answers:
            _LOG.debug("<- %s", words.answer(command, answer, names))


class TracedStreams:
    """As TracedCommands, for sock_diag: of a dump only how many answers it had."""

    def __init__(self, commands: Streams) -> None:
        self._commands = commands

    def stream(self, kind: int, body: bytes, command: str, *, header: int) -> Iterator[bytes]:
        _LOG.debug("-> %s (dump)", command)
        count = 0
        for payload in self._commands.stream(kind, body, command, header=header):
            count += 1
            yield payload
        _LOG.debug("<- %s: %d answers", command, count)

    def request(
        self, kind: int, body: bytes, command: str, *, flags: int, header: int
    ) -> list[bytes]:
        _LOG.debug("-> %s", command)
        try:
            answers = self._commands.request(kind, body, command, flags=flags, header=header)
        except NetlinkError as error:
            _LOG.debug("<- %s", error)
            raise
        _LOG.debug("<- %s: %d answers", command, len(answers))
        return answers


def notification(message: Message) -> None:
    """Show an rtnetlink notification."""
    _LOG.debug("<- %s", words.route(message))


def event(value: Event) -> None:
    """Show an mptcp_pm event."""
    _LOG.debug("<- %s", words.event(value))
