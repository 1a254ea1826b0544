"""Keeps what broke a claim, so that every ``make check`` tries it again.

A file of ``tests/fuzz/regressions`` holds the statements that broke a test, as hypothesis shows
them, under a line that names the test's module:

    # tests/fuzz/test_fuzz_nl.py
    test_datagrams(
        data=b'\\x10\\x00',
    )

As a pytest plugin (``-p tests.fuzz.keep``) this writes such a file for every failure that
hypothesis found; ``test_regressions.py`` runs them. A value that has no Python expression
(``data=data(...)``) cannot be kept; then the failure's own seed has to do.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("FUZZ_KEEP", TOP / "tests/fuzz/regressions"))

# As hypothesis heads them, and headed them before 6.150 or so.
_SHOWN = re.compile(
    r"^(?:Failing test case|Falsifying example):(?: <state machine>)?[ \n]*(.+)", re.DOTALL | re.M
)


def write(module: str, statements: str) -> Path:
    """Write a file that has ``module`` run ``statements``. Errors: SyntaxError, OSError."""
    nodes = list(ast.walk(ast.parse(statements)))
    if any(isinstance(node, ast.Constant) and node.value is ... for node in nodes):
        raise SyntaxError("it draws as it goes")
    names = [
        node.func.id
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    digest = hashlib.sha256(statements.encode()).hexdigest()[:12]
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{names[0].removeprefix('test_')}-{digest}.txt"
    file.write_text(f"# {module}\n{statements.rstrip()}\n")
    return file


def falsifying(error: BaseException) -> Iterator[str]:
    """The statements that hypothesis says make a test fail with this error or one inside it."""
    for inner in getattr(error, "exceptions", ()):
        yield from falsifying(inner)
    text = "\n".join(getattr(error, "__notes__", ()))
    found = _SHOWN.search(text)
    if found is None:
        return
    lines = found[1].split("\n")
    # What follows (how to repeat it, what else fails) is no Python: the longest beginning that is.
    for end in range(len(lines), 0, -1):
        statements = textwrap.dedent("\n".join(lines[:end]))
        try:
            ast.parse(statements)
        except SyntaxError:
            continue
        yield statements
        return


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if call.excinfo is None or report.when != "call":
        return
    module = os.path.relpath(item.path, TOP)
    kept = []
    for statements in falsifying(call.excinfo.value):
        try:
            kept.append(f"kept as {write(module, statements)}")
        except (SyntaxError, IndexError) as error:
            kept.append(f"not kept, as it is no Python ({error}): repeat it by its seed")
    if kept:
        report.sections.append(("kept for make check", "\n".join(kept)))
