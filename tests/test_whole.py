"""The program from its arguments to its exit status, on a kernel that is none."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable, Iterator

import pytest

from mptcpd.cli import daemon, pm_type
from mptcpd.nl import uapi as u
from tests.fake.world import FakeWorld
from tests.fake_kernel import plugged
from tests.whole import Driven, Lifeless

ROOT = pathlib.Path(__file__).resolve().parent.parent
Script = Callable[[FakeWorld, Driven], object]
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def world() -> FakeWorld:
    world = FakeWorld()
    world.link("eth0", "10.0.1.1/24")
    return world


@pytest.fixture
def run(
    world: FakeWorld, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Run]:  # fmt: skip
    """``main`` with these lines in [core]; while it serves, the script runs. Status and stderr."""
    (tmp_path / "enabled").write_text("1")
    (tmp_path / "path_manager").write_text("kernel")
    monkeypatch.setattr(daemon, "_ENABLED", str(tmp_path / "enabled"))
    monkeypatch.setattr(daemon, "Life", Lifeless)
    monkeypatch.setattr(pm_type.PathManagerType.__init__, "__defaults__", (str(tmp_path),))
    file = tmp_path / "mptcpd.conf"

    def run(script: Script, core: str = "load-plugins=addr_adv") -> tuple[int, str]:
        file.write_text(f"[core]\nruntime-dir=none\nplugin-dir={ROOT}/plugins\n{core}\n")
        file.chmod(0o644)

        def loop() -> Driven:
            made = Driven(lambda: script(world, made))
            return made

        monkeypatch.setattr(daemon, "Loop", loop)
        with plugged(world.kernel):
            status = daemon.main([f"--config={file}"])
        return status, capfd.readouterr().err

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield run
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def shown(world: FakeWorld) -> list[str]:
    return sorted(text.split()[0] for text in world.kernel.endpoints.shown().values())


def test_addr_adv(world: FakeWorld, run: Run) -> None:
    def script(world: FakeWorld, loop: Driven) -> None:
        assert shown(world) == ["10.0.1.1"]
        world.link("eth1", "10.0.2.1/24")
        world.settle(loop, lambda: True)
        assert shown(world) == ["10.0.1.1", "10.0.2.1"]
        world.delete("eth0")
        world.settle(loop, lambda: True)
        assert shown(world) == ["10.0.2.1"]

    assert run(script) == (
        0,
        "Endpoint 10.0.1.1: ID 1 on ifindex 2.\nEndpoint 10.0.2.1: ID 2 on ifindex 3.\n",
    )
    assert shown(world) == ["10.0.2.1"]  # a restart must not disturb traffic
    assert world.kernel.sockets == []


def test_cleanup(world: FakeWorld, run: Run) -> None:
    before = world.kernel.endpoints.current
    assert run(lambda world, loop: None, "load-plugins=addr_adv\ncleanup=yes")[0] == 0
    assert (shown(world), world.kernel.endpoints.current) == ([], before)


def test_no_family(world: FakeWorld, run: Run) -> None:
    world.kernel.pm.there = False
    status, said = run(lambda world, loop: None)
    assert status == 1
    assert said.splitlines()[:2] == [
        "MPTCP generic netlink family has not appeared.",
        "Verify MPTCP netlink path manager kernel support.",
    ]
    assert world.kernel.sockets == []


def test_the_family_vanishes(world: FakeWorld, run: Run) -> None:
    """No kernel does it (MPTCP is no module), and yet: plugins fail, are told why, and go on."""

    def script(world: FakeWorld, loop: Driven) -> None:
        world.kernel.pm.there = False
        world.link("eth1", "10.0.2.1/24")
        world.settle(loop, lambda: True)
        assert shown(world) == ["10.0.1.1"]
        world.kernel.pm.there = True
        world.link("eth2", "10.0.3.1/24")
        world.settle(loop, lambda: True)
        assert shown(world) == ["10.0.1.1", "10.0.2.1", "10.0.3.1"]

    status, said = run(script)
    assert status == 0
    assert 'Plugin "addr_adv": new_local_address failed' in said
    assert "No such file or directory (ENOENT)" in said


def test_the_kernel_stops_answering(world: FakeWorld, run: Run) -> None:
    """At the start the daemon ends with a message; later it asks again."""
    protocol = u.NETLINK_ROUTE
    world.kernel.moods[protocol].append(lambda items: [])
    status, said = run(lambda world, loop: None)
    assert status == 1
    assert said == "mptcpd ends: RTM_GETLINK: no answer from the kernel within 5 s\n"
