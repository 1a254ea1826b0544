"""The Debian package, built once for all tests that want it."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

from mptcpd import __version__

TOP = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ("dpkg-buildpackage", "dh", "dh_python3", "dpkg", "unshare", "ip")


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    if not os.environ.get("MPTCPD_TEST_PACKAGES"):
        pytest.skip('packages are built by "make check-packages"')
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}")
    if subprocess.run(["/usr/bin/python3", "-Ic", "import cffi, pycparser"]).returncode:
        pytest.skip("no cffi for /usr/bin/python3 (Debian: python3-cffi)")
    out = tmp_path_factory.mktemp("debian")
    before = {file: file.stat().st_mtime_ns for file in TOP.glob("packaging/**/*")}
    run = subprocess.run(
        ["sh", TOP / "packaging/debian/build.sh", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    assert {file: file.stat().st_mtime_ns for file in TOP.glob("packaging/**/*")} == before
    return out / f"mptcpd_{__version__}_all.deb"
