"""Claim: the gate profile gives a fuzz test the same examples in every run, whatever else is run.

Fuzz tests run alone, and again with every test module loaded and others run before them, with
another hash seed: what they were given must be the same. The last test shows that this would see
the difference.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
# A plugin that notes, for each test, a digest of all that it was called with.
NOTES = '''
import hashlib, pytest

DIGESTS = {}

def noting(name, inner):
    def test(*args, **kwargs):
        digest = DIGESTS.setdefault(name, hashlib.sha256())
        digest.update(repr((args, kwargs)).encode(errors="surrogatepass"))
        return inner(*args, **kwargs)
    return test

def pytest_collection_modifyitems(items):
    for item in items:
        handle = getattr(getattr(item, "obj", None), "hypothesis", None)
        if handle is not None:
            handle.inner_test = noting(item.originalname, handle.inner_test)

def pytest_terminal_summary(terminalreporter):
    for name, digest in DIGESTS.items():
        terminalreporter.line(f"digest {name} {digest.hexdigest()}")
'''
# Bytes and numbers; text; objects with attributes; what has learnt shapes.
TESTS = {
    "test_notifications": "tests/fuzz/test_fuzz_nl.py",
    "test_single_values": "tests/fuzz/test_fuzz_config.py",
    "test_any_words": "tests/fuzz/test_fuzz_options.py",
    "test_compiled_is_plain": "tests/fuzz/test_fuzz_nl_ways.py",
}


def digests(folder: Path, *arguments: str, **environment: str) -> dict[str, str]:
    (folder / "gate_notes.py").write_text(NOTES)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "gate_notes",
         *arguments],
        cwd=TOP,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    lines = [line.split() for line in run.stdout.splitlines() if line.startswith("digest ")]
    return {name: digest for _word, name, digest in lines if name in TESTS}


def test_the_same_examples_alone_and_in_company(tmp_path: Path) -> None:
    alone: dict[str, str] = {}
    for name, file in TESTS.items():
        alone |= digests(tmp_path, f"{file}::{name}", PYTHONHASHSEED="1")
    others = ("test_in_words", "test_datagrams")  # before these and after
    chosen = " or ".join([*TESTS, *others])
    company = digests(tmp_path, "tests", "-k", chosen, PYTHONHASHSEED="2")
    assert sorted(company) == sorted(TESTS)
    assert alone == company


def test_a_difference_would_be_seen(tmp_path: Path) -> None:
    hunting = {"HYPOTHESIS_PROFILE": "hunt", "HUNT_EXAMPLES": "20"}
    name, file = next(iter(TESTS.items()))
    first, second = (
        digests(tmp_path, f"{file}::{name}", f"--hypothesis-seed={seed}", **hunting)
        for seed in (1, 2)
    )
    assert first[name] != second[name]
