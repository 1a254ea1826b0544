"""Claims about notifications, those that go to the service manager and those of system calls:

1. Whatever the text, the service manager gets one message that it can take (of at most 4096 bytes,
   UTF-8, no NUL) with the variables that we mean and no others.
2. Whatever is in the environment is understood or left alone.
3. A call is read out of a notification as its struct says, whatever its bytes, and a vanished one
   is none.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import socket
import sys
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mptcpd.cli.notify import Notifier, from_environment
from mptcpd.nl import notify
from mptcpd.nl.seccomp import notif
from mptcpd.nl.syscalls import ABIS

ADDRESS = f"@mptcpd-fuzz-{os.getpid()}"


@contextlib.contextmanager
def manager() -> Iterator[socket.socket]:
    """The service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(ADDRESS.replace("@", "\0"))
        listener.setblocking(False)
        yield listener


@example(text="\u00e9" * 4096)
@example(text="a\nMAINPID=1")
@given(text=st.text(st.characters()))
def test_any_status(text: str) -> None:
    with manager() as listener, contextlib.closing(Notifier(ADDRESS)) as notifier:
        notifier.ready(text)
        notifier.failed(text)
        for wanted in ({"READY", "STATUS"}, {"STATUS"}):
            data = listener.recv(1 << 16)
            assert len(data) <= 4096
            assert b"\0" not in data
            said = dict(line.split("=", 1) for line in data.decode().split("\n"))
            assert said.keys() == wanted
        with pytest.raises(BlockingIOError):
            listener.recv(1)


# As Python makes text of an environment's bytes, which hold no NUL.
VALUES = st.binary(max_size=200).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
NUMBERS = st.sampled_from(["30000000", "0", "-1", "1e9", "\u0661", "9" * 15, "9" * 5000])
ENVIRONMENTS = st.fixed_dictionaries(
    {},
    optional={
        "NOTIFY_SOCKET": st.sampled_from([ADDRESS, "/x", "@", "/" + "x" * 200, "vsock:2:1"])
        | st.sampled_from("/@").flatmap(lambda first: VALUES.map(lambda rest: first + rest))
        | VALUES,
        "WATCHDOG_USEC": NUMBERS | VALUES,
        "WATCHDOG_PID": st.just(str(os.getpid())) | NUMBERS | VALUES,
    },
)


@given(ENVIRONMENTS)
def test_any_environment(environment: dict[str, str]) -> None:
    with (
        mock.patch.object(logging.getLogger("mptcpd"), "disabled", True),
        manager() as listener,
        contextlib.closing(from_environment(environment)) as notifier,
    ):
        notifier.stopping()
        assert math.isfinite(notifier.watchdog) and notifier.watchdog >= 0
        if environment.get("NOTIFY_SOCKET") == ADDRESS:
            assert listener.recv(4096).startswith(b"STOPPING=1")


@given(
    st.binary(min_size=notif.size, max_size=notif.size),
    st.sampled_from([0, 0, 0, errno.ENOENT, errno.EINTR, errno.EBADF]),
)
def test_any_notification(data: bytes, trouble: int) -> None:
    def ioctl(fd: int, _request: int, buffer: bytearray) -> int:
        assert bytes(buffer) == bytes(notif.size), "the kernel refuses anything else"
        if trouble:
            raise OSError(trouble, os.strerror(trouble))
        buffer[:] = data
        return fd

    listener = notify.Listener(9, ABIS[0])
    with mock.patch.object(notify, "ioctl", ioctl):
        for _time in range(2):
            if trouble == errno.EBADF:
                with pytest.raises(OSError):
                    listener.receive()
                continue
            call = listener.receive()
            # linux/seccomp.h: u64 id, u32 pid, u32 flags; s32 nr, u32 arch, u64 ip, u64 args[6]
            places = ((0, 8), (8, 12), (32, 36), (40, 44), (48, 52))
            if sys.byteorder == "big":
                places = ((0, 8), (8, 12), (36, 40), (44, 48), (52, 56))
            said = [int.from_bytes(data[low:high], sys.byteorder) for low, high in places]
            assert call == (None if trouble else tuple(said))
