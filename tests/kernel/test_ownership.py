"""Only our own endpoints are changed or deleted, also by the next start of the daemon."""

from __future__ import annotations

import os
import pathlib
import random
import signal
from collections.abc import Iterator

import pytest

from lab import Lab, traffic, wait_until
from lab.network import add_address, delete_address
from mptcpd.nl import mptcp
from tests.kernel.started import Shown, Started, endpoints, foreign, limits
from tests.kernel.uplinks import Following, Uplinks
from tests.kernel.watch import EventWatch


@pytest.fixture
def net(lab: Lab) -> Iterator[Uplinks]:
    net = Uplinks(lab, ["10.0.1.1"], ["10.0.2.1"])
    net.server.mptcp.set_limits(subflows=4)
    net.client.change(net.default_route(1))
    yield net


def notes(folder: pathlib.Path) -> pathlib.Path:
    """The file in which the daemon notes what is its own."""
    (file,) = (folder / "run").glob("endpoints-*")
    return file


def crash(daemon: Started) -> None:
    assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL


# Others' endpoints


def test_others_endpoints_are_left_alone_and_reported_once(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    foreign(net.client, "10.0.2.1", 77, "signal")  # an address that it would use itself
    foreign(net.client, "10.9.9.9", 78, "subflow", net[0].ifindex)
    theirs = endpoints(net.client)
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1", "10.9.9.9")
        for _ in range(3):
            net.pull(1)
            daemon.caught_up()
            net.plug(1)
            daemon.caught_up()
        assert theirs.items() <= endpoints(net.client).items()
        assert daemon.times("Somebody else's endpoint for 10.0.2.1 is left as it is.") == 1
        delete_address(net[1], "10.0.2.1/24")
        daemon.caught_up()
        assert daemon.stop() == 0
        assert theirs.items() <= endpoints(net.client).items()
    with Following(net.client, tmp_path, "cleanup=yes") as daemon:
        assert daemon.stop() == 0
    assert endpoints(net.client) == theirs


# The next start


@pytest.mark.parametrize("end", ["killed", "terminated"])
def test_the_next_start_takes_over_and_disturbs_nobody(
    net: Uplinks, tmp_path: pathlib.Path, end: str
) -> None:
    with Following(net.client, tmp_path) as daemon:
        before = daemon.until("10.0.1.1", "10.0.2.1")
        connection = traffic.open_connection(net.client, net.server, "10.0.1.2")
        with connection.client, connection.server, connection.listener:
            wait_until(lambda: traffic.info(connection.client).subflows == 1, "two subflows")
            if end == "killed":
                crash(daemon)
            else:
                assert daemon.stop() == 0
            watch = EventWatch(net.client)
            with Following(net.client, tmp_path) as daemon:
                assert endpoints(net.client) == before
                assert limits(net.client) == (4, 4)
                assert watch.so_far() == []  # no subflow was closed or made
                connection.exchange()
                net.pull(1)  # and they are its own again
                daemon.until("10.0.1.1")
            watch.close()


def test_the_next_start_puts_right_what_changed_meanwhile(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    for ip in ("10.0.1.11", "10.0.1.12", "10.0.1.13", "10.0.1.14"):
        add_address(net[0], f"{ip}/24")
    with Following(net.client, tmp_path) as daemon:
        before = daemon.until("10.0.2.1", *(f"10.0.1.{n}" for n in (1, 11, 12, 13, 14)))
        crash(daemon)
    delete_address(net[0], "10.0.1.11/24")  # gone
    delete_address(net[0], "10.0.1.12/24")  # moved
    add_address(net[1], "10.0.1.12/24")
    net.client.mptcp.del_addr(mptcp.Address(None, id=before["10.0.1.13"].id))  # deleted by somebody
    foreign(net.client, "10.9.9.9", before["10.0.1.13"].id, "signal")  # who used the ID again
    core = "[interface eth1]\nflags=subflow,backup"
    with Following(net.client, tmp_path, core) as daemon:
        after = endpoints(net.client)
        assert sorted(after) == [
            "10.0.1.1", "10.0.1.12", "10.0.1.13", "10.0.1.14", "10.0.2.1", "10.9.9.9",
        ]  # fmt: skip
        for ip in ("10.0.1.1", "10.0.1.14"):
            assert after[ip] == before[ip]
        assert after["10.0.2.1"] == before["10.0.2.1"]._replace(flags="subflow,backup")
        moved = Shown(before["10.0.1.12"].id, "subflow,backup", net[1].ifindex)
        assert after["10.0.1.12"] == moved
        assert after["10.9.9.9"] == Shown(before["10.0.1.13"].id, "signal", None)
        assert daemon.times("Endpoint 10.0.1.11 of an earlier run applies no more.") == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [("subflow", "signal"), ("subflow", "subflow,backup"), ("subflow,backup", "subflow"),
     ("signal", "subflow,fullmesh"), ("subflow,fullmesh", "")],
)  # fmt: skip
def test_flags_that_changed(
    net: Uplinks, tmp_path: pathlib.Path, first: str, second: str
) -> None:
    with Following(net.client, tmp_path, f"addr-flags={first}") as daemon:
        before = daemon.until("10.0.1.1", "10.0.2.1")
        crash(daemon)
    with Following(net.client, tmp_path, f"addr-flags={second}"):
        assert endpoints(net.client) == {
            ip: shown._replace(flags=second) for ip, shown in before.items()
        }


def test_a_plugin_that_wants_no_endpoints_any_more(net: Uplinks, tmp_path: pathlib.Path) -> None:
    foreign(net.client, "10.9.9.9", 78, "subflow")
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1", "10.9.9.9")
        crash(daemon)
    with Following(net.client, tmp_path, "interfaces=!eth*"):
        assert list(endpoints(net.client)) == ["10.9.9.9"]


def test_a_namespace_does_not_know_of_the_endpoints_of_another(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    """Several daemons of a machine, or of containers, may share the runtime directory."""
    other = Uplinks(net.lab, ["10.0.1.1"])
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1")
        crash(daemon)
    foreign(other.client, "10.0.1.1", 1, "subflow", other[0].ifindex)  # looks like the one noted
    with Following(other.client, tmp_path, "interfaces=!eth0"):
        assert list(endpoints(other.client)) == ["10.0.1.1"]


# Limits


def test_limits_are_not_lowered_below_what_was_found(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    net.client.mptcp.set_limits(subflows=3, add_addr_accepted=1)
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1")
        assert limits(net.client) == (4, 4)
        crash(daemon)
    with Following(net.client, tmp_path, "interfaces=!eth*\naddr-flags=signal") as daemon:
        assert limits(net.client) == (3, 1)
        net.client.mptcp.set_limits(subflows=6, add_addr_accepted=0)  # an administrator's
        crash(daemon)
    with Following(net.client, tmp_path, "addr-flags=signal") as daemon:
        daemon.until("10.0.1.1", "10.0.2.1")
        assert limits(net.client) == (6, 0)
        net.client.mptcp.set_limits(subflows=7)  # while it runs
        net.pull(1)
        daemon.until("10.0.1.1")
        assert limits(net.client) == (7, 0)


def test_cleanup_puts_everything_back(net: Uplinks, tmp_path: pathlib.Path) -> None:
    net.client.mptcp.set_limits(subflows=1, add_addr_accepted=1)
    foreign(net.client, "10.9.9.9", 78, "subflow")
    theirs = endpoints(net.client)
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1", "10.9.9.9")
        crash(daemon)
    with Following(net.client, tmp_path, "cleanup=yes") as daemon:
        daemon.until("10.0.1.1", "10.0.2.1", "10.9.9.9")
        net.client.mptcp.del_addr(mptcp.Address(None, id=endpoints(net.client)["10.0.1.1"].id))
        assert daemon.stop() == 0
        assert endpoints(net.client) == theirs
        assert limits(net.client) == (1, 1)
        assert "Traceback" not in daemon.said
    assert list((tmp_path / "run").iterdir()) == []


# What is noted, and where


def test_no_place_to_note_anything(net: Uplinks, tmp_path: pathlib.Path) -> None:
    run = tmp_path / "run"
    run.write_text("no directory")
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1")
        net.pull(1)
        daemon.until("10.0.1.1")
        assert daemon.times("after a restart mptcpd will not know its endpoints again") == 1
        crash(daemon)
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        assert daemon.times("Somebody else's endpoint for 10.0.1.1") == 1


def damage(file: pathlib.Path) -> None:
    file.write_text(file.read_text().replace("endpoint 10.0.1.1 0", "endpoint 10.0.1.1 x"))


def cut(file: pathlib.Path) -> None:
    file.write_text(file.read_text()[:-3])


def give_away(file: pathlib.Path) -> None:
    os.chown(file, 12345, 12345)


def open_to_all(file: pathlib.Path) -> None:
    file.chmod(0o666)


def link(file: pathlib.Path) -> None:
    file.rename(file.with_name("real"))
    file.symlink_to("real")


def fifo(file: pathlib.Path) -> None:
    file.unlink()
    os.mkfifo(file)


def directory(file: pathlib.Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "spoil", [damage, cut, give_away, open_to_all, link, fifo, directory]
)
def test_notes_that_cannot_be_believed(
    net: Uplinks, tmp_path: pathlib.Path, spoil: object
) -> None:
    """What is in the kernel then counts as somebody else's: nothing is deleted."""
    with Following(net.client, tmp_path) as daemon:
        before = daemon.until("10.0.1.1", "10.0.2.1")
        crash(daemon)
    assert callable(spoil)
    try:
        spoil(notes(tmp_path))
    except PermissionError:
        pytest.skip("only root can give a file away")
    with Following(net.client, tmp_path, "interfaces=!eth0") as daemon:
        daemon.caught_up()
        assert endpoints(net.client) == before
        warnings = ("is not believed", "is damaged and not used", "will not know its endpoints")
        assert sum(daemon.times(words) for words in warnings) >= 1
        assert daemon.times("Somebody else's endpoint for 10.0.2.1") == 1


def test_forged_notes_do_not_make_others_endpoints_ours(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    """A note about an endpoint that is not quite the one in the kernel is about another."""
    foreign(net.client, "10.9.9.9", 78, "subflow", net[0].ifindex)
    with Following(net.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1", "10.9.9.9")
        crash(daemon)
    file = notes(tmp_path)
    good = file.read_text()
    for forged in (
        "endpoint 10.9.9.9 0 79 2 subflow",
        "endpoint 10.9.9.8 0 78 2 subflow",
        "endpoint 10.9.9.9 0 78 0 subflow",
        "endpoint 10.9.9.9 80 78 2 subflow",
    ):
        file.write_text(f"{good}{forged}\n")
        with Following(net.client, tmp_path) as daemon:
            assert "10.9.9.9" in endpoints(net.client)
            crash(daemon)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment(net: Uplinks, tmp_path: pathlib.Path, seed: int) -> None:
    """Whenever it dies: the next start has what there should be, and no more of what was ours."""
    dice = random.Random(seed)
    foreign(net.client, "10.9.9.9", 78, "subflow")
    theirs = endpoints(net.client)
    present: set[str] = set()
    for _ in range(4):
        daemon = Started(net.client, tmp_path)
        for _ in range(dice.randrange(3, 40)):
            ip = f"10.0.1.{dice.randrange(10, 15)}"
            if ip in present:
                delete_address(net[0], f"{ip}/24")
            else:
                add_address(net[0], f"{ip}/24")
            present ^= {ip}
            if dice.random() < 0.2:
                wait_until(lambda: len(endpoints(net.client)) > 1, "endpoints")
        daemon.process.kill()
        daemon.process.wait()
    with Following(net.client, tmp_path) as last:
        last.until("10.0.1.1", "10.0.2.1", "10.9.9.9", *present)
        assert last.times("Somebody else's") == 0
        net[0].down()
        after = last.until("10.0.2.1", "10.9.9.9")
        assert theirs.items() <= after.items()
