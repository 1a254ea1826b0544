"""A running daemon reads its configuration and plugins again: the difference and nothing else."""

from __future__ import annotations

import pathlib
import re
import signal
import socket
from collections.abc import Iterator

import pytest

from bench import machine
from bench.load import TOKENS, Churn, Held
from bench.watched import in_kernel
from lab import Host, Lab, wait_until
from lab.network import Interface, add_address
from mptcpd.nl.mptcp import Address
from tests.kernel.started import Started, endpoints, limits
from tests.kernel.watch import use_userspace_pm

COUNTING = '''
from mptcpd.plugin import Plugin


class {name}(Plugin):
    def init(self, pm):
        self.opened = self.were_established = self.closed = 0
        self.seen = []
        pm.log.info("{name} {version} begins")

    def exit(self, pm):
        pm.log.info("{name} {version} ends: %d opened, %d established, %d closed; %s",
                    self.opened, self.were_established, self.closed, sorted(self.seen))

    def new_connection(self, connection, pm):
        if {decline}:
            return False
        self.opened += 1

    def connection_established(self, connection, pm):
        self.were_established += 1

    def connection_closed(self, connection, pm):
        self.closed += 1

    def new_local_address(self, interface, address, pm):
        self.seen.append(str(address.ip))
'''


NETWORK_ONLY = """
from mptcpd.plugin import Plugin


class Net(Plugin):
    def new_interface(self, interface, pm): ...
"""


class Reloaded(Started):
    """A daemon whose files a test changes."""

    def __init__(
        self, host: Host, folder: pathlib.Path, core: str = "", rest: str = "", debug: bool = True
    ) -> None:
        self.plugins = folder / "plugins"
        self.plugins.mkdir(exist_ok=True)
        self._folder = folder
        super().__init__(
            host,
            folder,
            *(["--debug"] if debug else []),
            core=f"plugin-dir={self.plugins}\n{core}\n{rest}",
        )

    def plugin(self, name: str, version: int = 1, *, decline: str = "False") -> None:
        text = COUNTING.format(name=name.capitalize(), version=version, decline=decline)
        self.write(name, text)

    def write(self, name: str, text: str) -> None:
        write_plugin(self.plugins, name, text)

    def configure(self, core: str = "", rest: str = "") -> None:
        self.file.write_text(
            f"[core]\nruntime-dir={self._folder}/run\nplugin-dir={self.plugins}\n{core}\n{rest}\n"
        )

    def reload(self) -> str:
        """What it said about the reload."""
        before = len(self.lines)
        self.process.send_signal(signal.SIGHUP)

        def answer() -> str | None:
            found = [line for line in self.lines[before:] if line.startswith("Reload")]
            return found[0] if found else None

        said = wait_until(answer, "it says what became of the reload", 10.0)
        assert said is not None
        return said

    def ends(self, what: str) -> tuple[int, int, int]:
        """The counts that a plugin told at its end."""
        self.until_said(f"{what} ends:")
        counts = r"(\d+) opened, (\d+) established, (\d+) closed"
        found = re.findall(f"{what} ends: {counts}", self.said)
        opened, established, closed = map(int, found[-1])
        return opened, established, closed


