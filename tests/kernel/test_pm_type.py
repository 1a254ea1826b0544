"""``pm=`` in the configuration, and plugins that need the other path manager: the real program."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import Host
from tests.kernel.joined import Program
from tests.kernel.watch import use_userspace_pm

FILES = {"path_manager": {"kernel": "kernel", "userspace": "userspace"},
         "pm_type": {"kernel": "0", "userspace": "1"}}  # fmt: skip


class Setting:
    """What a host's new connections get, in each of the sysctls that this kernel has."""

    def __init__(self, host: Host) -> None:
        self.host = host
        use_userspace_pm(host)  # or a skip
        self.files = [file for file in FILES if self._read(file) is not None]
        host.set_sysctl(f"net.mptcp.{self.files[0]}", FILES[self.files[0]]["kernel"])
        assert self.name == "kernel"

    def _read(self, file: str) -> str | None:
        try:
            return self.host.sysctl(f"net.mptcp.{file}")
        except FileNotFoundError:
            return None

    @property
    def name(self) -> str:
        """kernel or userspace; both files must say the same."""
        names = {
            name for file in self.files for name, value in FILES[file].items()
            if value == self._read(file)
        }  # fmt: skip
        (found,) = names
        return found

    def command(self, wanted: str) -> str:
        """The command that a user is told."""
        file = self.files[0]
        return f"sysctl -w net.mptcp.{file}={FILES[file][wanted]}"


@pytest.fixture
def setting(lone_host: Host) -> Setting:
    """A host whose connections get the kernel's own path manager."""
    return Setting(lone_host)


def test_switched_over_and_back(setting: Setting, tmp_path: Path) -> None:
    daemon = Program(setting.host, tmp_path, "[core]\npm=userspace\nload-plugins=fullmesh").ready()
    assert setting.name == "userspace"
    assert daemon.end() == 0
    assert "sysctl" not in daemon.said
    assert setting.name == "userspace"  # a restart finds it so
    daemon = Program(setting.host, tmp_path, "[core]\npm=kernel\nload-plugins=addr_adv").ready()
    assert setting.name == "kernel"
    daemon.end()
    assert "sysctl" not in daemon.said


@pytest.mark.parametrize("text", ["[core]\npm=keep\nload-plugins=fullmesh,sspi", "[fullmesh]"])
def test_a_mismatch_is_one_warning_each(text: str, setting: Setting, tmp_path: Path) -> None:
    """Named in the configuration, the plugin is used all the same: connections may be found."""
    daemon = Program(setting.host, tmp_path, text).ready()
    daemon.end()
    warnings = [line for line in daemon.said.splitlines() if line.startswith("Plugin ")]
    assert len(warnings) == text.count("fullmesh") + text.count("sspi")
    assert 'Plugin "fullmesh" needs the userspace path manager, but new' in warnings[0]
    assert f"{setting.command('userspace')}, or pm=userspace in the configuration." in warnings[0]
    assert "fullmesh" in daemon.said.partition("ready: plugins")[2].splitlines()[0]
    assert setting.name == "kernel"


@pytest.mark.parametrize(
    ("wanted", "expected"), [("kernel", "addr_adv"), ("userspace", "fullmesh, sspi")]
)
def test_without_a_list_the_plugins_that_fit_are_used(
    wanted: str, expected: str, setting: Setting, tmp_path: Path
) -> None:
    daemon = Program(setting.host, tmp_path, f"[core]\npm={wanted}").ready()
    daemon.end()
    assert f"ready: plugins {expected}\n" in daemon.said
    other = "kernel" if wanted == "userspace" else "userspace"
    (line,) = [line for line in daemon.said.splitlines() if "Left out" in line]
    assert setting.command(other) in line
    assert all((name in line) != (name in expected) for name in ("addr_adv", "fullmesh", "sspi"))
    assert " needs " not in daemon.said
