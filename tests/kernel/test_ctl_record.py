"""mptcpctl record: pictures of real transfers, and every way in which a recording ends."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import xml.etree.ElementTree as xml
from ipaddress import ip_address

import pytest

from lab import Host, traffic, wait_until
from lab.terminal import Terminal
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import Address
from tests.kernel.conftest import build_two_hosts
from tests.kernel.ctl import PATIENCE, PROGRAM, mptcpctl, running, said
from tests.kernel.test_ctl_connection import _unprivileged

_SVG = "{http://www.w3.org/2000/svg}"
SECOND = Address(ip_address("10.0.2.1").packed, id=1, flags=u.MPTCP_PM_ADDR_FLAG_SUBFLOW)


def texts(file: pathlib.Path) -> list[str]:
    """What is written in a picture, which must be well-formed XML."""
    root = xml.parse(file).getroot()
    assert root.tag == f"{_SVG}svg"
    return [element.text or "" for element in root.iter(f"{_SVG}text")]


def test_a_transfer(lab: object, namespaces: None, tmp_path: pathlib.Path) -> None:
    """Two paths, one is cut; then the second subflow is closed and opened again."""
    hosts = build_two_hosts(lab, rate=40_000_000)  # type: ignore[arg-type]
    client, server = hosts.client, hosts.server
    for host in (client, server):
        host.mptcp.set_limits(subflows=4)
    client.mptcp.add_addr(SECOND)
    file = tmp_path / "picture.svg"
    file.write_text("something longer than any picture " * 10_000)
    size = 8_000_000  # a carrier's loss may be told a second late
    with running(client, "record", file, "-i", "0.05") as child:
        # It is subscribed before it looks: what happens from now on is in the picture.
        wait_until(lambda: subscribed(client) or child.poll() is not None, "it listens")
        connection = traffic.open_connection(client, server, "10.0.1.2")
        token = f"{connection.token:08x}"
        wait_until(lambda: traffic.info(connection.client).subflows == 1, "a second subflow")
        transfer = traffic.Transfer(client, server, connection, size)
        wait_until(lambda: transfer.received > size / 4, "a quarter")
        hosts.second.other.down()
        wait_until(lambda: not hosts.second.one.running(), "the carrier is lost")
        client.mptcp.del_addr(SECOND._replace(ip=None, flags=None))
        transfer.result()
        wait_until(lambda: "CLOSED" not in said(client, "connection"), "over")
    found = texts(file)
    assert f"MPTCP connection {token}, client to 10.0.1.2:" in "\n".join(found)
    rows = [text for text in found if "\u2192" in text and text.startswith("eth")]
    assert [row.split()[0] for row in rows] == ["eth0", "eth1"]
    told = "\n".join(found)
    for event in (
        "connection created 10.0.1.1:", "connection established", "subflow established 10.0.2.1:",
        "subflow closed 10.0.2.1:", "eth1 is down or has no carrier", "connection closed",
    ):  # fmt: skip
        assert event in told
    assert "sent, Mbit/s" in found
    assert "received, Mbit/s" not in told  # a byte came back: not worth a panel
    carried = re.search(r"([\d.]+) MB sent, \d+ B received", told)
    assert carried is not None
    # What the last look before the end had not yet seen is missing.
    assert size * 0.5 < float(carried[1]) * 1e6 <= size * 1.01
    shares = [int(share) for share in re.findall(r"(\d+) % \u00b7", told)]
    assert sum(shares) == 100
    assert len(list(xml.parse(file).iter(f"{_SVG}polygon"))) == 2


def subscribed(host: Host) -> bool:
    """Whether some socket of the host is in the group of the path manager's events."""
    group = host.mptcp.events_group
    with host, open("/proc/thread-self/net/netlink") as stream:
        rows = [line.split() for line in stream.readlines()[1:]]
    return any(int(row[1]) == u.NETLINK_GENERIC and int(row[3], 16) >> group - 1 & 1
               for row in rows)  # fmt: skip


