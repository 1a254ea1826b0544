"""The program on this kernel: how it starts, ends, rests and recovers."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from lab import Host, Lab, wait_until
from lab.network import Interface, add_address, delete_address
from mptcpd.nl import rtnl_change
from mptcpd.nl.mptcp import AF_INET
from tests.kernel.started import Started, endpoints, flood, limits

UNAVAILABLE = "Required kernel MPTCP support not available."


@pytest.fixture
def eth0(lab: Lab) -> Interface:
    """The client's end of a link; its address is 10.0.1.1/24."""
    client, server = lab.host("client"), lab.host("server")
    return lab.link(client, "eth0", "10.0.1.1/24", server, "eth0", ()).one


# Start and end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_when_told_to(eth0: Interface, tmp_path: pathlib.Path, number: int) -> None:
    with Started(eth0.host, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        assert daemon.stop(number) == 0
        assert "Traceback" not in daemon.said


def test_ends_when_told_to_at_any_time(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """A signal during the start is not lost: the daemon never goes on as if nothing had been.

    Not so with SIGINT, which Python turns into KeyboardInterrupt until we take over: during the
    imports it is, rarely, raised where nobody can catch it.
    """
    for delay in (0.0, 0.05, 0.1, 0.15, 0.2):
        with Started(lone_host, tmp_path) as daemon:
            time.sleep(delay)  # not for luck: wherever it hits, it must end
            assert daemon.stop(signal.SIGTERM) in (0, -signal.SIGTERM)


def test_hang_up_reads_the_network_anew(eth0: Interface, tmp_path: pathlib.Path) -> None:
    with Started(eth0.host, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until_said("Reloaded. Plugins kept: addr_adv.")
        add_address(eth0, "10.0.2.1/24")
        daemon.until("10.0.1.1", "10.0.2.1")


def test_a_host_without_any_interface(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """Not even lo is up."""
    lone_host.change(rtnl_change.set_link(1, up=False))
    with Started(lone_host, tmp_path, "--debug") as daemon:
        daemon.until_ready()
        assert daemon.stop() == 0
    assert endpoints(lone_host) == {}


def test_mptcp_is_off(eth0: Interface, tmp_path: pathlib.Path) -> None:
    eth0.host.set_sysctl("net.mptcp.enabled", 0)
    with Started(eth0.host, tmp_path) as daemon:
        assert daemon.status() == 1
        assert daemon.lines == [
            "MPTCP is not enabled in the kernel.",
            "Try 'sysctl -w net.mptcp.enabled=1'.",
            UNAVAILABLE,
        ]
    assert endpoints(eth0.host) == {}


# Plugins


GOOD = """
from mptcpd.plugin import Plugin

class Good(Plugin):
    def init(self, pm):
        pm.log.info("good begins")

    def new_local_address(self, interface, address, pm):
        pm.log.info("good sees %s on %s", address, interface.name)

    def exit(self, pm):
        pm.log.info("good ends")
"""
BAD = {
    "syntax": ("class Good(\n", 0o644, "SyntaxError"),
    "empty": ("", 0o644, "found: none"),
    "twice": (GOOD + "class Other(Plugin): pass\n", 0o644, "found: Good, Other"),
    "raises": ("raise LookupError('on purpose')\n", 0o644, "LookupError: on purpose"),
    "exits": ("import sys\nsys.exit(0)\n", 0o644, "SystemExit: 0"),
    "zgood": (GOOD + "    name = 'good'\n", 0o644, 'another plugin is named "good" already'),
}
INIT = GOOD.replace('pm.log.info("good begins")', "1 / 0")
HOOK = GOOD.replace('pm.log.info("good sees %s on %s", address, interface.name)', "1 / 0")


def test_one_good_plugin_among_bad_ones(eth0: Interface, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    more = {"good": (GOOD, 0o644, ""), "binit": (INIT, 0o644, ""), "hook": (HOOK, 0o644, "")}
    files = {**BAD, **more}
    for name, (text, mode, _why) in files.items():
        (folder / f"{name}.py").write_text(text)
        (folder / f"{name}.py").chmod(mode)
    with Started(eth0.host, tmp_path, f"--plugin-dir={folder}", core="") as daemon:
        daemon.until_said("good sees 10.0.1.1 on eth0")
        add_address(eth0, "10.0.2.1/24")
        daemon.until_said("good sees 10.0.2.1 on eth0")
        assert daemon.stop() == 0
        for name, (_text, _mode, why) in BAD.items():
            (line,) = [line for line in daemon.lines if line.startswith(f'Plugin "{name}": ')]
            assert why in line
        assert 'Plugin "binit": init failed' in daemon.lines
        assert 'Plugin "binit" failed to initialize' in daemon.lines
        assert daemon.lines.count('Plugin "hook": new_local_address failed') == 2
        # hook has an exit as well; binit is not told of the end.
        assert daemon.lines.count("good ends") == 2


def test_a_plugin_that_others_could_have_written(eth0: Interface, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    for name, mode in (("good", 0o644), ("open", 0o666)):
        (folder / f"{name}.py").write_text(GOOD)
        (folder / f"{name}.py").chmod(mode)
    with Started(eth0.host, tmp_path, f"--plugin-dir={folder}", core="") as daemon:
        assert daemon.status() == 1
        assert daemon.lines == [
            f'"{folder}/open.py" should be a file that is not world writable.',
            "Unable to load path manager plugins.",
        ]


def test_no_plugin_that_can_be_used(eth0: Interface, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    (folder / "binit.py").write_text(INIT)
    (folder / "binit.py").chmod(0o644)
    with Started(eth0.host, tmp_path, f"--plugin-dir={folder}", core="") as daemon:
        assert daemon.status() == 1
        assert "Unable to load path manager plugins." in daemon.lines
    (folder / "binit.py").unlink()
    with Started(eth0.host, tmp_path, f"--plugin-dir={folder}", core="") as daemon:
        assert daemon.status() == 1
        assert "Unable to load path manager plugins." in daemon.lines
    with Started(eth0.host, tmp_path, "--load-plugins=,") as daemon:
        assert daemon.status() == 1


def test_a_default_plugin_that_is_not_there(eth0: Interface, tmp_path: pathlib.Path) -> None:
    """It is found out before anything was changed."""
    with Started(eth0.host, tmp_path, "--path-manager=addr_ad") as daemon:
        assert daemon.status() == 1
        assert 'No plugin is named "addr_ad"; there are: addr_adv.' in daemon.lines
    assert limits(eth0.host) == (2, 0)
    with Started(eth0.host, tmp_path, "--path-manager=addr_adv") as daemon:
        daemon.until("10.0.1.1")


def test_a_plugin_that_is_not_there(eth0: Interface, tmp_path: pathlib.Path) -> None:
    with Started(eth0.host, tmp_path, "--load-plugins=missing,addr_adv") as daemon:
        daemon.until("10.0.1.1")
        (line,) = [line for line in daemon.lines if "missing" in line]
        assert line.endswith("/missing.py: No such file or directory")


# Debug


def test_debug_shows_messages_in_words(eth0: Interface, tmp_path: pathlib.Path) -> None:
    with Started(eth0.host, tmp_path, "--debug") as daemon:
        daemon.until_ready()
        add_address(eth0, "fd00:1::1/64")
        daemon.until("10.0.1.1", "fd00:1::1")
        delete_address(eth0, "fd00:1::1/64")
        daemon.until("10.0.1.1")
        daemon.stop()
    for pattern in (
        r"-> MPTCP_PM_CMD_GET_LIMITS",
        r"<- MPTCP_PM_CMD_GET_LIMITS RCV_ADD_ADDRS 0 SUBFLOWS 2",
        r"-> MPTCP_PM_CMD_ADD_ADDR ADDR \{.*ADDR4 10\.0\.1\.1.*FLAGS subflow.*IF_IDX \d+\}",
        r"<- MPTCP_PM_CMD_ADD_ADDR: done",
        r"-> RTM_GETLINK",
        r"<- RTM_NEWADDR: ifindex \d+ ip fd00:1::1 prefixlen 64",
        r"<- RTM_DELADDR: .*fd00:1::1",
        r"-> MPTCP_PM_CMD_DEL_ADDR ADDR \{.*ID 2\}",
    ):
        assert any(re.search(pattern, line) for line in daemon.lines), pattern


# At rest


def at_rest(daemon: Started) -> int:
    """Wait until it has done all there was to do; how often it was switched until now."""

    def quiet() -> bool:
        before = daemon.switches()
        time.sleep(0.3)  # longer than a bounced address is distrusted
        return daemon.asleep() and daemon.switches() == before

    wait_until(quiet, "the daemon at rest", 10)
    return daemon.switches()


@pytest.mark.parametrize("core", ["", "notify-flags=existing,check_route"], ids=["", "routes"])
def test_nothing_wakes_it(eth0: Interface, tmp_path: pathlib.Path, core: str) -> None:
    """With all plugins that there are, and after some work."""
    with Started(eth0.host, tmp_path, core=core) as daemon:
        wait_until(lambda: limits(eth0.host) != (2, 0), "the daemon at work")
        eth0.host.change(rtnl_change.add_route(AF_INET, oif=eth0.ifindex))
        daemon.until("10.0.1.1")
        eth0.down()
        daemon.until()
        before = at_rest(daemon)
        time.sleep(2.0)
        assert daemon.switches() == before
        print(f"resident: {daemon.resident() / 2**20:.1f} MiB")


def test_one_wait_is_all_that_strace_sees(eth0: Interface, tmp_path: pathlib.Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace here (the switches of the process are counted in any case)")
    with Started(eth0.host, tmp_path, core="") as daemon:
        daemon.until("10.0.1.1")
        at_rest(daemon)
        seen = tmp_path / "strace"
        tracer = subprocess.Popen(
            [strace, "-f", "-o", str(seen), "-p", str(daemon.pid)], stderr=subprocess.PIPE
        )
        with tracer:
            assert tracer.stderr is not None
            first = tracer.stderr.readline().decode()
            if "attached" not in first:
                tracer.wait()
                pytest.skip(f"strace may not look at the daemon: {first.strip()}")
            time.sleep(3.0)
            tracer.send_signal(signal.SIGINT)
        calls = [line for line in seen.read_text().splitlines() if "SIG" not in line]
        assert len(calls) == 1, calls
        assert "epoll_" in calls[0]
        assert daemon.stop() == 0


# Overruns


def test_after_an_overrun_all_is_right(eth0: Interface, tmp_path: pathlib.Path) -> None:
    """It sleeps while more happens than the kernel keeps for it."""
    with Started(eth0.host, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        os.kill(daemon.pid, signal.SIGSTOP)
        while not dropped(daemon):
            flood(eth0, 2000)
        add_address(eth0, "10.0.2.1/24")
        delete_address(eth0, "10.0.1.1/24")
        os.kill(daemon.pid, signal.SIGCONT)
        daemon.until("10.0.2.1")
        daemon.until_said("the receive buffer was full; reading links and addresses anew")
        add_address(eth0, "10.0.3.1/24")
        daemon.until("10.0.2.1", "10.0.3.1")
        assert "Traceback" not in daemon.said


def test_it_can_be_ended_in_a_flood(eth0: Interface, tmp_path: pathlib.Path) -> None:
    with Started(eth0.host, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        call = eth0.host.call(flood, eth0, 10**9)
        daemon.until_said("Endpoint 10.7.7.7", 20)
        assert daemon.stop() == 0
        assert call.running
        call.stop()


def dropped(daemon: Started) -> int:
    """How many messages the kernel did not keep for subscribers in the daemon's namespace."""
    with open(f"/proc/{daemon.pid}/net/netlink") as stream:
        head, *rows = (line.split() for line in stream)
    drops, groups = head.index("Drops"), head.index("Groups")
    return sum(int(row[drops]) for row in rows if int(row[groups], 16))
