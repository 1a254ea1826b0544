"""Into the background and out of it: small programs of the tests' own in place of the daemon."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from lab import wait_until
from mptcpd.cli.detach import PidFile

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def run(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    """A program that detaches first."""
    return subprocess.run(
        [sys.executable, "-c", f"import os, sys, time\nfrom mptcpd.cli.detach import *\n{code}"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
    )


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A zombie: whoever adopted it has not looked yet, and may never.
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_ready(tmp_path: pathlib.Path) -> None:
    """The command ends with 0; the daemon has another session, no terminal, no folder in use."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    done = run(
        f"""
d = detach()
print("complaint", file=sys.stderr, flush=True)
d.ready()
print("nobody reads this", flush=True)
with open({str(fifo)!r}, "w") as out:
    null = [os.readlink(f"/proc/self/fd/{{n}}") for n in (0, 1, 2)]
    print(os.getpid(), os.getsid(0), os.getcwd(), *null, file=out)
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "complaint\n")
    pid, session, folder, *streams = fifo.read_text().split()
    assert pid == session and folder == "/"
    assert streams == ["/dev/null"] * 3
    wait_until(lambda: gone(int(pid)), "the daemon ends")


@pytest.mark.parametrize(
    ("code", "status"),
    [("sys.exit(1)", 1), ("sys.exit(64)", 64), ("sys.exit(0)", 0), ("os.abort()", 134)],
)
def test_not_ready(code: str, status: int) -> None:
    assert run(f"detach()\n{code}").returncode == status


def test_who_interrupts_the_command_means_the_daemon() -> None:
    code = (
        "from mptcpd.cli.detach import *; import os, time\n"
        "detach(); os.write(1, b'%d' % os.getpid()); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE
    ) as command:
        assert command.stdout is not None
        daemon = int(os.read(command.stdout.fileno(), 20))
        command.send_signal(signal.SIGTERM)
        assert command.wait(30) == 128 + signal.SIGTERM
    assert gone(daemon)


# The file


def test_pid_file(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "p.pid"
    old = os.umask(0o077)
    try:
        held = PidFile(str(file))
    finally:
        os.umask(old)
    assert file.read_text() == f"{os.getpid()}\n"
    assert file.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["p.pid"]
    held.remove()
    assert os.listdir(tmp_path) == []


def test_an_old_file_is_replaced_and_a_link_not_followed(tmp_path: pathlib.Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    (tmp_path / "p.pid").symlink_to(elsewhere)
    (tmp_path / f"p.pid.{os.getpid()}").symlink_to(elsewhere)
    held = PidFile(str(tmp_path / "p.pid"))
    assert (tmp_path / "p.pid").read_text() == f"{os.getpid()}\n"
    held.remove()
    assert elsewhere.read_text() == "precious"
    assert os.listdir(tmp_path) == ["elsewhere"]


def test_another_ones_file_is_left(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "p.pid"
    held = PidFile(str(file))
    file.unlink()
    file.write_text("1\n")
    held.remove()
    assert file.read_text() == "1\n"


def test_a_file_that_cannot_be_removed_is_emptied(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "p.pid"
    held = PidFile(str(file))

    def refused(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.unlink", refused)
    held.remove()
    assert file.read_text() == ""


def test_a_folder_that_is_not_there(tmp_path: pathlib.Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        PidFile(str(tmp_path / "no" / "p.pid"))
    (tmp_path / "p.pid").mkdir()
    with pytest.raises(IsADirectoryError):
        PidFile(str(tmp_path / "p.pid"))
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert os.listdir(tmp_path) == ["p.pid"]