def waits(pid: int) -> bool:
    """Whether a process waits for something to happen, by its system call."""
    with open(f"/proc/{pid}/syscall") as stream:
        return stream.read().split()[0] in _WAITING


_WAITING = {"7", "23", "232", "270", "271", "281"}  # poll, select, epoll, x86-64
_WAITING |= {"22", "72", "73"}  # epoll_pwait, pselect6, ppoll: arm64, riscv


def test_ends_by_itself(lone_host: Host, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "picture.svg"
    assert said(lone_host, "record", file, "-d", "0.2", "-i", "0.05") == ""
    assert "No MPTCP connection was seen." in texts(file)


def test_ends_with_its_connection(lone_host: Host, tmp_path: pathlib.Path) -> None:
    connection = traffic.open_connection(lone_host, lone_host, "127.0.0.1")
    other = traffic.open_connection(lone_host, lone_host, "127.0.0.1")
    token = f"{connection.token:08x}"
    file = tmp_path / "picture.svg"
    child = lone_host.popen([*PROGRAM, "record", str(file), "token", token, "-i", "0.05"])
    wait_until(lambda: subscribed(lone_host) and waits(child.pid), "it has looked and waits")
    connection.exchange()
    connection.close()
    assert child.wait(PATIENCE) == 0
    told = "\n".join(texts(file))
    assert f"MPTCP connection {token}, client to 127.0.0.1:" in told
    assert "connection closed" in told
    other.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_by_a_signal(lone_host: Host, tmp_path: pathlib.Path, number: signal.Signals) -> None:
    file = tmp_path / "picture.svg"
    child = lone_host.popen([*PROGRAM, "record", str(file), "-i", "5"])
    wait_until(lambda: subscribed(lone_host), "it listens")
    child.send_signal(number)
    assert child.wait(PATIENCE) == 0
    assert texts(file)


def test_on_a_terminal_it_says_how_far_it_is(lone_host: Host, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "picture.svg"
    one = Terminal(lone_host, [*PROGRAM, "record", str(file)], 120)
    try:
        one.until(lambda lines: "Ctrl-C ends it and writes" in lines[0], "progress")
        one.type("\x03")
        assert one.process.wait(PATIENCE) == 0
        one.wait(0.05)
        assert "Ctrl-C ends it" not in "".join(one.screen.lines)
    finally:
        one.close()


def test_unprivileged(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """No events are told; the picture says so, and is made from what the looks show."""
    file = tmp_path / "picture.svg"
    connection = traffic.open_connection(lone_host, lone_host, "127.0.0.1")
    call = lone_host.call(_unprivileged, ["record", str(file), "-d", "0.3", "-i", "0.05"])
    wait_until(lambda: file.exists(), "it has begun")
    connection.close()
    assert call.result() == (0, "")
    told = "\n".join(texts(file))
    assert "Events are told to CAP_NET_ADMIN only" in told


def test_a_file_that_cannot_be_written(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """Found out before the recording, not after it."""
    for file, words in ((tmp_path / "no" / "x.svg", "No such file"), (tmp_path, "Is a directory")):
        run = mptcpctl(lone_host, "record", file)
        assert run.returncode == 2
        assert words in run.stderr
        assert str(file) in run.stderr


def test_into_a_pipe(lone_host: Host) -> None:
    text = said(lone_host, "record", "/dev/stdout", "-d", "0.1")
    assert xml.fromstring(text).tag == f"{_SVG}svg"


def test_what_is_wrong(lone_host: Host, tmp_path: pathlib.Path) -> None:
    for words in (["record"], ["record", "a.svg", "-d", "x"], ["record", "a.svg", "-d"]):
        run = mptcpctl(lone_host, *words)
        assert run.returncode == 255
        assert run.stderr
        assert "Traceback" not in run.stderr
    assert not os.path.exists("a.svg")
