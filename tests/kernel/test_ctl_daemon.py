"""mptcpctl and a running daemon: what it tells, what it can be told, and when there is none."""

from __future__ import annotations

import json
import pathlib
import re
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lab import Host, traffic, wait_until
from mptcpd.cli import runtime
from mptcpd.cli.ctl import daemon as ctl_daemon
from mptcpd.core import config
from tests.kernel.conftest import TwoHosts
from tests.kernel.ctl import mptcpctl, running, said
from tests.kernel.started import Started
from tests.kernel.watch import use_userspace_pm


class Asked(Started):
    """A daemon, and mptcpctl asking it."""

    @property
    def option(self) -> str:
        return f"--socket={self.file.parent / 'run' / runtime.CONTROL}"

    def until_there(self) -> None:
        wait_until(lambda: self.run("status").returncode == 0, "it is there")

    def say(self, *words: object) -> str:
        return said(self.host, self.option, *words)

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        return mptcpctl(self.host, self.option, *words)

    def json(self, *words: object) -> Any:
        return json.loads(self.say("-j", *words))


@pytest.fixture
def asked(two_hosts: TwoHosts, tmp_path: pathlib.Path) -> Iterator[Asked]:
    use_userspace_pm(two_hosts.client)
    with Asked(two_hosts.client, tmp_path, core="load-plugins=fullmesh,sspi") as daemon:
        daemon.until_there()
        yield daemon


def test_what_it_tells(asked: Asked, two_hosts: TwoHosts) -> None:
    text = asked.say("status")
    assert f"process {asked.pid}, for " in text
    assert "plugins: fullmesh, sspi\n" in text
    assert asked.json("status")["pid"] == asked.pid
    text = asked.say("interfaces")
    assert re.search(r"^lo: not used: loopback$", text, re.M)
    assert re.search(r"^eth0: used: up and running \(flags subflow\)$", text, re.M)
    assert re.search(r"^    10\.0\.1\.1/24: used: usable$", text, re.M)
    assert "fullmesh: a subflow from every local address" in asked.say("plugins")
    assert asked.say("endpoints").startswith("limits: ")
    assert "mptcpd_events_total event created 0\n" in asked.say("counters")
    assert asked.say("counters", "--openmetrics").endswith("# EOF\n")
    assert asked.say("log") == "info to stderr\n"
    assert asked.say("connections") == "" and asked.json("connections") == []
    connection = traffic.open_connection(two_hosts.client, two_hosts.server, "10.0.1.2")
    token = f"{connection.token:08x}"
    wait_until(lambda: "10.0.2.1" in asked.say("connections"), "a second subflow")
    assert re.search(
        r"^mptcpd_subflows_started_total kind first [1-9]\d*$", asked.say("counters"), re.M
    )
    (first, *flows) = asked.say("connections", "token", token).splitlines()
    assert first.startswith(f"{token}  client  10.0.1.1:") and "plugin fullmesh" in first
    assert len(flows) >= 2 and all(flow.startswith("    10.0.") for flow in flows)
    assert asked.say("-o", "connections").count("\n") == 1
    (one,) = asked.json("connections")
    assert one["token"] == token
    connection.close()


def test_what_it_can_be_told(asked: Asked) -> None:
    assert "Plugins kept: fullmesh, sspi" in asked.say("reload")
    assert asked.say("log", "deb") == "debug to stderr\n"
    asked.until_said("Log level set to debug")
    asked.file.write_text("[core]\nbogus=1\n")

    def refused() -> subprocess.CompletedProcess[str] | None:
        run = asked.run("reload")
        return None if "try again" in run.stderr else run

    run = wait_until(refused, "the last reload is long enough ago")
    assert run is not None and run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("Error: ") and 'unknown key "bogus"' in run.stderr
    assert "reloads: 1, refused: 1; the last: refused: " in asked.say("status")


def test_explain(asked: Asked) -> None:
    text = asked.say("explain", "client", "10.0.1.1", "192.0.2.1:443")
    assert "The local address is on eth0." in text
    assert "fullmesh takes it: subflows to be created: 10.0.2.1 over eth1" in text
    text = asked.say("explain", "server", "10.0.1.1", "192.0.2.1:443")
    assert "    fullmesh: no: the peer opened it" in text and "sspi takes it" in text
    for words, status in (
        (("client", "10.0.1.1"), 255),
        (("10.0.1.1", "10.0.1.2"), 255),
        (("client", "10.0.1.1", "host"), 2),
        (("client", "10.0.1.1", "::1"), 2),
    ):
        run = asked.run("explain", *words)
        assert (run.returncode, run.stdout) == (status, "") and run.stderr.startswith("Error: ")


def test_events(asked: Asked, two_hosts: TwoHosts) -> None:
    with running(asked.host, asked.option, "-j", "events", "connections,log") as child:
        wait_until(lambda: asked.json("status")["control"]["clients"] == 2, "it has subscribed")
        connection = traffic.open_connection(two_hosts.client, two_hosts.server, "10.0.1.2")
        assert child.stdout is not None
        line = json.loads(child.stdout.readline())
        assert (line["event"], line["token"]) == ("created", f"{connection.token:08x}")
        connection.close()
    with running(asked.host, asked.option, "events", "log") as child:
        wait_until(lambda: asked.json("status")["control"]["clients"] == 2, "it has subscribed")
        asked.say("log", "info")
        assert child.stdout is not None
        line = child.stdout.readline()
        assert re.match(r"\d\d:\d\d:\d\d\.\d{3} log: warning text Log level set to info", line)


def test_events_end_with_the_daemon(asked: Asked) -> None:
    with running(asked.host, asked.option, "events") as child:
        wait_until(lambda: asked.json("status")["control"]["clients"] == 2, "it has subscribed")
        asked.process.kill()
        assert child.wait(10) == 3
        assert child.stderr is not None and "hung up" in child.stderr.read()
        child.returncode = 0  # what ``running`` wants of those that it ends


def test_no_daemon(lone_host: Host, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "control.sock"
    for words in (["status"], ["-j", "status"], ["events"], ["reload"], ["connections"]):
        run = mptcpctl(lone_host, f"--socket={file}", *words)
        assert (run.returncode, run.stdout) == (3, "")
        assert run.stderr == f"Error: no daemon at {file}: No such file or directory.\n"
    run = mptcpctl(lone_host, f"--socket={'x' * 200}", "status")
    assert run.returncode == 3 and "AF_UNIX path too long" in run.stderr


def test_one_that_does_not_answer(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """A second is enough."""
    file = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(file))
        listener.listen()
        run = mptcpctl(lone_host, f"--socket={file}", "status")
    assert run.returncode == 3 and "does not answer within 1 s" in run.stderr


@pytest.mark.parametrize("answer", [b"hello\n", b"[]\n", b"\xff\n", b""])
def test_something_else_answers(answer: bytes, lone_host: Host, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(file))
        listener.listen()
        child = lone_host.call(_answers_once, listener, answer)
        run = mptcpctl(lone_host, f"--socket={file}", "status")
        child.result()
    assert run.returncode == 3 and "Traceback" not in run.stderr
    assert "is no mptcpd" in run.stderr or "hung up" in run.stderr


def _answers_once(listener: socket.socket, answer: bytes) -> None:
    client, _address = listener.accept()
    with client:
        client.recv(1000)
        client.sendall(answer)


def test_where_it_is_asked() -> None:
    assert f"{config.DEFAULT_RUNTIME_DIR}/{runtime.CONTROL}" == ctl_daemon.SOCKET
