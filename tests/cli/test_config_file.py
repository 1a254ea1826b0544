"""Reading the configuration file: which files are read, and what is said about the others."""

from __future__ import annotations

import os
import pathlib
import socket

import pytest

from mptcpd.cli import config_file, options, paths
from mptcpd.core.config import Config, ConfigError, Settings
from mptcpd.core.trust import Untrusted

ME = frozenset({os.geteuid()})


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    file = tmp_path / "mptcpd.conf"
    file.write_text("[core]\nlog=null\n")
    file.chmod(0o644)
    return file


def refused(file: pathlib.Path | str) -> str:
    with pytest.raises((ConfigError, Untrusted)) as caught:
        config_file.read(str(file), ME, required=True)
    return str(caught.value)


def test_reads(file: pathlib.Path) -> None:
    assert config_file.read(str(file), ME, required=True) == Settings(log="null", file=str(file))


def test_follows_links(file: pathlib.Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    assert config_file.read(str(link), ME, required=True).log == "null"


def test_missing(tmp_path: pathlib.Path) -> None:
    missing = tmp_path / "missing"
    assert config_file.read(str(missing), ME, required=False) == Settings()
    assert refused(missing) == f"{missing}: No such file or directory"


@pytest.mark.parametrize("required", [False, True])
def test_world_writable(file: pathlib.Path, required: bool) -> None:
    file.chmod(0o646)
    with pytest.raises(Untrusted) as caught:
        config_file.read(str(file), ME, required=required)
    assert str(caught.value) == f'"{file}" should be a file that is not world writable.'


def test_other_kinds(tmp_path: pathlib.Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    words = "should be a file that is not world writable."
    assert refused(fifo) == f'"{fifo}" {words}'  # and does not wait for a writer
    assert refused(tmp_path) == f'"{tmp_path}" {words}'
    assert refused("/dev/null") == f'"/dev/null" {words}'
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert refused(tmp_path / "s") == f"{tmp_path}/s: No such device or address"


def test_owner(file: pathlib.Path) -> None:
    with pytest.raises(Untrusted, match=f"not to user {os.geteuid()}\\.$"):
        config_file.read(str(file), {os.geteuid() + 1}, required=True)


def test_what_was_opened_is_checked(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody changes the name to another file just after it was opened."""
    real = os.open

    def swap(*args: object) -> int:
        fd = real(*args)  # type: ignore[arg-type]
        other = file.with_name("other")
        other.write_text("[core]\nlog=journal\n")
        other.chmod(0o666)
        other.replace(file)
        return fd

    monkeypatch.setattr(os, "open", swap)
    assert config_file.read(str(file), ME, required=True).log == "null"


def test_unreadable(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", fail)
    assert refused(file) == f"{file}: Permission denied"


def test_nul_in_the_name() -> None:
    assert "embedded null" in refused("/tmp/a\0b")


def test_undecodable(file: pathlib.Path) -> None:
    file.write_bytes(b"[core]\n# \xc3\xa9\nlog=\xff\n")
    assert refused(file) == f"{file}:3: not UTF-8: byte 0xff"


def test_no_descriptor_is_left(file: pathlib.Path) -> None:
    before = os.listdir("/proc/self/fd")
    config_file.read(str(file), ME, required=True)
    file.chmod(0o666)
    refused(file)
    assert os.listdir("/proc/self/fd") == before


def test_load_joins_command_line_file_and_defaults(
    file: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[core]\nlog=null\npath-manager=x\n")
    given = options.parse([f"--config={file}", "--log=journal"])
    expected = Config("journal", paths.plugin_dir(), path_manager="x", file=str(file))
    assert config_file.load(given) == expected
    monkeypatch.setattr(paths, "config_file", lambda: str(file))
    assert config_file.load(options.parse(["--log=journal"])) == expected


def test_load_without_a_default_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "config_file", lambda: str(tmp_path / "missing"))
    assert config_file.load(options.parse([])) == Config("stderr", paths.plugin_dir())
    with pytest.raises(ConfigError):
        config_file.load(options.parse([f"--config={tmp_path}/missing"]))
