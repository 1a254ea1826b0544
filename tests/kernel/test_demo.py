"""The demo as a newcomer runs it, shortened; that it fails when it should; that nothing stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import two_paths
from demo.measure import Failure, Phase, judge
from demo.measure import Path as NetworkPath
from demo.screen import Screen
from lab import Host, Lab, Link, wait_until
from lab.network import Interface
from lab.process import Call
from lab.traffic import Sum
from tests.kernel.conftest import alive, build_two_hosts

ROOT = Path(__file__).resolve().parents[2]
MEGABYTES = "10"  # enough to see both paths, and little enough for 4 s


COMMAND = [sys.executable, "demo/two_paths.py", MEGABYTES]


@pytest.fixture
def demo(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """The demo, started; standard output is a pipe."""
    build_two_hosts(lab, two_paths.RATE)  # or a skip: it needs what this needs
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        yield child
        child.kill()


def descendants(pid: int) -> set[int]:
    """All processes below ``pid``."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path("/proc", entry, "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            state, parent = text.rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry)] = int(parent)
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def until_it_transfers(demo: subprocess.Popen[str]) -> None:
    """Read the first whole second of its transfer, which may be shown somewhat later."""
    assert demo.stdout is not None
    lines: list[str] = []
    while not re.match(r" +[1-9]\.\d s ", line := demo.stdout.readline()):
        assert line, f"the demo ended early:\n{''.join(lines)}"
        lines.append(line)


def test_it_passes(lab: Lab) -> None:
    """It judges by the rates, too, and those are not to be had on a machine that is busy: where
    they alone were too low, it is run once more, and once again."""
    build_two_hosts(lab, two_paths.RATE)
    for _attempt in range(3):
        run = subprocess.run(COMMAND, stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=60)
        text = run.stdout
        last = text.splitlines()[-1]
        if not last.startswith("demo: FAIL: both paths together reached "):
            break
    assert last.startswith("demo: PASS: 2 paths used (eth0 "), text
    assert last.endswith("10000000 bytes sent and received, same sha256")
    assert run.returncode == 0
    assert "the client's kernel has the endpoints 10.0.1.1, 10.0.2.1" in text
    assert re.search(r"eth0 is cut.*\n(.*\n)*?.*mptcpd has taken the endpoint 10.0.1.1 back", text)
    assert "\x1b" not in text and "\r" not in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(demo: subprocess.Popen[str], number: signal.Signals) -> None:
    until_it_transfers(demo)
    children = descendants(demo.pid)
    assert len(children) >= 3  # the daemon, the sender, the receiver
    demo.send_signal(number)
    text, _ = demo.communicate(timeout=10)
    assert text.splitlines()[-1] == "demo: FAIL: interrupted"
    assert demo.returncode == 1
    assert not any(alive(pid) for pid in children)


def test_killed(demo: subprocess.Popen[str]) -> None:
    """No handler runs then: the kernel itself clears up."""
    until_it_transfers(demo)
    children = descendants(demo.pid)
    assert len(children) >= 3
    demo.kill()
    demo.wait()
    wait_until(lambda: not any(alive(pid) for pid in children), "the demo's children are gone")


def with_options(*options: str) -> tuple[int, str]:
    """In a child: the exit status and the output of a demo whose daemon is told other things."""
    two_paths.OPTIONS = list(options)
    read, write = os.pipe()
    with open(write, "w") as stream:
        status = two_paths.main([MEGABYTES], Screen(20, stream))
    with open(read) as stream:
        return status, stream.read()


@pytest.mark.usefixtures("namespaces")
def test_a_daemon_that_does_not_start() -> None:
    status, text = Call(with_options, "--no-such-option").result()
    assert status == 1
    assert "mptcpd said: mptcpd: unrecognized option '--no-such-option'" in text
    assert text.splitlines()[-1] == "demo: FAIL: mptcpd ended at once with status 64"


@pytest.mark.usefixtures("namespaces")
def test_a_daemon_that_uses_no_second_address() -> None:
    """An endpoint that only announces makes no subflow: a single path is no success."""
    status, text = Call(with_options, "--plugin-dir=plugins", "--addr-flags=signal").result()
    assert status == 1
    assert text.splitlines()[-1].startswith("demo: FAIL: not within")


def paths() -> list[NetworkPath]:
    """Paths of 20 Mbit/s with nothing behind them."""
    found = []
    for name in ("eth0", "eth1"):
        end = Interface(Host.__new__(Host), name, 2)
        found.append(NetworkPath(name, "", Link(end, end, 20_000_000)))
    return found


GOOD = Phase(1.0, 4_500_000, [2_400_000, 2_400_000])
AFTER = Phase(1.0, 2_000_000, [0, 2_300_000])


def test_judge_is_content() -> None:
    text = judge(paths(), GOOD, AFTER, Sum(5, "ab"), Sum(5, "ab"))
    assert text == (
        "2 paths used (eth0 50%, eth1 50%), 36.0 of 40 Mbit/s (90%), "
        "16.0 Mbit/s after the cut; 5 bytes sent and received, same sha256"
    )


@pytest.mark.parametrize(
    ("both", "received", "words"),
    [
        (GOOD, Sum(5, "ac"), "sent 5 bytes with sha256 ab, received 5 with ac"),
        (GOOD, Sum(4, "ab"), "received 4"),
        (Phase(1.0, 4_500_000, [4_500_000, 300_000]), Sum(5, "ab"), "less than 25%: eth0 94%"),
        (Phase(1.0, 3_400_000, [2_400_000, 2_400_000]), Sum(5, "ab"), "27.2 of 40 Mbit/s"),
    ],
    ids=["another sum", "a byte lost", "one path", "slow"],
)
def test_judge_is_not_content(both: Phase, received: Sum, words: str) -> None:
    with pytest.raises(Failure, match=re.escape(words)):
        judge(paths(), both, AFTER, Sum(5, "ab"), received)