def write_plugin(folder: pathlib.Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    fresh = folder / f"{name}.new"
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.rename(folder / f"{name}.py")


def counting(folder: pathlib.Path, name: str, version: int = 1, decline: str = "False") -> None:
    text = COUNTING.format(name=name.capitalize(), version=version, decline=decline)
    write_plugin(folder / "plugins", name, text)


@pytest.fixture
def held(lone_host: Host) -> Iterator[list[Held]]:
    """What is put into the list is closed at the end."""
    found: list[Held] = []
    yield found
    for each in found:
        each.close()


@pytest.fixture
def uplink(lab: Lab) -> Interface:
    client, server = lab.host("client"), lab.host("server")
    return lab.link(client, "eth0", ["10.0.1.1/24"], server, "eth0", "10.0.1.2/24").one


# The configuration


def test_only_the_difference_is_applied(uplink: Interface, tmp_path: pathlib.Path) -> None:
    """Endpoints whose settings have not changed are not touched: their subflows would close."""
    host = uplink.host
    add_address(uplink, "10.0.3.1/24")
    with Started(host, tmp_path, "--debug") as daemon:
        before = daemon.until("10.0.1.1", "10.0.3.1")
        daemon.until_ready()
        said = len(daemon.lines)
        daemon.file.write_text(
            f"[core]\nruntime-dir={tmp_path}/run\nload-plugins=addr_adv\naddresses=!10.0.3.0/24\n"
        )
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.until("10.0.1.1") == {"10.0.1.1": before["10.0.1.1"]}
        daemon.until_said("Reloaded. Plugins kept: addr_adv.")
        commands = [line for line in daemon.lines[said:] if "-> MPTCP_PM_CMD" in line]
        changing = [line for line in commands if "_GET_" not in line]
        assert ["DEL_ADDR" in line or "SET_LIMITS" in line for line in changing] == [True, True]
        daemon.file.write_text(
            f"[core]\nruntime-dir={tmp_path}/run\nload-plugins=addr_adv\naddr-flags=backup,subflow\n"
        )
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until("10.0.1.1", "10.0.3.1")
        wait_until(
            lambda: {end.flags for end in endpoints(host).values()} == {"subflow,backup"},
            "the flags are changed",
        )
        # By SET_FLAGS: the endpoint that stayed was not deleted for it.
        assert sum("DEL_ADDR" in line for line in daemon.lines if "-> " in line) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("addr-flags=bogus", '3: addr-flags: unknown address flag "bogus"'),
        ("path-manager=nobody", 'No plugin is named "nobody"'),
        ("load-plugins=addr_adv,nobody", 'Plugin "nobody": '),
        ("load-plugins=", "There is no usable one"),
        ("log=syslog", "Unable to log to syslog"),
        ("plugin-dir=/nothing/here", "Unable to open plugin directory"),
    ],
)
def test_a_broken_configuration_changes_nothing(
    uplink: Interface, tmp_path: pathlib.Path, text: str, why: str
) -> None:
    if why.startswith("Unable to log") and pathlib.Path("/dev/log").exists():
        pytest.skip("there is a syslog daemon at /dev/log")
    with Started(uplink.host, tmp_path) as daemon:
        before = daemon.until("10.0.1.1")
        known = limits(uplink.host)
        daemon.file.write_text(f"[core]\nruntime-dir={tmp_path}/run\n{text}\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until_said("Reload refused, all goes on as before: ")
        assert why in daemon.said
        assert endpoints(uplink.host) == before
        assert limits(uplink.host) == known
        add_address(uplink, "10.0.3.1/24")
        daemon.until("10.0.1.1", "10.0.3.1")
        assert daemon.stop() == 0


def test_settings_of_the_start_are_named(uplink: Interface, tmp_path: pathlib.Path) -> None:
    with Started(uplink.host, tmp_path) as daemon:
        daemon.until("10.0.1.1")
        daemon.file.write_text(f"[core]\nruntime-dir={tmp_path}/new\nload-plugins=addr_adv\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until_said("runtime-dir: takes effect at the next start")
        daemon.until_said("Reloaded. ")


def test_from_the_kernels_path_manager_to_user_space_and_back(
    uplink: Interface, tmp_path: pathlib.Path
) -> None:
    """As a restart: endpoints that no plugin wants any more are deleted, and others' are not."""
    host = uplink.host
    use_userspace_pm(host)  # skips where there is none
    host.set_sysctl("net.mptcp.pm_type", 0)
    host.mptcp.add_addr(Address(socket.inet_aton("192.0.2.1"), id=77))
    with Started(host, tmp_path, core="") as daemon:
        daemon.until("10.0.1.1", "192.0.2.1")
        daemon.file.write_text(f"[core]\nruntime-dir={tmp_path}/run\npm=userspace\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until("192.0.2.1")
        assert host.sysctl("net.mptcp.pm_type") == "1"
        daemon.until_said("Reloaded. Plugins added: fullmesh, sspi; removed: addr_adv.")
        daemon.file.write_text(f"[core]\nruntime-dir={tmp_path}/run\npm=kernel\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until("10.0.1.1", "192.0.2.1")
        daemon.until_said("Reloaded. Plugins added: addr_adv; removed: fullmesh, sspi.")


# Plugins


def test_a_plugin_is_replaced_when_its_file_changes(
    lone_host: Host, held: list[Held], tmp_path: pathlib.Path
) -> None:
    counting(tmp_path, "one")
    counting(tmp_path, "two")
    held.append(Held(lone_host, 20))
    with Reloaded(lone_host, tmp_path, "path-manager=one") as daemon:
        daemon.until_ready()
        assert "kept: one, two" in daemon.reload()  # the same files: nothing happens
        daemon.plugin("one", 2)
        said = daemon.reload()
        assert "kept: two; replaced: one." in said and "offered anew: 40." in said
        assert daemon.ends("One 1") == (40, 40, 0)
        held.pop().close()
        wait_until(lambda: not in_kernel(lone_host), "all are gone")
        assert daemon.stop() == 0
        assert daemon.ends("One 2")[:2] == (40, 40)
        assert daemon.ends("Two 1") == (0, 0, 0)


def test_connections_of_a_plugin_that_is_gone(
    lone_host: Host, held: list[Held], tmp_path: pathlib.Path
) -> None:
    """They are offered anew; those of others stay where they are."""
    counting(tmp_path, "one", decline="connection.server_side")
    counting(tmp_path, "two")
    held.append(Held(lone_host, 20))
    with Reloaded(lone_host, tmp_path, "path-manager=one") as daemon:
        daemon.until_ready()
        (daemon.plugins / "one.py").unlink()
        daemon.configure("path-manager=two")
        said = daemon.reload()
        assert "kept: two; removed: one." in said and "offered anew: 20." in said
        assert daemon.ends("One 1") == (20, 20, 0)
        # And back: what is owned stays.
        daemon.plugin("one", 2)
        daemon.configure("path-manager=one")
        assert "added: one." in (said := daemon.reload()) and "offered anew: 0." in said
        assert daemon.stop() == 0
        assert daemon.ends("One 2") == (0, 0, 0)
        assert daemon.ends("Two 1") == (40, 40, 0)


def test_connections_that_nobody_wanted(
    lone_host: Host, held: list[Held], tmp_path: pathlib.Path
) -> None:
    counting(tmp_path, "one", decline="True")
    held.append(Held(lone_host, 300))  # more than are offered at a time
    with Reloaded(lone_host, tmp_path) as daemon:
        daemon.until_ready()
        daemon.plugin("two")
        assert "offered anew: 600." in daemon.reload()
        wait_until(daemon.asleep, "all were offered")
        assert daemon.stop() == 0
        assert daemon.ends("Two 1") == (600, 600, 0)


def test_connections_are_adopted_when_the_first_plugin_wants_them(
    lone_host: Host, held: list[Held], tmp_path: pathlib.Path
) -> None:
    """And forgotten when none does any more."""
    write_plugin(tmp_path / "plugins", "net", NETWORK_ONLY)
    held.append(Held(lone_host, 20))
    with Reloaded(lone_host, tmp_path) as daemon:
        daemon.until_ready()
        daemon.plugin("one")
        daemon.reload()
        daemon.until_said("40 appeared")
        (daemon.plugins / "one.py").unlink()
        daemon.reload()
        assert daemon.ends("One 1") == (40, 40, 0)
        wait_until(daemon.asleep, "it sleeps")
        before = machine.woken(daemon.pid)
        held.pop().close()
        wait_until(lambda: not in_kernel(lone_host), "all are gone")
        assert machine.woken(daemon.pid) == before


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("class One(:", "SyntaxError"),
        ("raise RuntimeError('on purpose')", "RuntimeError: on purpose"),
        ("x = 1", "exactly one subclass of Plugin is expected, found: none"),
        (
            COUNTING.format(name="One", version=2, decline="False").replace(
                "        self.seen = []", "        raise OSError('not today')"
            ),
            'plugin "one": OSError: not today',
        ),
    ],
    ids=["syntax", "at import", "no plugin", "in init"],
)
def test_a_broken_plugin_changes_nothing(
    lone_host: Host, held: list[Held], tmp_path: pathlib.Path, text: str, why: str
) -> None:
    """Not even those plugins that are fine: all or nothing."""
    counting(tmp_path, "zero")
    counting(tmp_path, "one")
    held.append(Held(lone_host, 5))
    with Reloaded(lone_host, tmp_path, "path-manager=one") as daemon:
        daemon.until_ready()
        daemon.plugin("zero", 2)
        daemon.write("one", text)
        assert why in daemon.reload()
        assert "One 1 ends" not in daemon.said and "Zero 1 ends" not in daemon.said
        held.pop().close()
        wait_until(lambda: not in_kernel(lone_host), "all are gone")
        daemon.plugin("one", 3)
        assert "replaced: one, zero." in daemon.reload()
        assert daemon.ends("One 1")[:2] == (10, 10)


def test_a_plugin_that_everybody_could_have_written(
    lone_host: Host, tmp_path: pathlib.Path
) -> None:
    counting(tmp_path, "one")
    with Reloaded(lone_host, tmp_path) as daemon:
        daemon.until_ready()
        daemon.plugin("one", 2)
        (daemon.plugins / "one.py").chmod(0o666)
        assert "should be a file that is not world writable" in daemon.reload()


def test_a_plugin_is_replaced_when_its_settings_change(
    uplink: Interface, tmp_path: pathlib.Path
) -> None:
    """And the new one is told of the network as at a start."""
    counting(tmp_path, "one")
    counting(tmp_path, "two")
    with Reloaded(uplink.host, tmp_path, rest="[one]\nkey=1") as daemon:
        daemon.until_ready()
        daemon.configure(rest="\n\n[two]\n[one]\nkey=1")  # the same in other places
        assert "kept: one, two." in daemon.reload()
        daemon.configure(rest="[one]\nkey=2")
        assert "kept: two; replaced: one." in daemon.reload()
        assert daemon.stop() == 0
        ends = [line for line in daemon.lines if "One 1 ends" in line]
        assert len(ends) == 2 and all("'10.0.1.1'" in line for line in ends)


# Nothing is lost


def test_under_load_no_event_and_no_connection_is_lost(
    lone_host: Host, held: list[Held], tmp_path: pathlib.Path
) -> None:
    """Reloads that keep the plugin, and one that replaces it while connections come and go."""
    counting(tmp_path, "one")
    held.append(Held(lone_host, 100))
    with Reloaded(lone_host, tmp_path, debug=False) as daemon:
        daemon.until_said("200 appeared")
        load = Churn(lone_host, seconds=2.0, rate=2500.0)
        for _reload in range(10):
            assert "kept: one." in daemon.reload()
        daemon.plugin("one", 2)
        assert "replaced: one." in daemon.reload()
        for _reload in range(5):
            assert "kept: one." in daemon.reload()
        assert load.running  # or this would be a test of nothing
        ends = TOKENS * load.result().connections
        wait_until(lambda: len(in_kernel(lone_host)) == 200, "the load has ended")
        wait_until(daemon.asleep, "it has read all")
        with lone_host:
            drops = machine.drops()
        assert daemon.stop() == 0
        first, second = daemon.ends("One 1"), daemon.ends("One 2")
        # Those that were open at the reload were told to both, and closed by the second one.
        both = first[0] - first[2]
        assert second[0] - second[2] == 200
        if not drops:  # a user who is not root gets no more than net.core.rmem_max
            assert first[0] + second[0] - both == 200 + ends
            assert first[2] + second[2] == ends
