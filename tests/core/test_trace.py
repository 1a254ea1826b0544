"""What --debug shows of a question and of its answer, and that the answer itself is left alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mptcpd.core import trace
from mptcpd.nl import messages, mptcp, mptcp_event
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError, NetlinkError
from mptcpd.nl.exchange import Names

LIMITS = mptcp.set_limits(2, 3)


class Fake:
    """A command socket with one answer, or one error."""

    def __init__(self, answers: list[bytes] | NetlinkError) -> None:
        self.answers = answers
        self.asked: list[tuple[object, ...]] = []

    def query(self, kind: int, body: bytes, command: str, names: Names | None = None) -> bytes:
        return self._said(kind, body, command, names)[0]

    def request(
        self, kind: int, body: bytes, command: str, names: Names | None = None,
        *, flags: int = 0, header: int = 0,
    ) -> list[bytes]:  # fmt: skip
        return self._said(kind, body, command, names, flags, header)

    def dump(
        self, kind: int, body: bytes, command: str, names: Names | None = None, *, header: int = 0
    ) -> list[bytes]:
        return self._said(kind, body, command, names, header)

    def stream(self, kind: int, body: bytes, command: str, *, header: int) -> Iterator[bytes]:
        yield from self._said(kind, body, command, header)

    def _said(self, *asked: object) -> list[bytes]:
        self.asked.append(asked)
        if isinstance(self.answers, NetlinkError):
            raise self.answers
        return self.answers


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.DEBUG, "mptcpd")
    return lambda: [record.getMessage() for record in caplog.records]


WAYS: dict[str, Callable[[Any], Any]] = {
    "query": lambda traced: [
        traced.query(28, mptcp.get_limits(), "MPTCP_PM_CMD_GET_LIMITS", mptcp.NAMES)
    ],
    "request": lambda traced: traced.request(
        28, mptcp.get_limits(), "MPTCP_PM_CMD_GET_LIMITS", mptcp.NAMES, flags=4, header=4
    ),
    "dump": lambda traced: traced.dump(
        28, mptcp.get_limits(), "MPTCP_PM_CMD_GET_LIMITS", mptcp.NAMES, header=4
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_question_and_its_answer(way: str, lines: Callable[[], list[str]]) -> None:
    fake = Fake([LIMITS])
    assert WAYS[way](trace.TracedCommands(fake)) == [LIMITS]
    assert fake.asked[0][:3] == (28, mptcp.get_limits(), "MPTCP_PM_CMD_GET_LIMITS")
    dump = " (dump)" if way == "dump" else ""
    assert lines() == [
        f"-> MPTCP_PM_CMD_GET_LIMITS{dump}",
        "<- MPTCP_PM_CMD_GET_LIMITS RCV_ADD_ADDRS 3 SUBFLOWS 2",
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal(way: str, lines: Callable[[], list[str]]) -> None:
    error = KernelError("MPTCP_PM_CMD_GET_LIMITS", 1, "not you")
    with pytest.raises(KernelError) as caught:
        WAYS[way](trace.TracedCommands(Fake(error)))
    assert caught.value is error
    assert lines()[1:] == [
        "<- MPTCP_PM_CMD_GET_LIMITS: not you: Operation not permitted (EPERM)"
    ]


def test_a_command_that_has_no_answer_but_that_it_is_done(
    lines: Callable[[], list[str]],
) -> None:
    traced = trace.TracedCommands(Fake([]))
    assert traced.request(28, LIMITS, "MPTCP_PM_CMD_SET_LIMITS", mptcp.NAMES) == []
    assert lines()[1] == "<- MPTCP_PM_CMD_SET_LIMITS: done"


def test_dumps_of_sockets_are_counted(lines: Callable[[], list[str]]) -> None:
    traced = trace.TracedStreams(Fake([b"one", b"two"]))
    assert list(traced.stream(20, b"", "SOCK_DIAG_BY_FAMILY", header=56)) == [b"one", b"two"]
    assert traced.request(20, b"", "SOCK_DIAG_BY_FAMILY", flags=0, header=56) == [b"one", b"two"]
    question, answers = "SOCK_DIAG_BY_FAMILY", "<- SOCK_DIAG_BY_FAMILY: 2 answers"
    assert lines() == [f"-> {question} (dump)", answers, f"-> {question}", answers]


def test_a_socket_that_is_not_there(lines: Callable[[], list[str]]) -> None:
    traced = trace.TracedStreams(Fake(KernelError("SOCK_DIAG_BY_FAMILY", 2)))
    with pytest.raises(KernelError):
        traced.request(20, b"", "SOCK_DIAG_BY_FAMILY", flags=0, header=56)
    assert lines()[1] == "<- SOCK_DIAG_BY_FAMILY: No such file or directory (ENOENT)"


def test_what_the_kernel_tells(lines: Callable[[], list[str]]) -> None:
    trace.notification(messages.Message(u.RTM_NEWRULE, 0, 0, 0, b"abcd"))
    trace.event(mptcp_event.Event(u.MPTCP_EVENT_CLOSED, 0xBEEF))
    assert lines() == ["<- RTM_NEWRULE: 4 bytes", "<- MPTCP_EVENT_CLOSED: token 0000beef"]
