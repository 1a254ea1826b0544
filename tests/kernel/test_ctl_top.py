"""mptcpctl top: on a terminal and as frames, while real connections come, move data and go."""

from __future__ import annotations

import re
import signal
import subprocess
import termios
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

import pytest

from lab import Host, traffic, wait_until
from lab.terminal import Terminal
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import Address
from tests.kernel.conftest import TwoHosts, build_two_hosts
from tests.kernel.ctl import PROGRAM, mptcpctl, running, said

RATE = 20_000_000  # bit/s of each link
TOP = [*PROGRAM, "top", "-d", "0.2"]
SECOND = Address(ip_address("10.0.2.1").packed, id=1, flags=u.MPTCP_PM_ADDR_FLAG_SUBFLOW)


class Scene(NamedTuple):
    """A transfer from 10.0.1.1 with a second subflow from 10.0.2.1, for as long as is needed."""

    hosts: TwoHosts
    token: str
    transfer: traffic.Transfer


@pytest.fixture
def scene(lab: object, namespaces: None) -> Iterator[Scene]:
    hosts = build_two_hosts(lab, rate=RATE)  # type: ignore[arg-type]
    for host in (hosts.client, hosts.server):
        host.mptcp.set_limits(subflows=4)
    hosts.client.mptcp.add_addr(SECOND)
    connection = traffic.open_connection(hosts.client, hosts.server, "10.0.1.2")
    wait_until(lambda: traffic.info(connection.client).subflows == 1, "a second subflow")
    token = f"{connection.token:08x}"
    yield Scene(hosts, token, traffic.Transfer(hosts.client, hosts.server, connection, 1 << 40))


@pytest.fixture
def terminal(scene: Scene) -> Iterator[Terminal]:
    one = Terminal(scene.hosts.client, TOP, 120, 24)
    try:
        one.until(lambda lines: shares(lines) and sum(shares(lines)) == 100, "shares of both")
        yield one
    finally:
        one.close()


def shares(lines: list[str]) -> list[int]:
    return [int(found[1]) for line in lines if (found := re.search(r" (\d+) %", line))]


def test_frames(scene: Scene) -> None:
    """Rates that the links can carry, and shares that add up."""
    text = said(scene.hosts.client, "top", "-b", "-n", 2, "-d", "0.5")
    frames = text.split("\n\n")
    assert len(frames) == 2
    for frame in frames:
        title, _head, connection, *subflows = frame.splitlines()
        assert "1 connection, 2 subflows" in title
        assert connection.split()[0] == scene.token
        assert "client to 10.0.1.2:" in connection
        assert [line.split()[0] for line in subflows] == ["eth0", "eth1"]
        assert sum(shares(subflows)) == 100
        rate = re.search(r"\u2191 ([\d.]+) Mbit/s", title)
        assert rate is not None
        assert 0.5 < float(rate[1]) < 3 * 2 * RATE / 1e6  # what was queued may be confirmed at once


def test_frames_filter_and_none(scene: Scene) -> None:
    client = scene.hosts.client
    assert scene.token in said(client, "top", "-b", "-n", 1, "-d", "0.1", "dev", "eth1")
    text = said(client, "top", "-b", "-n", 1, "-d", "0.1", "dev", "lo")
    assert scene.token not in text
    assert "0 connections" in text


def test_frames_end_when_told(scene: Scene) -> None:
    with running(scene.hosts.client, "top", "-b", "-d", "0.1") as child:
        assert child.stdout is not None
        assert "mptcpctl top" in child.stdout.readline()


