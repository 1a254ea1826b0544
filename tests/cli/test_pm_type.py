"""Which path manager new connections get: read, written, and compared with what plugins need."""

from __future__ import annotations

import logging
import pathlib

import pytest

from mptcpd.cli.pm_type import PathManagerError, PathManagerType, fitting
from mptcpd.core.config import Config, Section
from mptcpd.plugin import Plugin


def sysctls(directory: pathlib.Path, **files: str) -> PathManagerType:
    """A directory of sysctls with these values."""
    for name, value in files.items():
        (directory / name).write_text(f"{value}\n")
    return PathManagerType(str(directory))


@pytest.mark.parametrize(
    ("files", "name", "file"),
    [
        ({"path_manager": "kernel", "pm_type": "0"}, "kernel", "path_manager"),
        ({"path_manager": "userspace", "pm_type": "1"}, "userspace", "path_manager"),
        ({"path_manager": "bpf_mine", "pm_type": "0"}, "bpf_mine", "path_manager"),
        ({"pm_type": "0"}, "kernel", "pm_type"),
        ({"pm_type": "1"}, "userspace", "pm_type"),
        ({"pm_type": "2"}, "2", "pm_type"),
        ({}, "kernel", None),
    ],
)
def test_what_there_is(
    files: dict[str, str], name: str, file: str | None, tmp_path: pathlib.Path
) -> None:
    found = sysctls(tmp_path, **files)
    assert (found.name, found.file) == (name, file)


@pytest.mark.parametrize(
    ("files", "wanted", "written"),
    [
        ({"path_manager": "kernel", "pm_type": "0"}, "userspace", {"path_manager": "userspace"}),
        ({"path_manager": "bpf_mine"}, "kernel", {"path_manager": "kernel"}),
        ({"pm_type": "0"}, "userspace", {"pm_type": "1"}),
        ({"pm_type": "1"}, "kernel", {"pm_type": "0"}),
    ],
)
def test_switched_over(
    files: dict[str, str], wanted: str, written: dict[str, str], tmp_path: pathlib.Path
) -> None:
    found = sysctls(tmp_path, **files)
    found.set(wanted)
    assert found.name == wanted
    said = {file.name: file.read_text().strip() for file in tmp_path.iterdir()}
    assert said == {**files, **written}


def test_what_is_so_already_is_not_written(tmp_path: pathlib.Path) -> None:
    """Without the right to, that would be an error about nothing."""
    found = sysctls(tmp_path, path_manager="userspace")
    (tmp_path / "path_manager").unlink()
    found.set("userspace")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "command"),
    [("path_manager", "net.mptcp.path_manager=userspace"), ("pm_type", "net.mptcp.pm_type=1")],
)
def test_a_setting_that_cannot_be_changed(
    file: str, command: str, tmp_path: pathlib.Path
) -> None:
    # /proc/version can be read by all and written by nobody, root neither
    (tmp_path / file).symlink_to("/proc/version")
    with pytest.raises(PathManagerError) as caught:
        PathManagerType(str(tmp_path)).set("userspace")
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"pm=userspace: net.mptcp.{file} cannot be changed: ")
    assert second == f"Try 'sysctl -w {command}' as root."


def test_a_kernel_without_a_choice(tmp_path: pathlib.Path) -> None:
    found = sysctls(tmp_path)
    found.set("kernel")
    with pytest.raises(PathManagerError, match="only its own path manager.*Linux 5.19"):
        found.set("userspace")


def plugin(name: str, needs: str | None) -> Plugin:
    made = Plugin()
    made.name, made.needs = name, needs
    return made


ALL = (
    plugin("addr_adv", "kernel"), plugin("fullmesh", "userspace"), plugin("any", None),
    plugin("sspi", "userspace"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("plugins", "have", "config", "used", "warned"),
    [
        # nobody asked for those that do not fit
        (ALL, "kernel", {}, "addr_adv any", ""),
        (ALL, "userspace", {}, "fullmesh any sspi", ""),
        # somebody did: by list, as the first to be asked, by a group of its own
        (ALL, "kernel", {"load_plugins": ("x",)}, "addr_adv fullmesh any sspi", "fullmesh sspi"),
        (ALL, "kernel", {"path_manager": "sspi"}, "addr_adv any sspi", "sspi"),
        (ALL, "kernel", {"sections": {"fullmesh": Section("fullmesh")}}, "addr_adv fullmesh any",
         "fullmesh"),
        (ALL[:3], "userspace", {"load_plugins": ("x",)}, "addr_adv fullmesh any", "addr_adv"),
        # or nothing else would be left
        (ALL[1:2], "kernel", {}, "fullmesh", "fullmesh"),
        (ALL[:2], "bpf_mine", {}, "addr_adv fullmesh", "addr_adv fullmesh"),
        ((), "kernel", {}, "", ""),
    ],
)  # fmt: skip
def test_plugins_that_fit(
    plugins: tuple[Plugin, ...], have: str, config: dict[str, object], used: str, warned: str,
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    found = sysctls(tmp_path, path_manager=have)
    settings: Config = Config("null", "")._replace(**config)  # type: ignore[arg-type]
    assert " ".join(each.name for each in fitting(plugins, settings, found)) == used
    lines = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert sorted(line.getMessage().split('"')[1] for line in lines) == warned.split()
    for line in lines:
        assert "sysctl -w net.mptcp.path_manager=" in line.getMessage()
        assert "or pm=" in line.getMessage()
    left_out = {each.name for each in plugins} - set(used.split())
    said = [line.getMessage() for line in caplog.records if line.levelno == logging.INFO]
    assert len(said) == bool(left_out)
    assert all(name in said[0] for name in left_out)


def test_the_words_of_a_mismatch(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    fitting(ALL[1:2], Config("null", ""), sysctls(tmp_path, pm_type="0"))
    assert caplog.messages == [
        'Plugin "fullmesh" needs the userspace path manager, but new connections get the '
        "kernel's own path manager: sysctl -w net.mptcp.pm_type=1, or pm=userspace in the "
        "configuration."
    ]


def test_a_need_that_is_none(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """A slip of the plugin's author; it may work nevertheless."""
    odd = plugin("odd", "user space")
    assert fitting([odd], Config("null", ""), sysctls(tmp_path, path_manager="kernel")) == [odd]
    assert caplog.messages == [
        "Plugin \"odd\": needs = 'user space'; allowed: kernel, userspace"
    ]
