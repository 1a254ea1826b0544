"""Which path manager a connection has: read off its limits, or asked, or not to be known."""

from __future__ import annotations

import pytest

from mptcpd.cli.ctl.which_pm import PathManagers
from mptcpd.nl.errors import KernelError
from mptcpd.nl.info import MptcpInfo

NONE = MptcpInfo(subflows_max=0, add_addr_accepted_max=0, add_addr_signal_max=0)


class Kernel:
    """Answers a dump of a connection's addresses; words: of its refusal, by token."""

    def __init__(self, words: dict[int, str]) -> None:
        self._words = words
        self.asked: list[int | None] = []

    def dump_addrs(self, token: int | None = None) -> list[object]:
        self.asked.append(token)
        if token in self._words:
            raise KernelError("MPTCP_PM_CMD_GET_ADDR", 22, self._words[token])
        return []


NEW = {0: "invalid token", 1: "userspace PM not selected", 3: "invalid token"}


@pytest.mark.parametrize(("token", "found"), [(1, "kernel"), (2, "userspace"), (3, None)])
def test_asked(token: int, found: str | None) -> None:
    assert PathManagers(Kernel(NEW)).of(token, NONE) == found


def test_limits_tell_without_a_question() -> None:
    kernel = Kernel(NEW)
    assert PathManagers(kernel).of(2, NONE._replace(subflows_max=2)) == "kernel"
    assert kernel.asked == []


def test_a_kernel_that_does_not_look_at_the_token() -> None:
    """Before Linux 6.9 the dump lists endpoints, whatever the token: it says nothing."""
    kernel = Kernel({})
    managers = PathManagers(kernel)
    assert managers.of(1, NONE) is None
    assert managers.of(2, NONE) is None
    assert kernel.asked == [0]  # found out once


def test_nobody_to_ask() -> None:
    assert PathManagers(None).of(1, NONE) is None
    assert PathManagers(None).of(1, MptcpInfo(subflows_max=1)) == "kernel"
