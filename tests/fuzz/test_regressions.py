"""Claim: what once broke a claim does not break it any more.

Each file of ``regressions`` is run as ``keep`` wrote it: as Python in the namespace of its test's
module, with the tests as plain functions.
"""

from __future__ import annotations

import importlib
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fuzz import keep

FILES = sorted((Path(__file__).resolve().parent / "regressions").glob("*.txt"))


def run(file: Path, module: Any = None) -> None:
    """Run the statements of a file. Errors: whatever they raise."""
    heading, _newline, statements = file.read_text().partition("\n")
    if module is None:
        name = heading.removeprefix("# ").removesuffix(".py").replace("/", ".")
        module = importlib.import_module(name)
    names = {
        name: value.hypothesis.inner_test if hasattr(value, "hypothesis") else value
        for name, value in vars(module).items()
    }
    exec(compile(statements, str(file), "exec"), names)


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_what_was_found(file: Path) -> None:
    run(file)


CLAIMS = '''
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

@given(number=st.integers(), words=st.lists(st.text()))
def test_plain(number, words):
    assert number < 1000 or not words

@given(data=st.data())
def test_drawn(data):
    assert data.draw(st.integers()) < 1000

class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.total = 0

    @rule(number=st.integers())
    def add(self, number):
        self.total += number

    @invariant()
    def small(self):
        assert self.total < 10

TestMachine = Machine.TestCase
'''


def test_what_breaks_is_kept_and_breaks_again(tmp_path: Path) -> None:
    """For plain tests and state machines; for drawn data it is said that it cannot be kept."""
    file, kept = tmp_path / "test_claims.py", tmp_path / "kept"
    file.write_text(CLAIMS)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.fuzz.keep", "-p", "no:cacheprovider", file],
        cwd=keep.TOP,
        env={**os.environ, "FUZZ_KEEP": str(kept)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "3 failed" in result.stdout
    assert result.stdout.count("kept as ") == 2
    assert "not kept, as it is no Python (it draws as it goes): repeat it by" in result.stdout
    machine, plain = sorted(kept.iterdir())
    found = runpy.run_path(str(file))
    module = SimpleNamespace(**found)
    for broken in (machine, plain):
        with pytest.raises(AssertionError):
            run(broken, module)
    plain.write_text(plain.read_text().replace("number=1000", "number=999"))
    run(plain, module)
