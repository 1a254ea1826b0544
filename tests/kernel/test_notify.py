"""The daemon as a service manager sees it: ready, reloading, stopping, alive."""

from __future__ import annotations

import pathlib
import signal
import socket
from collections.abc import Iterator

import pytest

from lab import Host
from tests.kernel.started import Started


@pytest.fixture
def manager(tmp_path: pathlib.Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10)
        yield listener


def heard(listener: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in listener.recv(4096).decode().split("\n"))


def test_a_life(lone_host: Host, manager: socket.socket, tmp_path: pathlib.Path) -> None:
    also = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    with Started(lone_host, tmp_path, also=also) as daemon:

        def next_state() -> dict[str, str]:
            while "WATCHDOG" in (said := heard(manager)):
                pass
            return said

        assert next_state() == {"READY": "1", "STATUS": "Plugins: addr_adv"}
        assert [heard(manager) for _time in range(3)] == [{"WATCHDOG": "1"}] * 3
        daemon.process.send_signal(signal.SIGHUP)
        assert next_state()["RELOADING"] == "1"
        assert next_state()["READY"] == "1"
        daemon.file.write_text("[core]\nbogus=1\n")
        daemon.process.send_signal(signal.SIGHUP)
        assert next_state()["RELOADING"] == "1"
        said = next_state()
        assert said["READY"] == "1" and 'unknown key "bogus"' in said["STATUS"]
        daemon.process.send_signal(signal.SIGTERM)
        assert next_state()["STOPPING"] == "1"
        assert daemon.status() == 0


def test_a_start_that_fails(
    lone_host: Host, manager: socket.socket, tmp_path: pathlib.Path
) -> None:
    also = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with Started(lone_host, tmp_path, core="load-plugins=nobody", also=also) as daemon:
        assert daemon.status() == 1
        assert "There is no usable one" in heard(manager)["STATUS"]
