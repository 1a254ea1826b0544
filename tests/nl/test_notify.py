"""Structs and errors of a seccomp listener, with ioctls made up; tests/kernel has the real ones."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from mptcpd.nl import notify, seccomp
from mptcpd.nl import uapi as u
from mptcpd.nl.notify import Listener
from mptcpd.nl.syscalls import ABIS

IOCTLS = seccomp.ioctls(ABIS[0])
Answer = Callable[[bytearray], int]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> dict[int, Answer]:
    """What each request does; one that is not in there is refused as an old kernel would."""
    answers: dict[int, Answer] = {}

    def ioctl(fd: int, request: int, argument: bytearray) -> int:
        assert fd == 9
        if request not in answers:
            raise OSError(errno.ENOTTY, "no such request")
        return answers[request](argument)

    monkeypatch.setattr(notify, "ioctl", ioctl)
    return answers


def failing(number: int) -> Answer:
    def answer(_argument: bytearray) -> int:
        raise OSError(number, os.strerror(number))

    return answer


def test_receive(kernel: dict[int, Answer]) -> None:
    seen = []

    def fill(buffer: bytearray) -> int:
        seen.append(bytes(buffer))
        args = (2, 1 | 5 << 32, 0xFFFFFFFF00000006, 4, 5, 6)
        buffer[:] = seccomp.notif.pack(1 << 63, 1234, 0, 41, ABIS[0].audit, 1 << 40, *args)
        return 0

    kernel[IOCTLS.recv] = fill
    listener = Listener(9, ABIS[0])
    for _turn in range(2):
        assert listener.receive() == (1 << 63, 1234, 2, 1, 6)
    assert seen == [bytes(80)] * 2, "the kernel refuses a buffer that is not zero"


def test_give_and_proceed(kernel: dict[int, Answer]) -> None:
    sent: list[tuple[int, ...]] = []

    def addfd(buffer: bytearray) -> int:
        sent.append(seccomp.notif_addfd.unpack(buffer))
        return 12

    def send(buffer: bytearray) -> int:
        sent.append(seccomp.notif_resp.unpack(buffer))
        return 0

    kernel.update({IOCTLS.addfd: addfd, IOCTLS.send: send})
    listener = Listener(9, ABIS[0])
    assert listener.give(1 << 63, 7, os.O_CLOEXEC) == 12
    assert listener.proceed(5)
    assert sent == [
        (1 << 63, u.SECCOMP_ADDFD_FLAG_SEND, 7, 0, os.O_CLOEXEC),
        (5, 0, 0, u.SECCOMP_USER_NOTIF_FLAG_CONTINUE),
    ]


def test_a_call_that_vanished(kernel: dict[int, Answer]) -> None:
    kernel.update(dict.fromkeys(IOCTLS, failing(errno.ENOENT)))
    listener = Listener(9, ABIS[0])
    assert listener.receive() is None
    assert listener.give(1, 7, 0) is None
    assert not listener.proceed(1)
    kernel[IOCTLS.recv] = failing(errno.EINTR)
    assert listener.receive() is None


def test_other_errors_come_through(kernel: dict[int, Answer]) -> None:
    kernel.update(dict.fromkeys(IOCTLS, failing(errno.EMFILE)))
    listener = Listener(9, ABIS[0])
    for call in (
        listener.receive,
        lambda: listener.give(1, 7, 0),
        lambda: listener.proceed(1),
        listener.wake_on_this_cpu,
    ):
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            call()


@pytest.mark.parametrize(
    ("number", "can"), [(errno.ENOENT, True), (errno.EINVAL, False), (errno.ENOTTY, False)]
)
def test_what_the_kernel_can(kernel: dict[int, Answer], number: int, can: bool) -> None:
    """An answer to no call at all: a kernel that knows the way says that there is no such call."""
    kernel[IOCTLS.addfd] = failing(number)
    assert Listener(9, ABIS[0]).can_give() == can


def test_waking_is_a_bonus(kernel: dict[int, Answer]) -> None:
    assert not Listener(9, ABIS[0]).wake_on_this_cpu()
    kernel[IOCTLS.set_flags] = lambda flags: 0 if int(flags) == 1 else 1
    assert Listener(9, ABIS[0]).wake_on_this_cpu()