def test_nobody_reads_frames(lone_host: Host) -> None:
    child = lone_host.popen(
        [*PROGRAM, "top", "-b", "-d", "0.05"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait(20) == -signal.SIGPIPE


def test_screen(scene: Scene, terminal: Terminal) -> None:
    lines = terminal.screen.lines
    assert lines[0].startswith(" mptcpctl top ")
    assert lines[2].split()[0] == scene.token
    assert [line.split()[0] for line in lines[3:5]] == ["eth0", "eth1"]
    assert "q quit" in lines[-1]
    # The bars are as long as the shares say; each has its subflow's colour.
    for row, share in zip((3, 4), shares(lines), strict=True):
        bar = [style for cell, style in terminal.screen.cells[row] if cell == "\u2588"]
        whole = len(bar) + lines[row].count("\u00b7")
        assert abs(len(bar) / max(1, whole) - share / 100) < 0.15
    names = [terminal.screen.cells[row][4][1].colour for row in (3, 4)]
    assert len(set(names)) == 2
    assert terminal.screen.strange == []


def test_a_subflow_goes_and_another_comes(scene: Scene, terminal: Terminal) -> None:
    scene.hosts.client.mptcp.del_addr(SECOND._replace(ip=None, flags=None))
    terminal.until(
        lambda lines: any("gone" in line and "eth1" in line for line in lines)
        and any(f"{scene.token} lost a subflow: eth1 10.0.2.1:" in line for line in lines),
        "the loss is shown",
    )
    terminal.until(lambda lines: shares(lines) == [100], "the other has it all")
    scene.hosts.client.mptcp.add_addr(SECOND)
    terminal.until(
        lambda lines: any(f"{scene.token} has a subflow: eth1" in line for line in lines),
        "the new one is told of",
    )
    terminal.until(lambda lines: "2 subflows" in lines[0] and sum(shares(lines)) == 100, "both")


def test_a_connection_comes_and_goes(scene: Scene, terminal: Terminal) -> None:
    hosts = scene.hosts
    other = traffic.open_connection(hosts.client, hosts.server, "10.0.2.2")
    token = f"{other.token:08x}"
    terminal.until(lambda lines: any(f"{token} is new" in line for line in lines), "it is new")
    terminal.until(lambda lines: "2 connections" in lines[0], "two")
    other.close()
    terminal.until(lambda lines: any(f"{token} is closed" in line for line in lines), "its end")
    terminal.until(lambda lines: "1 connection," in lines[0], "one")


def test_keys(scene: Scene, terminal: Terminal) -> None:
    terminal.type("?")
    terminal.until(lambda lines: any("any key goes back" in line for line in lines), "help")
    terminal.type("x")
    terminal.until(lambda lines: scene.token in lines[2], "the connections again")
    for key, order in (("s", "rtt"), ("s", "retrans"), ("k", "token"), ("r", "rate")):
        terminal.type(key)
        terminal.until(lambda lines, order=order: f"by {order}" in lines[0], order)  # type: ignore[misc]
    terminal.type("+")
    terminal.until(lambda lines: "every 0.1 s" in lines[0], "quicker")
    terminal.type("-")
    terminal.until(lambda lines: "every 0.2 s" in lines[0], "slower")
    terminal.type(" ")
    terminal.until(lambda lines: "paused" in lines[0], "paused")
    terminal.type(" ")
    terminal.until(lambda lines: "paused" not in lines[0], "on again")
    terminal.type("\x1bOB")  # as an xterm in the mode that curses puts it in
    terminal.until(lambda lines: lines[2].startswith("\u25b8 " + scene.token), "selected")
    terminal.type("\n")
    terminal.until(lambda lines: lines[2].startswith("\u25b8"), "followed")
    terminal.type("\x1b")
    terminal.until(lambda lines: lines[2].startswith("  " + scene.token), "all")
    terminal.type("q")
    assert terminal.process.wait(10) == 0


def test_filter_typed(scene: Scene, terminal: Terminal) -> None:
    terminal.type("/dev nope\n")
    terminal.until(lambda lines: 'argument "nope" is wrong' in lines[-1], "what is wrong")
    terminal.type("/remote *:1\n")
    terminal.until(lambda lines: "no connection matches" in lines[2], "none")
    terminal.type("/\x15local 10.0.2.0/24\n")
    terminal.until(lambda lines: scene.token in lines[2], "it is back")
    assert "only local 10.0.2.0/24" in terminal.screen.lines[0]
    terminal.type("/abc\x1b")
    terminal.until(lambda lines: "q quit" in lines[-1], "taken back")
    assert "only local 10.0.2.0/24" in terminal.screen.lines[0]


def test_resize(scene: Scene, terminal: Terminal) -> None:
    for columns, rows in ((80, 12), (60, 8), (160, 40), (10, 3), (2, 1), (1, 2), (120, 24)):
        terminal.resize(columns, rows)
        title = " mptcpctl top"[:columns].rstrip()
        terminal.until(lambda lines, title=title: lines[0].startswith(title), "a title")  # type: ignore[misc]
        if rows >= 8:
            terminal.until(
                lambda lines: scene.token in lines[2] and "q quit" in lines[-1], "all of it"
            )
        assert terminal.process.poll() is None
    terminal.until(lambda lines: sum(shares(lines)) == 100, "as before")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals(lone_host: Host, number: signal.Signals) -> None:
    one = Terminal(lone_host, TOP)
    try:
        before = termios.tcgetattr(one.fd)
        one.until(lambda lines: "no MPTCP connection" in lines[2], "it has begun")
        assert termios.tcgetattr(one.fd) != before
        one.process.send_signal(number)
        assert one.process.wait(10) == 0
        one.wait(0.05)
        assert termios.tcgetattr(one.fd) == before
        assert not any("Traceback" in line for line in one.screen.lines)
    finally:
        one.close()


def test_control_c(lone_host: Host) -> None:
    """Typed, it becomes a signal of the terminal's foreground group."""
    one = Terminal(lone_host, TOP)
    try:
        one.until(lambda lines: "no MPTCP connection" in lines[2], "it has begun")
        one.type("\x03")
        assert one.process.wait(10) == 0
    finally:
        one.close()


def test_stopped_and_continued(scene: Scene, terminal: Terminal) -> None:
    """What the shell has written meanwhile is drawn over."""
    terminal.process.send_signal(signal.SIGSTOP)
    terminal.wait(0.05)
    terminal.screen.feed("\x1b[1;1H" + "junk " * 24 * 24)
    terminal.process.send_signal(signal.SIGCONT)
    terminal.until(
        lambda lines: lines[0].startswith(" mptcpctl top") and not any("junk" in x for x in lines),
        "the screen is whole again",
    )


def test_the_terminal_is_closed(lone_host: Host) -> None:
    one = Terminal(lone_host, TOP)
    try:
        one.until(lambda lines: "no MPTCP connection" in lines[2], "it has begun")
        one.hang_up()
        assert one.process.wait(10) == 0
    finally:
        one.close()


def test_so_many_times(lone_host: Host) -> None:
    one = Terminal(lone_host, [*TOP, "-n", "2"])
    try:
        one.wait(10)
        assert one.process.wait(10) == 0
    finally:
        one.close()


@pytest.mark.parametrize("term", ["dumb", "no-such-terminal"])
def test_unusable_terminal(lone_host: Host, term: str) -> None:
    one = Terminal(lone_host, TOP, 120, env={"TERM": term})
    try:
        one.wait(10)
        assert one.process.wait(10) == 255
        text = "".join(one.screen.lines)
        assert f"Error: the terminal '{term}'" in text
        assert "top -b" in text
    finally:
        one.close()


def test_no_terminal(lone_host: Host) -> None:
    run = mptcpctl(lone_host, "top")
    assert run.returncode == 255
    assert run.stderr == (
        "Error: standard input and output are no terminal; top -b writes frames of text.\n"
    )


def test_plain_locale(lone_host: Host) -> None:
    """Where the terminal knows no other characters, there are none."""
    one = Terminal(lone_host, TOP, 100, env={"LC_ALL": "C"})
    try:
        lines = one.until(lambda lines: "q quit" in lines[-1], "it has begun")
        assert all(line.isascii() for line in lines)
    finally:
        one.close()
