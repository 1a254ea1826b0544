"""The hunt itself: it ends in time, and shows what it found and how to see it again."""

from __future__ import annotations

import pathlib
import shlex
import subprocess
import sys

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
    again = shlex.split(run.stdout.splitlines()[-1])
    assert any(word.startswith("--hypothesis-seed=") for word in again)
    repeated = subprocess.run(again, cwd=HUNT.parents[2], capture_output=True, text=True)
    assert repeated.returncode == 1
    assert "data=b'\\x00\\x00\\x00'" in repeated.stdout
