"""The hunt itself: it ends in time, and shows what it found and how to see it again."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shlex
import subprocess
import sys

import pytest

HUNT = pathlib.Path(__file__).resolve().parent / "fuzz" / "hunt.py"
CLAIM = """
from hypothesis import given, strategies as st

@given(st.binary())
def test_claim(data: bytes) -> None:
    assert len(data) < {limit}
"""


def hunt(folder: pathlib.Path, limit: int) -> subprocess.CompletedProcess[str]:
    (folder / "test_claim.py").write_text(CLAIM.format(limit=limit))
    return subprocess.run(
        [sys.executable, HUNT, "0.1", folder / "test_claim.py"],
        cwd=HUNT.parents[2],
        env={**os.environ, "FUZZ_KEEP": str(folder / "kept")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_finds_nothing_in_time(tmp_path: pathlib.Path) -> None:
    run = hunt(tmp_path, 1 << 40)
    assert (run.returncode, run.stderr) == (0, "")
    assert "1 rounds, 50 examples a test, nothing found" in run.stdout


def test_shows_what_it_found(tmp_path: pathlib.Path) -> None:
    run = hunt(tmp_path, 3)
    assert run.returncode == 1
    assert "data=b'\\x00\\x00\\x00'" in run.stdout
    (kept,) = (tmp_path / "kept").iterdir()
    assert f"kept as {kept}" in run.stdout
    assert kept.read_text().endswith("test_claim(\n    data=b'\\x00\\x00\\x00',\n)\n")
    again = shlex.split(run.stdout.splitlines()[-1])
    assert any(word.startswith("--hypothesis-seed=") for word in again)
    repeated = subprocess.run(
        again,
        cwd=HUNT.parents[2],
        env={**os.environ, "FUZZ_KEEP": str(tmp_path / "again")},
        capture_output=True,
        text=True,
    )
    assert repeated.returncode == 1
    assert "data=b'\\x00\\x00\\x00'" in repeated.stdout


BROKEN = """
import runpy, sys
from mptcpd.nl import rtnl

plain = rtnl.parse

def parse(kind, payload):
    if len(payload) % 4 == 3:
        raise KeyError("a finding")
    return plain(kind, payload)

rtnl.parse = parse
sys.argv[1:] = {arguments!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("module", ["tests.fuzz.blast", "tests.fuzz.guided"])
def test_parsers_alone(module: str, tmp_path: pathlib.Path) -> None:
    """A parser that raises another exception is found, shown and kept."""
    if module.endswith("guided") and not importlib.util.find_spec("atheris"):
        pytest.skip("atheris is not installed (pip install atheris)")
    arguments = ["20", "1"] + ([str(tmp_path)] if module.endswith("guided") else [])
    run = subprocess.run(
        [sys.executable, "-c", BROKEN.format(module=module, arguments=arguments)],
        cwd=HUNT.parents[2],
        env={**os.environ, "FUZZ_KEEP": str(tmp_path / "kept")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1, run.stderr
    assert "KeyError: 'a finding'" in run.stderr
    (kept,) = (tmp_path / "kept").iterdir()
    assert str(kept) in run.stdout
    assert kept.read_text().startswith("# tests/fuzz/test_fuzz_nl.py\ntest_")
