"""The client's end of the control socket: waiting for its turn, and when it has waited enough."""

from __future__ import annotations

import os
import pathlib
import socket
import time
from collections.abc import Iterator

import pytest

from mptcpd.cli.control_client import ControlClient, NoDaemon

ANSWER = b'{"version":1,"id":null,"ok":true,"result":{"a":1}}\n'


@pytest.fixture
def crowded(tmp_path: pathlib.Path) -> Iterator[socket.socket]:
    """A listener at whose door nobody else can stand."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(0)
        listener.settimeout(10)
        crowd = []
        while True:
            crowd.append(sock := socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            if sock.connect_ex(listener.getsockname()):
                break
        for sock in crowd:
            sock.close()  # it stands there until it is let in, all the same
        yield listener


def test_it_waits_for_its_turn(crowded: socket.socket) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            with ControlClient(crowded.getsockname(), patience=10.0) as client:
                os._exit(0 if client.ask("status") == {"a": 1} else 2)
        finally:
            os._exit(1)
    while True:
        sock, _address = crowded.accept()
        with sock:
            sock.settimeout(10)
            if sock.recv(1000) == b'{"version": 1, "command": "status"}\n':
                sock.sendall(ANSWER)
                break
    assert os.waitpid(pid, 0)[1] == 0


def test_it_does_not_wait_for_ever(crowded: socket.socket) -> None:
    began = time.monotonic()
    with pytest.raises(NoDaemon, match=r"socket does not answer within 0\.2 s$"):
        ControlClient(crowded.getsockname(), patience=0.2)
    assert time.monotonic() - began >= 0.19


def test_nobody_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NoDaemon, match="no daemon at .*: No such file or directory"):
        ControlClient(str(tmp_path / "socket"))
    with pytest.raises(NoDaemon, match="no daemon at x+: .*too long"):
        ControlClient("x" * 200)
