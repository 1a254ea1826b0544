"""mptcpctl's commands for one connection: on real connections with a userspace path manager."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from lab import traffic
from mptcpd.nl import uapi as u
from mptcpd.nl.rtnl_change import set_link
from tests.kernel.conftest import TwoHosts
from tests.kernel.ctl import PATIENCE, mptcpctl, running, said
from tests.kernel.watch import EventWatch, use_userspace_pm


class Scene(NamedTuple):
    """A connection from 10.0.1.1 to 10.0.1.2, what both kernels tell, and its tokens as printed."""

    hosts: TwoHosts
    connection: traffic.Connection
    at_client: EventWatch
    at_server: EventWatch
    ours: str
    theirs: str

    @property
    def port(self) -> int:
        port: int = self.connection.listener.getsockname()[1]
        return port


@pytest.fixture
def scene(two_hosts: TwoHosts) -> Iterator[Scene]:
    for host in (two_hosts.client, two_hosts.server):
        use_userspace_pm(host)
    watches = EventWatch(two_hosts.client), EventWatch(two_hosts.server)
    # On all addresses: joins come in at the others.
    connection = traffic.open_connection(two_hosts.client, two_hosts.server, "10.0.1.2")
    tokens = (f"{traffic.info(end).token:08x}" for end in connection[:2])
    yield Scene(two_hosts, connection, *watches, *tokens)
    connection.close()
    for watch in watches:
        watch.close()


def create(scene: Scene, *more: object) -> tuple[object, ...]:
    return ("subflow", "create", "token", scene.ours, "local", "10.0.2.1", *more,
            "remote", "10.0.1.2", "port", scene.port)  # fmt: skip


def test_announce_and_remove(scene: Scene) -> None:
    server = scene.hosts.server
    said(server, "announce", "token", scene.theirs, "10.0.2.2", "id", 7, "port", 4321)
    event = scene.at_client.find(u.MPTCP_EVENT_ANNOUNCED)
    assert (event.remote_id, event.remote_port) == (7, 4321)
    assert said(server, "address", "show", "token", f"0x{scene.theirs}") == (
        "10.0.2.2 port 4321 id 7 signal \n"
    )
    # Eight digits are read as the hexadecimal ones that are printed, whatever they look like.
    number = str(int(scene.theirs, 16))
    token = scene.theirs if len(number) == 8 else number
    record = {"address": "10.0.2.2", "port": 4321, "id": 7, "signal": True}
    assert json.loads(said(server, "-j", "address", "show", "token", token, "id", 7)) == [record]
    said(server, "remove", "token", scene.theirs, "id", 7)
    assert scene.at_client.find(u.MPTCP_EVENT_REMOVED).remote_id == 7
    run = mptcpctl(server, "remove", "token", scene.theirs, "id", 7)
    assert (run.returncode, run.stderr) == (2, "Error: address with id 7 not found.\n")


def test_create_wait_priority_destroy(scene: Scene) -> None:
    client = scene.hosts.client
    line = said(client, *create(scene), "--wait=10")
    at = re.fullmatch(
        rf"\[  SF_ESTABLISHED\] token={scene.ours} remid=0 locid=1 saddr4=10.0.2.1 "
        rf"daddr4=10.0.1.2 sport=(\d+) dport={scene.port} backup=0\n", line,
    )  # fmt: skip
    assert at, line
    assert scene.at_server.find(u.MPTCP_EVENT_SUB_ESTABLISHED).remote_port == int(at[1])
    priority = ("subflow", "priority", "token", scene.ours)
    for word, backup in (("backup", 1), ("nobackup", 0)):
        said(client, *priority, "local", "10.0.2.1", word)
        assert scene.at_server.find(u.MPTCP_EVENT_SUB_PRIORITY).backup == backup
    both = ("local", "10.0.2.1", "port", at[1], "remote", "10.0.1.2", "port", scene.port)
    said(client, *priority, *both, "backup")
    assert scene.at_server.find(u.MPTCP_EVENT_SUB_PRIORITY).remote_port == int(at[1])
    run = mptcpctl(client, *priority, "backup")
    assert run.returncode == 255 and run.stderr.count("remote 10.0.1.2") == 2, run
    said(client, "subflow", "destroy", "token", scene.ours, *both)
    assert scene.at_client.find(u.MPTCP_EVENT_SUB_CLOSED).local_port == int(at[1])
    run = mptcpctl(client, "subflow", "destroy", "token", scene.ours, *both)
    assert (run.returncode, run.stderr) == (2, "Error: subflow not found.\n")


def test_create_that_fails(scene: Scene) -> None:
    client = scene.hosts.client
    words = list(create(scene, "id", 9))
    words[-1] = 1
    run = mptcpctl(client, *words, "--wait")
    assert (run.returncode, run.stdout, run.stderr) == (
        2, "", "Error: the subflow was not established: Connection refused.\n"
    )  # fmt: skip
    # Nobody answers: the link is up here, and the address is nobody's.
    words[words.index("remote") + 1] = "10.0.2.77"
    client.change(set_link(scene.hosts.second.one.ifindex, up=True))
    run = mptcpctl(client, *words, "--wait=0.2")
    assert run.returncode == 2 and run.stderr.startswith("Error: no answer within 0.2 s"), run
    run = mptcpctl(client, *create(scene)[:5], "10.9.9.9", *create(scene)[6:])
    assert (run.returncode, run.stderr) == (2, "Error: connect error: -99.\n")


def test_create_takes_the_id_that_an_address_has(scene: Scene) -> None:
    client = scene.hosts.client
    assert "locid=9 " in said(client, *create(scene, "id", 9, "backup"), "--wait")
    assert "locid=9 " in said(client, *create(scene), "--wait")
    event = scene.at_server.find(u.MPTCP_EVENT_SUB_ESTABLISHED)
    assert (event.remote_id, event.backup) == (9, 1)


def test_refusals(scene: Scene) -> None:
    client = scene.hosts.client
    for words, status, text in (
        (("remove", "token", "1", "id", 1), 2, "Error: invalid token.\n"),
        (("remove", "token", "nonsense", "id", 1), 255, 'Error: argument "nonsense" is wrong: '),
        (("remove", "id", 1), 255, 'Error: argument "token" is required\n'),
        (("announce", "token", scene.ours, "1.1.1.1", "id", 0), 255, 'Error: argument "id 0" is'),
        (("subflow", "create", "token", 1, "local", "1.1.1.1", "remote", "1.1.1.1"), 255,
         'Error: argument "remote port" is required\n'),
        (("subflow", "priority", "token", scene.ours), 255,
         'Error: argument "backup | nobackup" is required\n'),
        (("subflow", "priority", "token", scene.ours, "local", "10.9.9.9", "backup"), 2,
         "Error: no subflow of this connection fits"),
    ):  # fmt: skip
        run = mptcpctl(client, *words)
        assert run.returncode == status and run.stderr.startswith(text), run
        assert run.stdout == ""


def test_listen(two_hosts: TwoHosts) -> None:
    """The port takes connections until the end, and turns away who does not join."""
    with running(two_hosts.server, "-j", "listen", "10.0.1.2") as child:
        assert child.stdout is not None
        where = json.loads(child.stdout.readline())
        assert where["address"] == "10.0.1.2"
        with (
            pytest.raises(ConnectionResetError),  # it may come while it still connects
            traffic.connect(two_hosts.client, "10.0.1.2", where["port"]) as stranger,
        ):
            stranger.settimeout(PATIENCE)
            assert stranger.recv(1) != b""
    with pytest.raises(ConnectionRefusedError):
        traffic.connect(two_hosts.client, "10.0.1.2", where["port"])
    run = mptcpctl(two_hosts.server, "listen", "10.9.9.9", "port", 5)
    assert (run.returncode, run.stderr) == (
        2, "Error: cannot listen on 10.9.9.9 port 5: Cannot assign requested address.\n"
    )  # fmt: skip


def test_announce_listen(scene: Scene) -> None:
    """A peer joins at the port that was announced and is listened to."""
    words = ("announce", "token", scene.theirs, "10.0.2.2", "id", 4, "listen")
    with running(scene.hosts.server, *words) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        event = scene.at_client.find(u.MPTCP_EVENT_ANNOUNCED)
        assert (event.remote_id, event.remote_port) == (4, port)
        assert "SF_ESTABLISHED" in said(
            scene.hosts.client, "subflow", "create", "token", scene.ours, "local", "10.0.2.1",
            "remote", "10.0.2.2", "port", port, "id", 4, "--wait",
        )  # fmt: skip
