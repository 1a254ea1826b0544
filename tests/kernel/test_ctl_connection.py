"""mptcpctl connection: what the kernel really has, with rights and without, filtered, counted."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import signal
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, NamedTuple

import pytest

from bench.load import Held
from lab import Host, traffic, wait_until
from mptcpd.cli.ctl import main
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import Address
from tests.kernel.conftest import TwoHosts
from tests.kernel.ctl import PROGRAM, mptcpctl, said

SIZE = 300_000  # bytes sent by the client


class Scene(NamedTuple):
    """A connection from 10.0.1.1 with a second subflow from 10.0.2.1, a backup."""

    hosts: TwoHosts
    connection: traffic.Connection
    token: str

    @property
    def port(self) -> int:
        port: int = self.connection.listener.getsockname()[1]
        return port


@pytest.fixture
def scene(two_hosts: TwoHosts) -> Iterator[Scene]:
    for host in (two_hosts.client, two_hosts.server):
        host.mptcp.set_limits(subflows=2)
    flags = u.MPTCP_PM_ADDR_FLAG_SUBFLOW | u.MPTCP_PM_ADDR_FLAG_BACKUP
    two_hosts.client.mptcp.add_addr(Address(ip_address("10.0.2.1").packed, id=9, flags=flags))
    connection = traffic.open_connection(two_hosts.client, two_hosts.server, "10.0.1.2")
    wait_until(lambda: traffic.info(connection.client).subflows == 1, "a second subflow")
    connection.client.sendall(bytes(SIZE))
    left = SIZE
    while left:
        left -= len(connection.server.recv(left))
    yield Scene(two_hosts, connection, f"{connection.token:08x}")
    connection.close()


def listed(host: Host, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(said(host, "-j", "connection", "show", *words))
    return found


def test_both_ends(scene: Scene) -> None:
    ours, theirs = scene.hosts.client, scene.hosts.server
    (client,), (server,) = listed(ours), listed(theirs)
    assert int(client["token"], 16) == scene.connection.token
    assert (client["role"], server["role"]) == ("client", "server")
    assert client["state"] == server["state"] == "established"
    assert client["pm"] == server["pm"] == "kernel"
    assert (client["remote_address"], client["remote_port"]) == ("10.0.1.2", scene.port)
    assert (server["local_address"], server["local_port"]) == ("10.0.1.2", scene.port)
    assert client["fallback"] is client["checksum"] is False
    assert client["inode"] == os.fstat(scene.connection.client.fileno()).st_ino
    assert client["uid"] == os.getuid()
    assert client["info"]["subflows"] == 1
    assert client["info"]["subflows_max"] == 2
    if "bytes_sent" in client["info"]:  # Linux 6.5
        assert client["info"]["bytes_sent"] == SIZE + 1  # and the byte that opened it
        assert server["info"]["bytes_received"] == SIZE + 1

    first, second = client["subflows"]
    assert (first["dev"], second["dev"]) == ("eth0", "eth1")
    assert (first["local_address"], second["local_address"]) == ("10.0.1.1", "10.0.2.1")
    assert (first["local_id"], second["local_id"]) == (0, 9)
    assert (first["joined"], second["joined"]) == (False, True)
    assert (first["backup"], second["backup"]) == (False, True)
    assert not second["backup_by_peer"]
    at_server = {one["remote_address"]: one for one in server["subflows"]}
    assert at_server["10.0.2.1"]["backup_by_peer"]
    assert at_server["10.0.2.1"]["remote_id"] == 9
    assert first["share"] + second["share"] == 100
    assert first["info"]["bytes_acked"] >= SIZE
    assert 0 < first["info"]["rtt"] < 5_000_000


def test_text(scene: Scene) -> None:
    text = said(scene.hosts.client, "connection")
    head, *rest = text.splitlines()
    port = scene.port
    assert head.startswith(f"{scene.token}  client  10.0.1.1:")
    assert f"-> 10.0.1.2:{port}  established  pm kernel" in head
    assert all(line.startswith("    ") for line in rest)
    rows = [line.split() for line in rest if line.split()[0].startswith("eth")]
    assert [row[0] for row in rows] == ["eth0", "eth1"]
    assert rows[1][1].startswith("10.0.2.1:")
    assert rows[1][-1] == "backup"
    # Each value stands below that of the row before.
    assert len({line.index("rtt") for line in rest if "rtt" in line}) == 1
    one = said(scene.hosts.client, "-o", "connection")
    assert one.count("\n") == 1
    again = one.rstrip("\n").split("\\")
    assert [line.split()[:4] for line in again[3:]] == [row[:4] for row in rows]


def test_filter(scene: Scene) -> None:
    for words, meant in (
        ("token {token}", True),
        ("token 1", False),
        ("dev eth1", True),
        ("dev lo", False),
        ("local 10.0.2.0/24", True),
        ("local 10.0.2.0/24 dev eth0", False),
        ("remote 10.0.1.2:{port}", True),
        ("remote *:1", False),
        ("state close-wait", False),
        ("pm kernel", True),
        ("pm userspace", False),
    ):
        told = words.format(token=scene.token, port=scene.port).split()
        counted = said(scene.hosts.client, "connection", "count", *told)
        assert counted == f"connections {meant:d} subflows {2 * meant} fallback 0\n", words
    assert said(scene.hosts.client, "-j", "connection", "dev", "eth1").startswith("[{")


def test_states_and_families(scene: Scene) -> None:
    scene.connection.client.shutdown(socket.SHUT_WR)
    wait_until(
        lambda: listed(scene.hosts.server, "state", "close-wait"), "the server has heard of it"
    )
    assert len(listed(scene.hosts.client, "state", "fin-wait-2")) == 1
    assert json.loads(said(scene.hosts.client, "-j", "-6", "connection")) == []
    assert len(json.loads(said(scene.hosts.client, "-j", "-4", "connection"))) == 1


def test_userspace_path_manager(two_hosts: TwoHosts) -> None:
    """With limits of 0 the kernel has to be asked; so both kinds are told apart."""
    client, server = two_hosts.client, two_hosts.server
    client.mptcp.set_limits(subflows=0)
    first = traffic.open_connection(client, server, "10.0.1.2")
    client.set_sysctl("net.mptcp.pm_type", 1)
    second = traffic.open_connection(client, server, "10.0.1.2")
    found = {int(one["token"], 16): one.get("pm") for one in listed(client)}
    expected = {first.token: "kernel", second.token: "userspace"}
    for connection in (first, second):
        connection.close()
    if None in found.values():
        pytest.skip("this kernel does not tell (before Linux 6.9)")
    assert found == expected


def test_ipv6_and_mapped(two_hosts: TwoHosts) -> None:
    """Who listens on all addresses sees IPv4 peers as IPv4."""
    client, server = two_hosts.client, two_hosts.server
    if not client.has_ipv6:
        pytest.skip("this kernel has no IPv6")
    mapped = traffic.listen(server, "::")
    port = mapped.getsockname()[1]
    ends = [traffic.connect(client, ip, port) for ip in ("10.0.1.2", "fd00:1::2")]
    ends += [mapped.accept()[0] for _end in ends[:]]
    found = {one["remote_address"]: one for one in listed(server)}
    assert set(found) == {"10.0.1.1", "fd00:1::1"}
    assert found["10.0.1.1"]["local_address"] == "10.0.1.2"
    assert [one["dev"] for one in found["fd00:1::1"]["subflows"]] == ["eth0"]
    assert f"[fd00:1::2]:{port}" in said(server, "-6", "connection")
    assert "10.0.1.2" not in said(server, "-6", "connection")
    for end in (*ends, mapped):
        end.close()


def test_fallback(two_hosts: TwoHosts) -> None:
    """The peer speaks plain TCP only."""
    with two_hosts.server:
        plain = socket.create_server(("10.0.1.2", 0))
    client = traffic.connect(two_hosts.client, "10.0.1.2", plain.getsockname()[1])
    (one,) = listed(two_hosts.client)
    assert one["fallback"] is True
    counted = said(two_hosts.client, "connection", "count")
    assert counted == "connections 1 subflows 1 fallback 1\n"
    client.close()
    plain.close()


def _unprivileged(words: list[str]) -> tuple[int, str]:
    """Run in a child: give every capability up, then do as the program does."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # linux/capability.h: version 3
    if libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")
    read, write = os.pipe()
    os.dup2(write, 1)
    os.close(write)
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        status = main.main(words)
    os.close(1)
    with open(read) as stream:
        return status, stream.read()


