"""The control socket of the whole daemon: questions, commands, streams, hostile clients."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import stat
import subprocess
import sys
import time
from typing import Any

import pytest

from bench import machine
from bench.hostile import Hostile
from bench.load import Churn, Held
from lab import Host, Lab, traffic, wait_until
from lab.network import Interface, add_address
from mptcpd.cli.control_client import ControlClient, NoDaemon, Refused
from mptcpd.cli.control_room import SUBSCRIBERS
from tests.kernel.conftest import TwoHosts
from tests.kernel.started import ROOT, Started, endpoints
from tests.kernel.watch import use_userspace_pm


@pytest.fixture
def uplink(lab: Lab) -> Interface:
    client, server = lab.host("client"), lab.host("server")
    return lab.link(client, "eth0", ["10.0.1.1/24"], server, "eth0", "10.0.1.2/24").one


def file_of(daemon: Started) -> pathlib.Path:
    return daemon.file.parent / "run" / "control.sock"


def connect(daemon: Started) -> ControlClient:
    """A client, once the daemon answers."""
    client = wait_until(lambda: _connected(daemon), "the daemon answers", 10.0)
    assert client is not None
    return client


def _connected(daemon: Started) -> ControlClient | None:
    """None while it is not there yet; once connected, it answers as soon as it has started."""
    assert daemon.process.poll() is None, daemon.said
    with contextlib.suppress(NoDaemon):
        client = ControlClient(str(file_of(daemon)), patience=10.0)
        client.ask("status")
        return client
    return None


def _there(daemon: Started) -> str:
    connect(daemon).close()
    return str(file_of(daemon))


def ask(daemon: Started, command: str, **arguments: object) -> Any:
    with connect(daemon) as client:
        return client.ask(command, **arguments)


# Questions


def test_what_runs(uplink: Interface, tmp_path: pathlib.Path) -> None:
    with Started(uplink.host, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        said = ask(daemon, "status")
        assert said["pid"] == daemon.pid
        assert said["protocol"] == 1
        assert said["plugins"] == ["addr_adv"]
        assert said["config"] == str(daemon.file)
        assert said["path_manager"] == {"setting": "keep", "new_connections": "kernel"}
        assert (said["follows"], said["connections"]) == (False, 0)
        assert (said["interfaces"], said["addresses"], said["endpoints"]) == (1, 1, 1)
        (plugin,) = ask(daemon, "plugins")["plugins"]
        assert plugin["file"] == str(ROOT / "plugins" / "addr_adv.py")
        assert "new_local_address" in plugin["hooks"]


def test_interfaces_and_why(uplink: Interface, tmp_path: pathlib.Path) -> None:
    add_address(uplink, "10.9.0.1/24")
    core = "load-plugins=addr_adv\naddresses=!10.9.0.0/16"
    with Started(uplink.host, tmp_path, core=core) as daemon:
        daemon.until("10.0.1.1")
        found = {each["name"]: each for each in ask(daemon, "interfaces")}
        assert (found["lo"]["used"], found["lo"]["why"]) == (False, "loopback")
        eth0 = found["eth0"]
        assert (eth0["used"], eth0["flags"], eth0["ifindex"]) == (True, ["subflow"], uplink.ifindex)
        why = {each["address"]: (each["used"], each["why"]) for each in eth0["addresses"]}
        assert why["10.0.1.1/24"] == (True, "usable")
        assert why["10.9.0.1/24"] == (False, "addresses=!10.9.0.0/16")
        (endpoint,) = ask(daemon, "endpoints")["endpoints"]
        assert endpoint == {
            "address": "10.0.1.1", "id": 1, "flags": ["subflow"], "ifindex": uplink.ifindex,
            "ours": True,
        }  # fmt: skip


def test_counters(uplink: Interface, tmp_path: pathlib.Path) -> None:
    with Started(uplink.host, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        with connect(daemon) as client:
            first = client.ask("counters")
            sent = {each["command"]: each["value"] for each in first["mptcpd_commands_total"]}
            assert sent["MPTCP_PM_CMD_ADD_ADDR"] == 1
            assert first["mptcpd_addresses"] == 1
            text = client.ask("counters", format="openmetrics")["openmetrics"]
            assert 'mptcpd_commands_total{command="MPTCP_PM_CMD_ADD_ADDR"} 1\n' in text
            assert text.endswith("# EOF\n")
            second = client.ask("counters")
            asked = {
                (each["command"], each["outcome"]): each["value"]
                for each in second["mptcpd_control_requests_total"]
            }
            assert asked["counters", "ok"] == 2


def test_events_are_counted_by_kind(lone_host: Host, tmp_path: pathlib.Path) -> None:
    use_userspace_pm(lone_host)
    with Started(lone_host, tmp_path, core="load-plugins=fullmesh") as daemon:
        ask(daemon, "status")
        done = Churn(lone_host, seconds=1.0, rate=500.0, processes=1).result()
        ends = 2 * done.connections

        def counts() -> dict[str, int]:
            found = ask(daemon, "counters")["mptcpd_events_total"]
            return {each["event"]: each["value"] for each in found}

        wait_until(lambda: counts()["closed"] >= ends, "all are counted")
        found = counts()
        assert (found["created"], found["established"], found["closed"]) == (ends, ends, ends)


def test_reload_and_what_is_wrong(uplink: Interface, tmp_path: pathlib.Path) -> None:
    with Started(uplink.host, tmp_path) as daemon, connect(daemon) as client:
        daemon.until("10.0.1.1")
        assert client.ask("reload")["kept"] == ["addr_adv"]
        daemon.file.write_text("[core]\nbogus=1\n")

        def refused() -> Refused | None:
            try:
                client.ask("reload")
            except Refused as error:
                return None if error.kind == "too-many" else error
            raise AssertionError("it was not refused")

        error = wait_until(refused, "the last reload is long enough ago")
        assert error is not None and error.kind == "refused"
        assert 'unknown key "bogus"' in str(error)
        status = client.ask("status")["reloads"]
        assert (status["done"], status["refused"]) == (1, 1)
        assert "bogus" in status["last"]


def test_log_level(uplink: Interface, tmp_path: pathlib.Path) -> None:
    """With debug, a running daemon shows every message, as if started with --debug."""
    with Started(uplink.host, tmp_path) as daemon, connect(daemon) as client:
        daemon.until("10.0.1.1")
        assert client.ask("log") == {"level": "info", "destination": "stderr"}
        client.ask("log", level="debug")
        add_address(uplink, "10.0.3.1/24")
        daemon.until_said("<- RTM_NEWADDR")
        daemon.until_said("-> MPTCP_PM_CMD_ADD_ADDR")
        client.ask("log", level="warning")
        lines = len(daemon.lines)
        add_address(uplink, "10.0.4.1/24")
        daemon.until("10.0.1.1", "10.0.3.1", "10.0.4.1")
        assert len(daemon.lines) == lines


def test_connections_and_commands(two_hosts: TwoHosts, tmp_path: pathlib.Path) -> None:
    """Everything that can be done to one connection, and what is refused."""
    client, server = two_hosts.client, two_hosts.server
    for host in (client, server):
        use_userspace_pm(host)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "follow.py").write_text(
        "from mptcpd.plugin import Plugin\n\n\nclass Follow(Plugin):\n"
        "    def new_connection(self, connection, pm): ...\n"
        "    def new_subflow(self, connection, subflow, pm): ...\n"
    )
    other = tmp_path / "server"
    other.mkdir()
    core = f"plugin-dir={tmp_path}/plugins"
    with (
        Started(client, tmp_path, core=core) as daemon,
        Started(server, other, core=core) as peer,
        connect(daemon) as here,
        connect(peer) as there,
    ):
        connection = traffic.open_connection(client, server, "10.0.1.2")
        token = f"{connection.token:08x}"

        def shown() -> dict[str, Any]:
            found: dict[str, Any] = here.ask("connections", token=token)
            return found

        wait_until(lambda: [each["token"] for each in here.ask("connections")] == [token], "there")
        # Each end hears of it by itself, and that it is established after that it was created.
        (remote,) = wait_until(lambda: there.ask("connections"), "there, too")
        assert (shown()["role"], remote["role"]) == ("client", "server")
        assert shown()["plugin"] == "follow"
        wait_until(lambda: shown()["established"], "established")
        address = there.ask("announce", token=remote["token"], address="10.0.2.2")["address"]
        assert address.startswith("10.0.2.2:")
        wait_until(lambda: shown()["remote_addresses"], "the announcement arrives")
        (ident,) = shown()["remote_addresses"]
        here.ask(
            "create-subflow", token=token, local="10.0.2.1", remote=address,
            remote_id=int(ident), backup=True,
        )  # fmt: skip
        wait_until(lambda: len(shown()["subflows"]) == 2, "a second subflow")
        flow = next(each for each in shown()["subflows"] if each["local"].startswith("10.0.2.1"))
        assert flow["backup"]
        ends = {"local": flow["local"], "remote": flow["remote"]}
        here.ask("set-backup", token=token, **ends, backup=False)
        assert not any(each["backup"] for each in shown()["subflows"])
        here.ask("destroy-subflow", token=token, **ends)
        wait_until(lambda: len(shown()["subflows"]) == 1, "it is gone")
        there.ask("remove", token=remote["token"], local_id=int(ident))
        wait_until(lambda: not shown()["remote_addresses"], "it is withdrawn")
        for command, arguments, kind in (
            ("destroy-subflow", ends, "not-found"),
            ("remove", {"local_id": 99}, "refused"),
            ("create-subflow", {"local": "10.0.1.1", "remote": "[::1]:80"}, "refused"),
            ("create-subflow", {"local": "10.7.7.7", "remote": "10.0.2.2:80"}, "refused"),
        ):
            with pytest.raises(Refused) as error:
                here.ask(command, token=token, **arguments)
            assert error.value.kind == kind, (command, str(error.value))
        assert error.value.more["errno"] > 0
        with pytest.raises(Refused, match="there is no connection 00000001"):
            here.ask("connections", token="1")
        connection.close()
        assert daemon.stop() == 0 and peer.stop() == 0


def test_explain(two_hosts: TwoHosts, tmp_path: pathlib.Path) -> None:
    host = two_hosts.client
    with Started(host, tmp_path, core="") as daemon, connect(daemon) as client:
        wait_until(lambda: len(endpoints(host)) >= 2, "endpoints")
        ends = {"local": "10.0.1.1", "remote": "192.0.2.1:443"}
        said = client.ask("explain", role="client", **ends)
        assert said["path_manager"] == "kernel" and said["interface"] == "eth0"
        assert "subflows from 10.0.2.1" in said["text"]
        before = daemon.said
        daemon.file.write_text(f"[core]\nruntime-dir={tmp_path}/run\npm=userspace\n")
        client.ask("reload")
        said = client.ask("explain", role="client", **ends)
        assert said["plugin"] == "fullmesh"
        assert "10.0.2.1 over eth1 to 192.0.2.1:443" in said["text"]
        said = client.ask("explain", role="server", **ends)
        assert [each["plugin"] for each in said["plugins"]] == ["fullmesh", "sspi"]
        assert not said["plugins"][0]["takes"]
        assert said["plugin"] == "sspi" and "announces 10.0.2.1" in said["text"]
        said = client.ask("explain", role="client", local="127.0.0.1", remote="127.0.0.1:80")
        assert said["plugin"] is None and said["text"].startswith("No plugin wants it")
        with pytest.raises(Refused, match="not of one address family"):
            client.ask("explain", role="client", local="10.0.1.1", remote="[::1]:80")
        assert "Traceback" not in daemon.said[len(before) :]


# Streams


def test_a_stream_of_what_happens(uplink: Interface, tmp_path: pathlib.Path) -> None:
    """Also of connections that no plugin follows; and when nobody listens, they wake nobody."""
    host = uplink.host
    with Started(host, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        with Subscriber(_there(daemon)) as subscriber:
            connection = traffic.open_connection(host, host, "127.0.0.1")
            add_address(uplink, "10.0.3.1/24")
            daemon.until("10.0.1.1", "10.0.3.1")
            connection.close()
            subscriber.until("closed")
            subscriber.until("new_local_address")
            found = subscriber.found
        created = [each for each in found if each["event"] == "created"]
        assert {each["server_side"] for each in created if "server_side" in each} == {True}
        assert len({each["token"] for each in created}) == 2
        assert all(each["time"] > 1e9 for each in found)
        told = next(each for each in found if each["event"] == "new_local_address")
        assert (told["interface"], told["address"]) == ("eth0", "10.0.3.1")
        command = next(each for each in found if each["event"] == "MPTCP_PM_CMD_ADD_ADDR")
        assert command["stream"] == "commands" and "error" not in command
        logged = next(each for each in found if each["stream"] == "log")
        assert logged["event"] == "info" and "Endpoint 10.0.3.1" in logged["text"]
        wait_until(
            lambda: ask(daemon, "status")["control"]["clients"] == 1, "the subscriber is gone"
        )
        wait_until(daemon.asleep, "it sleeps")
        before = machine.woken(daemon.pid)
        traffic.open_connection(host, host, "127.0.0.1").close()
        assert machine.woken(daemon.pid) == before


def test_who_is_told_more_than_it_can_take_is_told_so(
    lone_host: Host, tmp_path: pathlib.Path
) -> None:
    """And the table is right all the same."""
    use_userspace_pm(lone_host)
    with Started(lone_host, tmp_path, core="load-plugins=fullmesh") as daemon:
        ask(daemon, "status")
        with Subscriber(_there(daemon), kinds=["connections"]) as subscriber:
            done = Churn(lone_host, seconds=2.0, rate=2500.0).result()
            expected = 6 * done.connections + 2 * 2  # and two listeners, created and closed

            def all_told() -> bool:
                subscriber.read()
                lost = sum(int(each.get("count", 0)) for each in subscriber.found)
                told = sum(each["stream"] == "connections" for each in subscriber.found)
                return bool(lost and told > 500) and lost + told == expected

            wait_until(all_told, "what was told and what was lost add up", 10.0)
            assert ask(daemon, "connections") == []


class Subscriber:
    """Reads a stream while it waits for something in it."""

    def __init__(self, file: str, kinds: list[str] | None = None) -> None:
        self.found: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(10)
        self._socket.connect(file)
        request = {"command": "subscribe", **({} if kinds is None else {"kinds": kinds})}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        self._rest = self._socket.recv(1 << 16)
        reply, _feed, self._rest = self._rest.partition(b"\n")
        assert json.loads(reply)["ok"]
        self._socket.setblocking(False)

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := self._socket.recv(1 << 16):
                self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        self.found += [json.loads(line) for line in lines]

    def until(self, event: str) -> None:
        def there() -> bool:
            self.read()
            return event in {str(each.get("event")) for each in self.found}

        wait_until(there, f"the stream tells of {event}", 10.0)


# Where it is, and whose


def test_the_socket_is_ours_alone(lone_host: Host, tmp_path: pathlib.Path) -> None:
    with Started(lone_host, tmp_path) as daemon:
        ask(daemon, "status")
        status = file_of(daemon).stat()
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert daemon.stop() == 0
        assert not file_of(daemon).exists()
    with Started(lone_host, tmp_path, core="load-plugins=addr_adv\ncontrol-group=0") as daemon:
        ask(daemon, "status")
        status = file_of(daemon).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, 0)
    core = "load-plugins=addr_adv\ncontrol-group=nobody-is-called-so"
    with Started(lone_host, tmp_path, core=core) as daemon:
        assert daemon.status() == 1
        assert 'there is no group "nobody-is-called-so"' in daemon.said


def test_a_socket_that_was_left_behind(lone_host: Host, tmp_path: pathlib.Path) -> None:
    with Started(lone_host, tmp_path) as daemon:
        ask(daemon, "status")
        daemon.process.kill()
        daemon.process.wait()
        assert file_of(daemon).exists()
    with Started(lone_host, tmp_path) as daemon:
        wait_until(lambda: "control" not in daemon.said and _answers(daemon), "it answers")


def _answers(daemon: Started) -> bool:
    try:
        return bool(ask(daemon, "status")["pid"] == daemon.pid)
    except NoDaemon:
        return False


def test_a_socket_that_another_daemon_answers(lab: Lab, tmp_path: pathlib.Path) -> None:
    """One for each network namespace, but one runtime directory: the second goes without."""
    other = tmp_path / "other"
    other.mkdir()
    with Started(lab.host("one"), tmp_path) as first:
        ask(first, "status")
        runtime = f"--runtime-dir={tmp_path}/run"
        with Started(lab.host("two"), other, runtime, "--debug") as second:
            second.until_said("another daemon answers there")
            second.until_ready()
            assert ask(first, "status")["pid"] == first.pid
            assert second.stop() == 0
        assert ask(first, "status")["pid"] == first.pid


def test_something_else_is_in_its_place(lone_host: Host, tmp_path: pathlib.Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "control.sock").write_text("mine")
    with Started(lone_host, tmp_path, "--debug") as daemon:
        daemon.until_said("something that is no socket is there")
        daemon.until_ready()
        assert daemon.stop() == 0
    assert (tmp_path / "run" / "control.sock").read_text() == "mine"


def test_socket_activation(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """A socket from the service manager, with a client that came before the daemon."""
    file = tmp_path / "activated.sock"
    config = tmp_path / "mptcpd.conf"
    config.write_text(f"[core]\nruntime-dir={tmp_path}/run\nload-plugins=addr_adv\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(file))
        listener.listen()
        start = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = "
            "str(os.getpid()); os.environ['LISTEN_FDS'] = '1'; "
            "os.execv(sys.executable, [sys.executable, '-m', 'mptcpd.cli.daemon', *sys.argv[2:]])"
        )
        with ControlClient(str(file), patience=20.0) as early:
            process = lone_host.popen(
                [sys.executable, "-c", start, str(listener.fileno()), f"--config={config}"],
                pass_fds=[listener.fileno()], cwd=ROOT,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            said = early.ask("status")
            assert said["pid"] == process.pid and said["control"]["socket"] == "systemd"
        assert not (tmp_path / "run" / "control.sock").exists()
        process.terminate()
        assert process.wait(10) == 0
        assert file.exists()  # it is not ours to remove


def test_metrics_in_a_file(uplink: Interface, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "mptcpd.prom"
    core = f"load-plugins=addr_adv\nmetrics-file={file}\nmetrics-interval=1s"
    with Started(uplink.host, tmp_path, core=core) as daemon:
        wait_until(lambda: file.exists(), "it is written")
        assert file.stat().st_mode & 0o777 == 0o644
        first = file.read_text()
        assert "# TYPE mptcpd_events_total counter\n" in first and "# EOF" not in first
        daemon.until("10.0.1.1")
        wait_until(lambda: "mptcpd_endpoints 1\n" in file.read_text(), "it is written again")
        daemon.file.write_text(f"[core]\nruntime-dir={tmp_path}/run\nload-plugins=addr_adv\n")
        ask(daemon, "reload")
        assert not file.exists()
        assert daemon.stop() == 0
    with Started(uplink.host, tmp_path, core=core.replace("mptcpd.prom", "no/where")) as daemon:
        daemon.until_said("metrics-file=")
        daemon.until("10.0.1.1")
        assert daemon.stop() == 0


def test_subscribers_leave_room_for_questions(lone_host: Host, tmp_path: pathlib.Path) -> None:
    with Started(lone_host, tmp_path) as daemon, contextlib.ExitStack() as stack:
        connect(daemon).close()
        for _client in range(SUBSCRIBERS):
            stack.enter_context(connect(daemon)).ask("subscribe")
        last = stack.enter_context(connect(daemon))
        with pytest.raises(Refused, match="12 clients have subscribed already") as refused:
            last.ask("subscribe")
        assert refused.value.kind == "too-many"
        assert last.ask("status")["control"]["clients"] == SUBSCRIBERS + 1


# Rest, and clients that mean ill


def test_it_sleeps_with_a_silent_subscriber(lone_host: Host, tmp_path: pathlib.Path) -> None:
    with Started(lone_host, tmp_path) as daemon, connect(daemon) as client:
        client.ask("subscribe")
        wait_until(daemon.asleep, "it sleeps")
        time.sleep(0.2)  # not for luck: whatever it still had to do is to be done
        before = machine.woken(daemon.pid)
        time.sleep(1.0)
        assert machine.woken(daemon.pid) == before


def test_hostile_clients(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """They get nothing and cost little, and who behaves is served. Numbers: bench.hostile."""
    use_userspace_pm(lone_host)
    held = Held(lone_host, 300)
    with Started(lone_host, tmp_path, core="load-plugins=fullmesh") as daemon:
        with connect(daemon) as client:
            client.ask("connections")
            client.ask("counters", format="openmetrics")
        wait_until(daemon.asleep, "it sleeps")
        before, descriptors = daemon.resident(), _descriptors(daemon)
        file = str(file_of(daemon))
        with Hostile(file, connections=500, big=64 << 20) as hostile:
            served = tried = 0
            deadline = time.monotonic() + 3.0
            while time.monotonic() < deadline:
                tried += 1
                with contextlib.suppress(NoDaemon, Refused), ControlClient(file, 10.0) as good:
                    good.ask("status")
                    served += 1
            assert hostile.running
        assert daemon.process.poll() is None
        # All of them, unless this process had to wait long between its connect and its request.
        assert served > tried / 2
        assert "Traceback" not in daemon.said
        with connect(daemon) as client:
            counters = client.ask("counters")
        cut_off = {each["why"]: each["value"] for each in counters["mptcpd_control_cut_off_total"]}
        assert cut_off["too-long"] > 0 and sum(cut_off.values()) > 100
        peak = machine.memory(daemon.pid).peak << 10
        assert peak - before < 8 << 20
        wait_until(lambda: _descriptors(daemon) <= descriptors, "their descriptors are closed")
        assert daemon.stop() == 0
    held.close()


def _descriptors(daemon: Started) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def test_what_a_terminal_would_send(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """No client of ours: bytes by hand."""
    with Started(lone_host, tmp_path) as daemon:
        ask(daemon, "status")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(10)
            sock.connect(str(file_of(daemon)))
            sock.sendall(b'hello\r\n\xff\xff\n{"command":"status"}\r\n')
            sock.shutdown(socket.SHUT_WR)
            data = b""
            while part := sock.recv(65536):
                data += part
        said = [json.loads(line) for line in data.splitlines()]
        assert [each["ok"] for each in said] == [False, False, True]
