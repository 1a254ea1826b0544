"""mptcpctl monitor on the real kernel: filters, its end, what it says of lost events."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO

import pytest

from bench.load import EVENTS, Churn
from lab import Host, traffic, wait_until
from tests.kernel.conftest import TwoHosts
from tests.kernel.ctl import PATIENCE, PROGRAM, mptcpctl, running


def until(stream: IO[str], text: str) -> str:
    """What comes, up to where ``text`` has come."""
    said, deadline = b"", time.monotonic() + PATIENCE
    while text.encode() not in said:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            raise TimeoutError(f"no {text!r} within {PATIENCE:g} s, but {said!r}")
        part = os.read(stream.fileno(), 4096)
        if not part:
            raise EOFError(f"no {text!r}, but {said!r}")
        said += part
    return said.decode()


def mark(host: Host) -> str:
    """Make the kernel tell of a listener; what the event says of its port."""
    with traffic.listen(host, "127.0.0.1") as listener:
        return f"sport={listener.getsockname()[1]}"


def subscribed(host: Host, stream: IO[str]) -> None:
    """Return when the monitor behind ``stream`` has printed something."""
    deadline = time.monotonic() + PATIENCE
    while not select.select([stream], [], [], 0.02)[0]:
        assert time.monotonic() < deadline
        mark(host)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [["-j"], ["-j", "-p"], ["-j", "-o"], ["-j", "-ts"]])
def test_json_is_whole_at_the_end(lone_host: Host, number: int, options: list[str]) -> None:
    with running(lone_host, *options, "monitor") as child:
        assert child.stdout is not None
        subscribed(lone_host, child.stdout)
        text = until(child.stdout, '"LISTENER_CREATED"') if "-o" in options else ""
        child.send_signal(number)
        text += child.stdout.read()
    if "-o" in options:
        assert {json.loads(line)["saddr4"] for line in text.splitlines()} == {"127.0.0.1"}
    else:
        assert text.endswith("]\n") and isinstance(json.loads(text), list)


def test_nothing_happened(lone_host: Host) -> None:
    for options, text in ((["-j"], "[]\n"), (["-j", "-p"], "[ ]\n")):
        with running(lone_host, *options, "monitor") as child:
            assert child.stdout is not None and child.stdout.read(1) == "["
            child.send_signal(signal.SIGINT)
            assert "[" + child.stdout.read() == text


def test_filters(two_hosts: TwoHosts) -> None:
    """One connection's events out of two connections', and two kinds out of all."""
    client, server = two_hosts.client, two_hosts.server
    with running(client, "-j", "monitor", "event", "created,CLOSED") as kinds:
        assert kinds.stdout is not None and kinds.stdout.read(1) == "["  # it is subscribed now
        connection = traffic.open_connection(client, server, "10.0.1.2")
        token = f"{connection.token:#x}"
        with running(client, "-j", "monitor", "tok", token) as one:
            assert one.stdout is not None and one.stdout.read(1) == "["
            traffic.open_connection(client, server, "10.0.1.2").close()
            connection.close()
            assert until(one.stdout, "}") == f'{{"event":"CLOSED","token":"{token}"}}'
        seen = until(kinds.stdout, f'"CLOSED","token":"{token}"}}')
        assert [record["event"] for record in json.loads(f"[{seen}]")] == [
            "CREATED", "CREATED", "CLOSED", "CLOSED"
        ]  # fmt: skip


def test_bad_filters(lone_host: Host) -> None:
    run = mptcpctl(lone_host, "monitor", "event", "CREATED,BORN")
    assert run.returncode == 255
    assert run.stderr.startswith('Error: argument "CREATED,BORN" is wrong: events are CREATED, ')


def test_a_reader_that_goes_away(lone_host: Host) -> None:
    child = lone_host.popen([*PROGRAM, "monitor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stderr is not None
    subscribed(lone_host, child.stdout)
    child.stdout.close()
    deadline = time.monotonic() + PATIENCE
    while child.poll() is None:
        assert time.monotonic() < deadline
        mark(lone_host)
    assert (child.returncode, child.stderr.read()) == (-signal.SIGPIPE, b"")


def test_a_reader_that_does_not_read(lone_host: Host) -> None:
    """Stuck in a write it hears of its end, and the second time takes it for an order."""
    child = lone_host.popen([*PROGRAM, "monitor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    subscribed(lone_host, child.stdout)
    fcntl.fcntl(child.stdout, fcntl.F_SETPIPE_SZ, 4096)
    deadline = time.monotonic() + PATIENCE
    for _each in range(200):  # 400 lines, which do not fit
        mark(lone_host)
    while child.poll() is None:
        assert time.monotonic() < deadline
        child.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert child.returncode == -signal.SIGTERM


def test_losses_are_told(lone_host: Host) -> None:
    """What is printed and what is told to be lost is all there was; and it goes on afterwards."""
    with tempfile.TemporaryFile("w+") as out:
        program = [sys.executable, "-m", "tests.kernel.small_queue", "monitor"]
        child = lone_host.popen(program, stdout=out, stderr=subprocess.PIPE, text=True)
        assert child.stderr is not None
        wait_until(lambda: mark(lone_host) and size(out), "it prints", PATIENCE)
        last = mark(lone_host)
        wait_until(lambda: last in read(out), "all is printed", PATIENCE)
        before = read(out).count("\n")
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: stopped(child.pid), "it has stopped", PATIENCE)
        for _each in range(100):
            mark(lone_host)
        child.send_signal(signal.SIGCONT)
        told = until(child.stderr, "full\n")
        found = re.fullmatch(r"Error: (\d+) events were lost: .* was full\n", told)
        assert found, told
        last = mark(lone_host)
        wait_until(lambda: last in read(out), "it goes on", PATIENCE)
        child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE) == 0
        assert int(found[1]) > 100
        assert read(out).count("\n") - before + int(found[1]) == 202


@pytest.mark.parametrize("options", [[], ["-j", "-o", "-ts"]], ids=" ".join)
def test_nothing_is_lost_under_load(lone_host: Host, options: list[str]) -> None:
    """Into a file: every event of every connection is printed, or told to be lost."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = lone_host.popen([*PROGRAM, *options, "monitor"], stdout=out, stderr=err)
        wait_until(lambda: mark(lone_host) and size(out), "it prints", PATIENCE)
        made = Churn(lone_host, seconds=0.7).result().connections
        marks: list[str] = []

        def printed_all() -> bool:
            marks.append(mark(lone_host).removeprefix("sport="))  # one may be lost, too
            return any(port in read(out)[-2000:] for port in marks)

        wait_until(printed_all, "all is printed", PATIENCE)
        child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE) == 0
        printed = len([line for line in read(out).splitlines() if "LISTENER" not in line])
        lost = sum(int(number) for number in re.findall(r"(\d+) events were lost", read(err)))
        assert made > 100 and printed <= made * EVENTS <= printed + lost


def size(file: IO[str]) -> int:
    return os.fstat(file.fileno()).st_size


def read(file: IO[str]) -> str:
    return os.pread(file.fileno(), 1 << 24, 0).decode()


def stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as stream:
        return stream.read().rpartition(")")[2].split()[0] == "T"
