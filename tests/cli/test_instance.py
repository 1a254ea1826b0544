"""The mark that a network namespace has its daemon: names of the tests' own, in this process."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from lab import Call
from mptcpd.cli import instance, privileges
from mptcpd.cli.instance import AlreadyRunning, Instance
from mptcpd.core.loop import Loop
from mptcpd.nl import capabilities

NOBODY = 65534


@pytest.fixture
def name() -> Iterator[str]:
    yield f"\0mptcpd-test-{os.getpid()}-{time.monotonic_ns()}"


def test_the_second_is_told_of_the_first(name: str) -> None:
    first = Instance(name)
    with pytest.raises(AlreadyRunning) as error:
        Instance(name)
    assert error.value.pid == os.getpid()
    assert str(error.value) == (
        f"mptcpd runs already in this network namespace, with process ID {os.getpid()}."
    )
    first.close()
    Instance(name).close()


def test_in_another_container() -> None:
    assert "in another container" in str(AlreadyRunning(0))


def held_by_somebody(name: str) -> socket.socket:
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    holder.bind(name)
    holder.listen(0)
    return holder


def become_nobody_and_hold(name: str, ready: int) -> None:
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    with held_by_somebody(name):
        os.write(ready, b"x")
        time.sleep(60)


def test_an_ordinary_user_cannot_prevent_the_start(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    if os.geteuid() != 0 or not privileges._may_set_groups():
        pytest.skip("only root can become somebody else")
    ours, theirs = os.pipe()
    call = Call(become_nobody_and_hold, name, theirs)
    try:
        assert os.read(ours, 1) == b"x"
        Instance(name).close()
        assert f"Process {call.pid} of user {NOBODY} holds the name @mptcpd" in caplog.text
    finally:
        call.stop()
        os.close(ours)
        os.close(theirs)


def test_a_full_queue_prevents_nothing(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with held_by_somebody(name) as holder:
        waiting = []
        while True:
            one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            one.setblocking(False)
            waiting.append(one)
            try:
                one.connect(name)
            except BlockingIOError:
                break
        Instance(name).close()
        assert "does not say who" in caplog.text
        for one in waiting:
            one.close()
        assert holder.fileno() >= 0


def test_who_knocks_is_turned_away(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are; then the next daemon is still told who holds the name."""
    monkeypatch.setattr(instance, "_PAUSE", 0.01)
    loop = Loop()
    first = Instance(name)
    first.watch(loop)
    ended: list[bool] = []
    for _round in range(5):
        for _one in range(instance._BACKLOG + 1):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
                one.setblocking(False)
                one.connect(name)
        loop.call_later(0.03, loop.stop)
        loop.run()
        ended.append(True)
    with pytest.raises(AlreadyRunning):
        Instance(name)
    assert len(ended) == 5
    loop.close()
    first.close()


def test_who_may_administer() -> None:
    mine = bool(capabilities.get().effective >> 12 & 1)
    assert instance._may_administer(os.getpid()) == mine
    assert not instance._may_administer(0)
    assert not instance._may_administer(2**31 - 1)