def test_unprivileged(scene: Scene) -> None:
    """The same connections and subflows; what the kernel keeps back is left out."""
    client = scene.hosts.client
    status, text = client.call(_unprivileged, ["-j", "connection"]).result()
    assert status == 0
    (one,), (privileged,) = json.loads(text), listed(client)
    for this, that in zip(one["subflows"], privileged["subflows"], strict=True):
        assert this["local_address"] == that["local_address"]
        assert {**that, **this}.keys() == that.keys()
    assert one["token"] == privileged["token"]
    status, text = client.call(_unprivileged, ["connection", "count"]).result()
    assert (status, text) == (0, "connections 1 subflows 2 fallback 0\n")


def test_nobody_reads(scene: Scene) -> None:
    read, write = os.pipe()
    os.close(read)
    child = scene.hosts.client.popen([*PROGRAM, "connection"], stdout=write, stderr=write)
    os.close(write)
    assert child.wait(20) == -signal.SIGPIPE


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["connection", "bogus"], 'argument "bogus" is wrong'),
        (["connection", "show", "dev", "nope"], 'argument "nope" is wrong: device does not exist'),
        (["connection", "local", "10.0.0.0/33"], 'argument "10.0.0.0/33" is wrong'),
        (["connection", "local", "10.0.0.1:70000"], 'argument "10.0.0.1:70000" is wrong'),
        (["connection", "token", "xyz"], 'argument "xyz" is wrong'),
        (["connection", "state", "asleep"], 'argument "asleep" is wrong'),
        (["connection", "pm", "other"], 'argument "other" is wrong'),
        (["connection", "token"], "Command line is not complete"),
    ],
)
def test_complaints(lone_host: Host, words: list[str], complaint: str) -> None:
    run = mptcpctl(lone_host, *words)
    assert run.returncode == 255
    assert complaint in run.stderr
    assert run.stdout == ""
    assert "Traceback" not in run.stderr


def test_none(lone_host: Host) -> None:
    assert said(lone_host, "connection") == ""
    assert said(lone_host, "-j", "connection") == "[]\n"
    assert said(lone_host, "-j", "-p", "connection") == "[ ]\n"
    assert said(lone_host, "-j", "connection", "count") == (
        '[{"connections":0,"subflows":0,"fallback":0}]\n'
    )


def test_many(lone_host: Host) -> None:
    """More than one datagram of the kernel's, more than one write of ours."""
    held = Held(lone_host, 400)
    try:
        found = listed(lone_host)
        pretty = json.loads(said(lone_host, "-j", "-p", "connection"))
        text = said(lone_host, "connection")
    finally:
        held.close()
    assert len(found) == len({one["token"] for one in found}) == 800
    assert all(len(one["subflows"]) == 1 for one in found)
    assert {one["token"] for one in pretty} == {one["token"] for one in found}
    assert sum(not line.startswith(" ") for line in text.splitlines()) == 800
    assert {one["subflows"][0]["dev"] for one in found} == {"lo"}
