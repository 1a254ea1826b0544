"""The supervisor's decisions, with listener and /proc made up; tests/kernel has the real ones."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from mptcpd.core.supervisor import Supervisor
from mptcpd.nl.notify import Call, Listener
from mptcpd.nl.processes import Place, Processes
from mptcpd.nl.uapi import IPPROTO_MPTCP

STREAM = int(socket.SOCK_STREAM)
HOME = Place((1, 2), 0, 0)


class FakeListener:
    """Notes answers; ``refusal`` is what giving raises, ``gone`` makes every call vanish."""

    def __init__(self) -> None:
        self.answers: list[tuple[object, ...]] = []
        self.refusal = 0
        self.gone = False

    def give(self, ident: int, fd: int, flags: int) -> int | None:
        if self.refusal:
            raise OSError(self.refusal, os.strerror(self.refusal))
        with socket.socket(fileno=os.dup(fd)) as given:
            self.answers.append((ident, given.proto, given.family, os.get_blocking(fd), flags))
        return None if self.gone else 7

    def proceed(self, ident: int) -> bool:
        self.answers.append((ident, "proceeds"))
        return not self.gone


class FakeProcesses:
    """Threads are at places by number; no number, no thread."""

    home = HOME

    def __init__(self) -> None:
        self.places = {50: HOME, 51: Place((1, 3), 0, 0), 52: Place((1, 4), 0, 0)}
        self.visits: list[str] = []

    def place(self, thread: int) -> Place:
        if thread not in self.places:
            raise ProcessLookupError(errno.ESRCH, "gone")
        return self.places[thread]

    @contextlib.contextmanager
    def acting_at(self, place: Place, thread: int) -> Iterator[None]:
        if place.namespace == (1, 4):
            raise PermissionError(errno.EPERM, "not there")
        self.visits.append(f"in {thread}")
        yield
        self.visits.append("out")


class Scene:
    def __init__(self) -> None:
        self.listener, self.processes = FakeListener(), FakeProcesses()
        self.said: list[str] = []
        ours, self.theirs = os.pipe()  # something to poll
        self.supervisor = Supervisor(
            cast(Listener, self.listener),
            ours,
            cast(Processes, self.processes),
            self.said.append,
        )
        os.close(ours)

    def answers(self, *call: int) -> list[tuple[object, ...]]:
        self.supervisor.answer(cast(Call, call))
        return self.listener.answers


@pytest.fixture
def scene() -> Iterator[Scene]:
    if not os.path.exists("/proc/sys/net/mptcp/enabled"):
        pytest.skip("this kernel has no MPTCP")
    scene = Scene()
    yield scene
    os.close(scene.theirs)


def test_gives_what_was_asked_for(scene: Scene) -> None:
    kinds = STREAM | socket.SOCK_NONBLOCK, STREAM | socket.SOCK_CLOEXEC
    assert scene.answers(1, 50, socket.AF_INET, kinds[0], 0) == [
        (1, IPPROTO_MPTCP, socket.AF_INET, False, 0)
    ]
    assert scene.answers(2, 50, socket.AF_INET, kinds[1], 6)[1:] == [
        (2, IPPROTO_MPTCP, socket.AF_INET, True, os.O_CLOEXEC)
    ]
    assert scene.said[0].endswith(f"family 0x2 type {int(kinds[0]):#x} fd 7 (thread 50)")
    assert scene.processes.visits == []


def test_goes_where_the_caller_is(scene: Scene) -> None:
    assert len(scene.answers(1, 51, socket.AF_INET, STREAM, 0)) == 1
    assert scene.processes.visits == ["in 51", "out"]


@pytest.mark.parametrize(
    ("thread", "family", "refusal", "words"),
    [
        (52, 2, 0, "not there"),
        (99, 2, 0, "gone"),
        (50, 99, 0, os.strerror(errno.EAFNOSUPPORT)),
        (50, 2, errno.EMFILE, os.strerror(errno.EMFILE)),
    ],
)
def test_otherwise_the_call_proceeds(
    scene: Scene, thread: int, family: int, refusal: int, words: str
) -> None:
    scene.listener.refusal = refusal
    assert scene.answers(1, thread, family, STREAM, 0) == [(1, "proceeds")]
    assert scene.said == [
        f"leaving socket protocol 0x0 for family {family:#x} type {STREAM:#x}: {words}"
        f" (thread {thread})"
    ]


def test_nothing_is_said_of_calls_that_vanished(scene: Scene) -> None:
    scene.listener.gone = True
    scene.answers(1, 50, socket.AF_INET, STREAM, 0)
    scene.answers(2, 99, socket.AF_INET, STREAM, 0)
    assert len(scene.listener.answers) == 2 and scene.said == []
