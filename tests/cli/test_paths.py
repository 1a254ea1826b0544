"""Where things are found in the layouts that installing makes."""

from __future__ import annotations

import os
import pathlib

import pytest

from mptcpd.cli import paths

TOP = pathlib.Path(__file__).parents[2]


def test_config_file() -> None:
    assert paths.config_file() == f"{paths.SYSCONFDIR}/mptcpd/mptcpd.conf"


def test_make_install_finds_the_line_to_rewrite() -> None:
    lines = (TOP / "mptcpd" / "cli" / "paths.py").read_text().splitlines()
    assert [line for line in lines if line.startswith('SYSCONFDIR = "/etc"')]


@pytest.mark.parametrize(
    ("package", "plugins"),
    [
        ("clone/mptcpd", "clone/plugins"),
        ("usr/local/lib/mptcpd/mptcpd", "usr/local/lib/mptcpd/plugins"),
        ("venv/lib/python3.11/site-packages/mptcpd", "venv/lib/mptcpd/plugins"),
        ("usr/local/lib/python3.11/dist-packages/mptcpd", "usr/local/lib/mptcpd/plugins"),
    ],
)
def test_plugin_dir(tmp_path: pathlib.Path, package: str, plugins: str) -> None:
    prefix = str(tmp_path / "prefix")
    code = tmp_path / package
    code.mkdir(parents=True)
    assert paths.plugin_dir(str(code), prefix) == f"{prefix}/lib/mptcpd/plugins"
    # Somebody else's package of that name, beside ours in site-packages.
    foreign = code.parent / "plugins"
    foreign.mkdir()
    (foreign / "__init__.py").touch()
    assert paths.plugin_dir(str(code), prefix) == f"{prefix}/lib/mptcpd/plugins"
    (tmp_path / plugins).mkdir(parents=True, exist_ok=True)
    (tmp_path / plugins / "addr_adv.py").touch()
    assert paths.plugin_dir(str(code), prefix) == str(tmp_path / plugins)


def test_owners() -> None:
    assert paths.owners() == {0, os.geteuid(), (TOP / "mptcpd" / "__init__.py").stat().st_uid}
