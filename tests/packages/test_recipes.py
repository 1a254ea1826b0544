"""Alpine's and OpenWrt's recipes, as far as they go without those distributions' tools.

What the recipes do themselves is run; what the tools would do around it is a stand-in.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
RULES = """
INCLUDE_DIR:=$(TOPDIR)
INSTALL_DIR:=install -d -m 755
INSTALL_BIN:=install -m 755
"""
PACKAGE = """
PKG_BUILD_DIR:=$(SOURCES)
define BuildPackage
all:
	$$(call Build/Compile)
	$$(call Package/$(1)/install,$(RESULT))
endef
"""
LIBRARY = {"usr/lib/mptcpd/mptcpd/nl/_attrs_abi.py", "usr/lib/mptcpd/plugins/addr_adv.py"}
PROGRAMS = {"usr/sbin/mptcpd", "usr/bin/mptcpctl", "usr/bin/mptcpize", "usr/bin/mptcp-get-debug"}
EVERYWHERE = LIBRARY | PROGRAMS | {"etc/mptcpd/mptcpd.conf", "etc/init.d/mptcpd"}


@pytest.fixture(autouse=True)
def _python() -> None:
    """The recipes name the distribution's interpreter."""
    python = "/usr/bin/python3"
    if subprocess.run(["sh", TOP / "tools/need.sh", "run", python], capture_output=True).returncode:
        pytest.skip(f"no cffi for {python} (Debian: python3-cffi)")


def run(folder: pathlib.Path, *command: str | pathlib.Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout


def files(folder: pathlib.Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def first_line(file: pathlib.Path) -> str:
    return file.read_text().splitlines()[0]


def test_openwrt(tmp_path: pathlib.Path) -> None:
    (tmp_path / "rules.mk").write_text(RULES)
    (tmp_path / "package.mk").write_text(PACKAGE)
    python = tmp_path / "feeds/packages/lang/python/python3-host.mk"
    python.parent.mkdir(parents=True)
    python.write_text("HOST_PYTHON3_BIN:=/usr/bin/python3\n")
    sources, result = tmp_path / "sources", tmp_path / "result"
    for part in ("mptcpd", "plugins", "packaging", "man", "etc", "completion", "tools"):
        shutil.copytree(
            TOP / part, sources / part, ignore=shutil.ignore_patterns("__pycache__", "*_abi.py")
        )
    shutil.copy(TOP / "Makefile", sources)
    if subprocess.run(["/usr/bin/python3", "-Ic", "import cffi, pycparser"]).returncode:
        pytest.skip("no cffi for /usr/bin/python3 (Debian: python3-cffi)")
    variables = [f"TOPDIR={tmp_path}", f"SOURCES={sources}", f"RESULT={result}"]
    run(sources / "packaging/openwrt", "make", *variables)
    found = files(result)
    assert found >= EVERYWHERE
    assert not any(name.startswith("usr/share") or name.endswith(".pyc") for name in found)
    assert first_line(result / "etc/init.d/mptcpd") == "#!/bin/sh /etc/rc.common"
    assert first_line(result / "usr/sbin/mptcpd") == "#!/usr/bin/python3 -I"


def test_alpine(tmp_path: pathlib.Path) -> None:
    recipe = TOP / "packaging/alpine/APKBUILD"
    run(TOP, "sh", "-euc", f". {recipe}; pkgdir={tmp_path}; package")
    found = files(tmp_path)
    assert found >= EVERYWHERE | {"etc/conf.d/mptcpd", "usr/share/man/man8/mptcpd.8"}
    assert not any(name.endswith((".pyc", ".service")) for name in found)
    assert first_line(tmp_path / "etc/init.d/mptcpd") == "#!/sbin/openrc-run"
    assert first_line(tmp_path / "usr/sbin/mptcpd").startswith("#!/usr/bin/python3")
