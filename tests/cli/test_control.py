"""Where the control socket is, and sockets that a service manager hands over."""

from __future__ import annotations

import os
import pathlib
import socket
import stat
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mptcpd.cli.control import Control, handed_over, listen
from mptcpd.cli.runtime import CONTROL
from mptcpd.core.loop import Loop

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_mode_and_directory(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "run" / "c.sock"
    with listen(str(file), None):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755 & ~_umask()
    with listen(str(file), os.getgid()):  # what was left behind is replaced
        assert stat.S_IMODE(file.stat().st_mode) == 0o660


def _umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


def test_the_umask_is_as_before(tmp_path: pathlib.Path) -> None:
    before = _umask()
    with listen(str(tmp_path / "c.sock"), None):
        assert _umask() == before


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_something_else_is_there(tmp_path: pathlib.Path, kind: str) -> None:
    file = tmp_path / "c.sock"
    if kind == "file":
        file.write_text("mine")
    elif kind == "directory":
        file.mkdir()
    else:
        file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="no socket"):
        listen(str(file), None)
    assert os.path.lexists(file)


def test_somebody_answers_there(tmp_path: pathlib.Path) -> None:
    file = str(tmp_path / "c.sock")
    with listen(file, None) as first:
        with pytest.raises(OSError, match="another daemon answers there"):
            listen(file, None)
        for _client in range(1000):  # also when its queue is full
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            full = sock.connect_ex(file)
            if full:
                sock.close()
                break
            CLIENTS.append(sock)
        assert full
        with pytest.raises(OSError, match="another daemon answers there"):
            listen(file, None)
        first.accept()[0].close()
    while CLIENTS:
        CLIENTS.pop().close()


CLIENTS: list[socket.socket] = []


def test_what_keeps_it_from_being_there_is_said(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    for directory in (str(tmp_path / ("x" * 200)), "/proc/nowhere", "none"):
        found = Control()
        found.open(directory, None, {})
        assert found.where is None
        found.close()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "No control socket"
    ] * 2
    assert "AF_UNIX path too long" in caplog.text


def test_the_file_of_a_later_daemon_stays(tmp_path: pathlib.Path) -> None:
    first, second = Control(), Control()
    first.open(str(tmp_path), None, {})
    (tmp_path / CONTROL).unlink()
    second.open(str(tmp_path), None, {})
    first.close()
    assert (tmp_path / CONTROL).exists()
    second.close()
    second.close()
    assert not (tmp_path / CONTROL).exists()


# LISTEN_FDS; in a process of its own, for the descriptors have numbers


HANDED = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
from mptcpd.cli.control import handed_over
kinds = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM}
held = []
for number, word in enumerate(sys.argv[3].split(","), 3):
    if word != "closed":
        family = socket.AF_INET if word == "inet" else socket.AF_UNIX
        sock = socket.socket(family, kinds.get(word, socket.SOCK_STREAM))
        sock.bind("" if family == socket.AF_UNIX else ("127.0.0.1", 0))
        if word != "dgram" and word != "bound":
            sock.listen()
        if sock.fileno() != number:
            os.dup2(sock.fileno(), number)
            sock.close()
        else:
            sock.detach()
        held.append(number)
environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(sys.argv[3].split(",")))}
environment["LISTEN_FDNAMES"] = sys.argv[2]
names = [socket.socket(fileno=os.dup(n)).getsockname() for n in held]
found = handed_over(environment)
print(None if found is None else 3 + names.index(found.getsockname()))
if found is not None:
    assert not found.getblocking() and not found.get_inheritable()
"""


@pytest.mark.parametrize(
    ("names", "sockets", "chosen"),
    [
        ("", "stream", "3"),
        ("other:control", "stream,stream", "4"),
        ("", "stream,stream", "3"),
        ("", "dgram,inet,bound,stream", "6"),
        ("", "dgram", "None"),
        ("control", "closed", "None"),
    ],
)
def test_sockets_that_are_handed_over(names: str, sockets: str, chosen: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANDED, str(ROOT), names, sockets],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == (chosen, 0), done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "0", "LISTEN_PID": "7"},
        {"LISTEN_FDS": "-1", "LISTEN_PID": "7"},
        {"LISTEN_FDS": "many", "LISTEN_PID": "7"},
        {"LISTEN_FDS": "99999", "LISTEN_PID": "7"},
    ],
)
def test_nothing_is_handed_over(environment: dict[str, str]) -> None:
    assert handed_over(environment, pid=7) is None


def test_a_group_that_it_cannot_be_given_to(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is there all the same, for fewer."""

    def refuses(*_arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuses)
    file = tmp_path / "c.sock"
    with listen(str(file), 12345):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "cannot be given to group 12345" in caplog.text


def test_what_answers_cannot_be_loaded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, and clients are told by a closed door; the daemon goes on."""
    loop = Loop()
    found = Control()
    found.open(str(tmp_path), None, {})
    found.serve(SimpleNamespace(loop=loop), SimpleNamespace())  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "mptcpd.cli.control_commands", None)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / CONTROL))
        loop.call_later(0, loop.stop)
        loop.run()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError):
        client.connect(str(tmp_path / CONTROL))
    assert len(caplog.records) == 1 and "The control socket is closed" in caplog.text
    found.close()
    loop.close()
