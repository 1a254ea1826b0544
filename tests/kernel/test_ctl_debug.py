"""mptcpctl debug: what it collects of a host with connections, and what it does not give away."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

from lab import traffic, wait_until
from mptcpd.nl.mptcp import FLAGS, Address
from tests.kernel.conftest import TwoHosts
from tests.kernel.ctl import PATIENCE, mptcpctl, said
from tests.kernel.started import Started


def test_report(two_hosts: TwoHosts, tmp_path: pathlib.Path) -> None:
    client = two_hosts.client
    client.mptcp.add_addr(Address(b"\x0a\0\2\1", flags=FLAGS["backup"] | FLAGS["subflow"]))
    connection = traffic.open_connection(client, two_hosts.server, "10.0.1.2")
    token = f"{connection.token:08x}"
    file = tmp_path / "report"
    assert said(client, "-j", "debug", file) == ""
    assert file.stat().st_mode & 0o777 == 0o600
    parts = json.loads(file.read_text())
    assert [error for part in parts.values() for error in part if "error" in error] == []
    assert {"name": "net.mptcp.enabled", "value": "1"} in parts["settings"]
    assert {"name": "linux", "value": os.uname().release} in parts["versions"]
    assert {"endpoint": "10.0.2.1", "id": 1, "flags": ["subflow", "backup"]}.items() <= next(
        record for record in parts["path manager"] if "endpoint" in record
    ).items()
    assert {r["interface"] for r in parts["interfaces"] if "interface" in r} == {
        "lo", "eth0", "eth1"
    }  # fmt: skip
    default = [r for r in parts["routes"] if (r["to"], r["family"]) == ("default", 4)]
    assert [(r["via"], r["dev"], r["metric"]) for r in default] == [
        ("10.0.1.2", ["eth0"], 100), ("10.0.2.2", ["eth1"], 200)
    ]  # fmt: skip
    assert [r["priority"] for r in parts["rules"] if r["family"] == 4] == [0, 32766, 32767]
    ours = next(record for record in parts["connections"] if record.get("token") == token)
    assert (ours["state"], ours["remote"].split(":")[0]) == ("ESTABLISHED", "10.0.1.2")
    assert len(ours["info"]) >= 2 * 64
    assert next(r["remote"] for r in parts["connections"] if r.get("subflow") == token)
    names = {r["name"]: r["value"] for r in parts["counters"]}
    assert names["MPTcpExt.MPCapableSYNTX"] == 1
    connection.close()


def test_anonymous(two_hosts: TwoHosts) -> None:
    """No address of these networks is in it, and equal ones have equal names."""
    client = two_hosts.client
    client.mptcp.add_addr(Address(b"\x0a\0\1\1"))
    connection = traffic.open_connection(client, two_hosts.server, "10.0.1.2")
    for options in ([], ["-j"]):
        text = said(client, *options, "debug", "--anonymous")
        assert "10.0." not in text and "fd00:" not in text
        assert "127.0.0.1/8" in text
    lines = text.replace("},{", "\n").splitlines()
    token = f"{connection.token:08x}"
    local = next(line for line in lines if f'"token":"{token}"' in line).partition('"local":"')[2]
    endpoint = next(line for line in lines if '"endpoint"' in line)
    assert f'"{local.partition(":")[0]}"' in endpoint
    connection.close()


def test_a_file_that_cannot_be(two_hosts: TwoHosts, tmp_path: pathlib.Path) -> None:
    run = mptcpctl(two_hosts.client, "debug", tmp_path / "no" / "file")
    assert run.returncode == 2
    assert run.stderr == f"Error: {tmp_path}/no/file: No such file or directory\n"


def get_debug(two_hosts: TwoHosts, *words: object) -> str:
    """What mptcp-get-debug says on the client."""
    child = two_hosts.client.popen(
        [sys.executable, "-m", "mptcpd.cli.get_debug", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    run: tuple[str, str] = child.communicate(timeout=PATIENCE)
    assert (child.returncode, run[1]) == (0, "")
    return run[0]


def test_by_its_other_name(two_hosts: TwoHosts, tmp_path: pathlib.Path) -> None:
    """mptcp-get-debug writes the same report, with what a running daemon has to say."""
    socket, report = tmp_path / "run/control.sock", tmp_path / "report"
    with Started(two_hosts.client, tmp_path) as daemon:
        daemon.until("10.0.1.1", "10.0.2.1", "fd00:1::1", "fd00:2::1")
        asked = [f"--socket={socket}", "status"]
        wait_until(lambda: not mptcpctl(two_hosts.client, *asked).returncode, "it answers", 20.0)
        assert get_debug(two_hosts, "--json", f"--socket={socket}", report) == ""
        parts = json.loads(report.read_text())
        assert parts.keys() == json.loads(said(two_hosts.client, "-j", "debug")).keys()
        told = {record["name"]: record["value"] for record in parts["daemon"]}
        assert (told["pid"], told["plugins"]) == (daemon.pid, "addr_adv")
        assert told["mptcpd_commands_total{command=MPTCP_PM_CMD_ADD_ADDR}"] >= 4
        # What has gone wrong may name addresses: a configuration is quoted by whom refuses it.
        daemon.file.write_text(daemon.file.read_text() + "addresses=10.0.1.1.7\n")
        assert mptcpctl(two_hosts.client, f"--socket={socket}", "reload").returncode != 0
        text = get_debug(two_hosts, "-s", socket)
        assert "\nreloads.refused = 1\nreloads.last = " in text and "10.0.1.1.7" in text
        text = get_debug(two_hosts, "-a", "-s", socket)
        assert "\nreloads.refused = 1\n" in text
        assert "10.0." not in text and "fd00:" not in text
    text = get_debug(two_hosts, "-s", socket)
    assert f"\n== daemon\ndaemon = (no daemon at {socket}: " in text
