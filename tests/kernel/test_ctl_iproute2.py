"""mptcpctl beside ``ip mptcp``: the same words, output and exit status.

``python -m tests.kernel.iproute2 400`` compares as many sequences as you have time for.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile

import pytest

from lab import Host, Lab, wait_until
from mptcpd.cli.ctl import path_manager
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import Address
from tests.captures import capture
from tests.captures.record import Record
from tests.captures.scene import Scene
from tests.kernel.ctl import PATIENCE, PROGRAM
from tests.kernel.iproute2 import Difference, Pair, knows_all, subprocess_in


@pytest.fixture
def ip(lab: Lab) -> str:
    found = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip("no ip to compare with (Debian: iproute2)")
    if b"Usage" not in subprocess.run([found, "mptcp", "help"], capture_output=True).stderr:
        pytest.skip(f"{found} knows no MPTCP (iproute2 5.8, not busybox)")
    return found


def test_random_sequences(lab: Lab, ip: str) -> None:
    pair = Pair(lab, ip)
    for seed in range(12):
        pair.compare(seed)


def test_the_comparison_finds_differences(lab: Lab, ip: str) -> None:
    """If this one does not hold, the other proves nothing."""
    pair = Pair(lab, ip)
    theirs, ours = pair.both(["-j", "limits"])
    assert theirs.out != ours.out  # the one that is meant to differ
    pair.both = lambda line: (theirs, ours)  # type: ignore[method-assign]
    with pytest.raises(Difference, match="seed 0"):
        pair.compare(0)


def test_an_interface_that_is_gone(lab: Lab, ip: str) -> None:
    host = lab.host("gone")
    host.mptcp.add_addr(Address(b"\x0a\0\0\1", ifindex=77))
    for options in ([], ["-j"], ["-c=always"] if knows_all(ip) else []):
        theirs = subprocess_in(host, [ip, *options, "mptcp", "endpoint"])
        assert subprocess_in(host, [*PROGRAM, *options, "endpoint"]) == theirs
    assert b"if77" in theirs.out


def test_without_rights(lab: Lab, ip: str) -> None:
    """What only CAP_NET_ADMIN may do, and what everybody may."""
    host = lab.host("poor")
    host.mptcp.add_addr(Address(b"\x0a\0\0\1"))
    drop = shutil.which("setpriv")
    if drop is None:
        pytest.skip("no setpriv to drop rights with (Debian: util-linux)")
    poor = [drop, "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    for words in (
        ["endpoint", "add", "10.0.0.2"], ["endpoint", "flush"], ["endpoint", "delete", "id", "1"],
        ["endpoint"], ["endpoint", "show", "id", "9"], ["limits"], ["limits", "set", "sub", "1"],
        ["monitor"],
    ):  # fmt: skip
        theirs = subprocess_in(host, [*poor, ip, "mptcp", *words])
        ours = subprocess_in(host, [*poor, *PROGRAM, *words])
        assert ours == theirs, words
    assert b"Operation not permitted" in ours.err


def waiting(host: Host) -> int:
    """Bytes that wait in the queues of generic netlink sockets: ip drops them when it is ended."""
    with host, open("/proc/thread-self/net/netlink") as stream:
        names, *rows = (line.split() for line in stream)
    table = [dict(zip(names, row, strict=True)) for row in rows]
    return sum(int(row["Rmem"]) for row in table if row["Eth"] == str(u.NETLINK_GENERIC))


@pytest.mark.parametrize("options", [[], ["-j"], ["-j", "-p"], ["-o"]], ids=" ".join)
def test_events(lab: Lab, ip: str, options: list[str]) -> None:
    """Every event of a client, and what becomes of the options."""
    if not knows_all(ip):
        pytest.skip(f"{ip} prints events in a form of its own (older than iproute2 6.18)")
    scene = Scene(lab)
    client, group = scene.client, scene.client.mptcp.events_group

    def subscribed() -> int:
        with client:
            found = path_manager.subscribers(group)
        return -1 if found is None else len(found)

    before = subscribed()
    if before < 0:
        pytest.skip("this kernel does not list netlink sockets (CONFIG_NETLINK_DIAG)")
    said = []
    with tempfile.TemporaryFile() as theirs, tempfile.TemporaryFile() as ours:
        children = [
            client.popen([*program, *options, *words], stdout=file)
            for program, words, file in (
                ([ip], ["mptcp", "monitor"], theirs), (PROGRAM, ["monitor"], ours)
            )
        ]  # fmt: skip
        assert wait_until(lambda: subscribed() == before + 2, "both subscribed", PATIENCE)
        capture.record_events(scene, "ipv4", Record())
        for watch in (scene.at_client, scene.at_server):
            watch.close()
        wait_until(lambda: not waiting(client), "all events are read", PATIENCE)
        for child in children:
            child.send_signal(signal.SIGINT)
            child.wait(PATIENCE)
        for file in (theirs, ours):
            file.seek(0)
            said.append(file.read())
    assert said[0].count(b"SF_ESTABLISHED") >= 3 and said[0].count(b"CLOSED") >= 3
    assert said[1] == said[0]
