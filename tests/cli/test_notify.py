"""What the service manager is told, and what becomes of it when nobody listens."""

from __future__ import annotations

import logging
import os
import pathlib
import socket
import time
from collections.abc import Iterator

import pytest

from mptcpd.cli import notify
from mptcpd.cli.notify import from_environment
from mptcpd.core.loop import Loop


@pytest.fixture(params=["file", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and its address as it stands in the environment."""
    name = str(tmp_path / "notify") if request.param == "file" else f"@mptcpd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.settimeout(5)
        yield listener, name


@pytest.fixture(autouse=True)
def made() -> Iterator[list[notify.Notifier]]:
    """Those that a test has made are closed at its end."""
    yield MADE
    while MADE:
        MADE.pop().close()


MADE: list[notify.Notifier] = []


def make(address: str | None, watchdog: float = 0.0) -> notify.Notifier:
    MADE.append(notify.Notifier(address, watchdog))
    return MADE[-1]


def heard(listener: socket.socket) -> dict[str, str]:
    lines = listener.recv(4096).decode().split("\n")
    return dict(line.split("=", 1) for line in lines)


def test_states(manager: tuple[socket.socket, str]) -> None:
    listener, address = manager
    notifier = make(address)
    notifier.ready("Plugins: a,\nb")
    assert heard(listener) == {"READY": "1", "STATUS": "Plugins: a, b"}
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    said = heard(listener)
    assert said["RELOADING"] == "1"
    assert before <= int(said["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    notifier.stopping()
    assert heard(listener)["STOPPING"] == "1"
    notifier.failed("no\nREADY=1")
    assert heard(listener) == {"STATUS": "no READY=1"}


def test_signs_of_life(manager: tuple[socket.socket, str]) -> None:
    listener, address = manager
    now = 0.0
    loop = Loop(lambda: now)
    make(address, watchdog=10.0).keep_alive(loop)
    for _time in range(3):
        assert heard(listener) == {"WATCHDOG": "1"}
        now += 4.9
        loop.call_later(0, loop.stop)
        loop.run()
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(100)
        listener.settimeout(5)
        now += 0.2
        loop.call_later(0, loop.stop)
        loop.run()
    loop.close()


def test_without_a_watchdog_there_is_no_timer(manager: tuple[socket.socket, str]) -> None:
    for notifier in (make(manager[1]), make(None, 5.0)):
        loop = Loop()
        notifier.keep_alive(loop)
        assert loop._wait() is None
        loop.close()


def test_nobody_listens(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = make(str(tmp_path / "nobody"))
    notifier.ready("")
    notifier.stopping()
    (record,) = caplog.records  # said once
    assert record.levelno == logging.WARNING and "No such file" in record.getMessage()
    make("/\0").ready("")  # and no exception for a name that is none
    make("/" + "x" * 200).ready("")


def test_a_manager_that_does_not_read_does_not_stop_us(tmp_path: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "deaf"))
        notifier = make(str(tmp_path / "deaf"))
        for _message in range(5000):
            notifier.ready("x" * 100)


def test_nothing_is_opened_without_an_address() -> None:
    before = os.listdir("/proc/self/fd")
    notifier = make(None)
    notifier.ready("")
    notifier.reloading()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("environment", "watchdog"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
        ({"WATCHDOG_USEC": "٣"}, 0.0),
        ({"WATCHDOG_USEC": "9" * 40}, 0.0),
    ],
)
def test_the_environment(environment: dict[str, str], watchdog: float) -> None:
    assert from_environment(environment, pid=7).watchdog == watchdog


def test_an_address_of_another_kind(caplog: pytest.LogCaptureFixture) -> None:
    from_environment({"NOTIFY_SOCKET": "vsock:2:1234"}).ready("")
    assert [record.getMessage() for record in caplog.records] == [
        "NOTIFY_SOCKET=vsock:2:1234 is not understood: only files and @names are."
    ]
