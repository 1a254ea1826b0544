"""Faults that a machine can have, one after the other under the running daemon.

After each its view is the kernel's: what plugins know of interfaces, addresses, connections and
subflows. Or it has ended, with a message and a status that is not 0; never with a traceback.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import resource
import signal
import time
from collections.abc import Iterator

import pytest

from bench.load import Churn, Held
from lab import Lab, wait_until
from lab.network import Interface, Link, add_address, delete_address
from mptcpd.nl import rtnl_change
from tests.kernel.confined import NO_RIGHT
from tests.kernel.started import endpoints, flood, foreign
from tests.kernel.viewed import Viewed, truth


class Machine:
    """A host with two links to another, and what goes on there."""

    def __init__(self, lab: Lab) -> None:
        self.host = lab.host("host")
        self.held = Held(self.host, 20)  # now: its processes are to know nothing of the far host
        self.far = lab.host("far")
        for number in range(2):
            self.far.change(
                rtnl_change.add_veth(f"x{number}", self.far.fd, f"y{number}", self.far.fd)
            )
        self.links: list[Link] = [
            lab.link(self.host, f"eth{n}", f"10.0.{n}.1/24", self.far, f"e{n}", f"10.0.{n}.2/24")
            for n in (1, 2)
        ]

    @property
    def eth1(self) -> Interface:
        return self.links[0].one

    def churn(self, seconds: float) -> Churn:
        """Connections that come and go, and an address that does."""
        load = Churn(self.host, seconds=seconds, rate=1000.0, processes=1)
        flood(self.eth1, 400)
        return load


@pytest.fixture
def machine(lab: Lab) -> Iterator[Machine]:
    machine = Machine(lab)
    yield machine
    machine.held.close()


@contextlib.contextmanager
def running(daemon: Viewed) -> Iterator[Viewed]:
    """A daemon that must end well."""
    with daemon:
        yield daemon
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.said, daemon.said


# Receive buffers of a few KB, and no time to read them


@pytest.mark.parametrize("size", [4096, 8192])
def test_small_receive_buffers(size: int, machine: Machine, tmp_path: pathlib.Path) -> None:
    daemon = Viewed(machine.host, tmp_path, f"buffers={size}", core=f"event-buffer={size}")
    with running(daemon):
        daemon.until_equal()
        load = machine.churn(0.5)
        daemon.until_said("the receive buffer was full")
        load.result()
        daemon.until_equal()
        machine.held.close()
        assert daemon.until_equal()["connections"] == {}


def test_stopped_for_seconds_under_load(machine: Machine, tmp_path: pathlib.Path) -> None:
    with running(Viewed(machine.host, tmp_path, core="event-buffer=65536")) as daemon:
        daemon.until_equal()
        os.kill(daemon.pid, signal.SIGSTOP)
        load = machine.churn(2.0)
        add_address(machine.eth1, "10.0.1.9/24")
        delete_address(machine.eth1, "10.0.1.1/24")
        more = Held(machine.host, 10, first=50)
        machine.held.close()
        load.result()
        os.kill(daemon.pid, signal.SIGCONT)
        assert len(daemon.until_equal()["connections"]) == 20
        assert "the receive buffer was full" in daemon.said
        more.close()
        daemon.until_equal()


# Limits of the process


def test_few_descriptors(machine: Machine, tmp_path: pathlib.Path) -> None:
    """As many as it needs, or one less and so on: it says what it could not open."""
    ends = []
    for number in range(3, 24, 2):
        with Viewed(machine.host, tmp_path, f"nofile={number}") as daemon:
            start(daemon)
            if daemon.process.poll() is None:
                assert daemon.stop() == 0
                break
            ends.append(daemon.status())
            assert daemon.status() == 1
            assert "Traceback" not in daemon.said, (number, daemon.said)
            assert "Too many open files" in daemon.said, (number, daemon.said)
    assert 3 <= len(ends) <= 8


def start(daemon: Viewed) -> None:
    """Wait until it has come to the point where it serves, or has ended."""

    def served() -> bool:
        if daemon.process.poll() is not None:
            return True
        return set(endpoints(daemon.host)) == {"10.0.1.1", "10.0.2.1"} and daemon.asleep()

    wait_until(served, "it serves or has ended", 10)


def test_no_descriptor_left_while_it_runs(machine: Machine, tmp_path: pathlib.Path) -> None:
    with running(Viewed(machine.host, tmp_path)) as daemon:
        daemon.until_equal()
        used = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        _soft, hard = before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used, hard))
        load = machine.churn(0.5)
        add_address(machine.eth1, "10.0.1.9/24")
        wait_until(lambda: "10.0.1.9" in endpoints(machine.host), "an endpoint all the same")
        daemon.until_said("Too many open files; after a restart mptcpd will not know its endpoints")
        load.result()
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)
        daemon.until_equal()


def test_no_memory_left(machine: Machine, tmp_path: pathlib.Path) -> None:
    """At the start, or when many connections come: it says so and ends, or has enough."""
    ends = []
    for kib in (0, 1000, 50_000):
        with Viewed(machine.host, tmp_path, f"memory={kib << 10}") as daemon:
            start(daemon)
            more = Held(machine.host, 2000, first=50)
            with contextlib.suppress(AssertionError):
                daemon.until_equal()
            more.close()
            if daemon.process.poll() is None:
                daemon.until_equal()
                ends.append(daemon.stop())
            else:
                ends.append(daemon.status())
                assert daemon.lines[-1] == "mptcpd ends: no memory is left"
            # What a hook lacks memory for is told as that hook's failure.
            assert "Traceback" not in daemon.said or 'Plugin "view"' in daemon.said, daemon.said
    assert (ends[0], ends[-1]) == (1, 0)


# The disk


@pytest.mark.parametrize("fault", ["full", "readonly"])
def test_a_disk_that_takes_nothing(
    fault: str, machine: Machine, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "run").mkdir()
    with running(Viewed(machine.host, tmp_path, f"{fault}={tmp_path}/run")) as daemon:
        start(daemon)
        if daemon.process.poll() == NO_RIGHT:
            pytest.skip(f"no disk can be mounted here: {daemon.said.strip()}")
        daemon.until_equal()
        (line,) = [line for line in daemon.lines if "after a restart" in line]
        assert {"full": "No space left on device", "readonly": "Read-only file system"}[
            fault
        ] in line
        load = machine.churn(0.3)
        machine.links[1].one.down()
        load.result()
        daemon.until_equal()
        assert "10.0.2.1" not in endpoints(machine.host)


# Under it


def test_the_network_is_torn_down(machine: Machine, tmp_path: pathlib.Path, lab: Lab) -> None:
    """As when a container ends: the far host goes, then every link, and the loopback."""
    with running(Viewed(machine.host, tmp_path)) as daemon:
        daemon.until_equal()
        machine.far.close()
        wait_until(lambda: len(machine.host.network.links()) == 1, "the links to be gone")
        assert daemon.until_equal()["interfaces"] == {}
        assert endpoints(machine.host) == {}
        machine.held.close()
        machine.host.change(rtnl_change.set_link(1, up=False))
        wait_until(daemon.asleep, "it waits")
        assert truth(machine.host)["connections"] == {}


def test_mptcp_is_switched_off_and_on(machine: Machine, tmp_path: pathlib.Path) -> None:
    with running(Viewed(machine.host, tmp_path)) as daemon:
        before = daemon.until_equal()
        machine.host.set_sysctl("net.mptcp.enabled", 0)
        delete_address(machine.eth1, "10.0.1.1/24")
        add_address(machine.eth1, "10.0.1.9/24")
        wait_until(lambda: "10.0.1.9" in endpoints(machine.host), "an endpoint all the same")
        with pytest.raises(Exception, match="Protocol not available"):
            Churn(machine.host, seconds=0.1, processes=1).result()
        machine.host.set_sysctl("net.mptcp.enabled", 1)
        # Connections that were there have gone on.
        assert daemon.until_equal()["connections"] == before["connections"]
        more = Held(machine.host, 5, first=50)
        assert len(daemon.until_equal()["connections"]) == len(before["connections"]) + 10
        more.close()
        daemon.until_equal()


@pytest.mark.parametrize("seed", range(2))
def test_killed_and_started_again(seed: int, machine: Machine, tmp_path: pathlib.Path) -> None:
    """At any moment: while it starts, while it writes, while things change."""
    draw = random.Random(seed)
    foreign(machine.host, "10.9.9.9", 200, "signal")
    load = Churn(machine.host, seconds=30.0, rate=300.0, processes=1)
    there: set[str] = set()
    for _life in range(6):
        with Viewed(machine.host, tmp_path) as daemon:
            until = time.monotonic() + draw.uniform(0.0, 0.5)
            while time.monotonic() < until:
                address = f"10.0.1.{draw.randrange(10, 20)}/24"
                (delete_address if address in there else add_address)(machine.eth1, address)
                there ^= {address}
                draw.choice([machine.links[1].other.up, machine.links[1].other.down])()
            daemon.process.kill()
    while there:
        delete_address(machine.eth1, there.pop())
    machine.links[1].other.up()
    load.stop()
    with running(Viewed(machine.host, tmp_path)) as daemon:
        daemon.until_equal()
        # Of all those endpoints nothing stays behind, and others' is left alone.
        assert set(endpoints(machine.host)) == {"10.0.1.1", "10.0.2.1", "10.9.9.9"}
