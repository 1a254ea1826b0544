"""The command line of mptcpize: what it means, its words, and those of the C program."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from mptcpd import __version__
from mptcpd.cli import mptcpize_options
from mptcpd.cli.argp import UsageError
from mptcpd.cli.mptcpize_options import Said

TOP = pathlib.Path(__file__).resolve().parents[2]
C_PROGRAM = "/usr/bin/mptcpize"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([], Said("help")),
        (["help"], Said("help")),
        (["run"], Said("run")),
        (["run", "ls", "-d", "--help"], Said("run", {}, ("ls", "-d", "--help"))),
        (["run", "-d", "ls", "-d"], Said("run", {"debug": ""}, ("ls", "-d"))),
        (["run", "-d", "--", "-x"], Said("run", {"debug": ""}, ("-x",))),
        (["run", "--pre=/l.so", "ls"], Said("run", {"preload": "/l.so"}, ("ls",))),
        (["run", "--argv0", "-x", "ls"], Said("run", {"argv0": "-x"}, ("ls",))),
        (["run", "--sigpipe=ignore", "x"], Said("run", {"sigpipe": "ignore"}, ("x",))),
        (["--", "run", "ls"], Said("run", {}, ("ls",))),
        (["enable", "a.service"], Said("enable", {}, ("a.service",))),
        (["enable", "a", "--print"], Said("enable", {"print": ""}, ("a",))),
        (["disable", "--root=/r", "a"], Said("disable", {"root": "/r"}, ("a",))),
        (["foo", "-x"], Said("foo")),
        (["--HANG=7", "foo"], Said("foo", hang=7)),
        (["-V", "-x"], Said(show=f"mptcpize {__version__}")),
    ],
)  # fmt: skip
def test_meaning(line: list[str], expected: Said) -> None:
    assert mptcpize_options.parse(line) == expected


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["-x"], "invalid option -- 'x'"),
        (["-d", "run", "ls"], "invalid option -- 'd'"),
        (["run", "-x", "ls"], "invalid option -- 'x'"),
        (["run", "--preload=", "ls"], "option '--preload' requires an argument"),
        (["run", "--sigpipe=no", "ls"], '--sigpipe is default or ignore, not "no"'),
        (["enable", "a", "b"], "Too many arguments"),
        (["disable", "--print", "a"], "unrecognized option '--print'"),
        (["help", "run"], "Too many arguments"),
        (["enable", "a", "--root="], "option '--root' requires an argument"),
    ],
)
def test_mistakes(line: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=f"^mptcpize: {re.escape(words)}\n"):
        mptcpize_options.parse(line)


def ours(*line: str) -> tuple[int, str, str]:
    run = subprocess.run(
        [sys.executable, "-m", "mptcpd.cli.mptcpize", *line],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize(
    ("line", "status", "first"),
    [
        ([], 0, "Usage: mptcpize CMD"),
        (["help"], 0, "Usage: mptcpize CMD"),
        (["run"], 255, "missing command argument"),
        (["enable"], 255, "missing unit argument"),
        (["disable"], 255, "missing unit argument"),
        (["foo"], 255, "unknown arg foo"),
        (["--bogus"], 64, "mptcpize: unrecognized option '--bogus'"),
    ],
)
def test_exit_status_and_words(line: list[str], status: int, first: str) -> None:
    found, out, err = ours(*line)
    assert (found, out, err.splitlines()[0]) == (status, "", first)
    if status == 255 and "missing" in first:
        assert err == f"{first}\n{mptcpize_options.short_help()}\n"


@pytest.mark.parametrize("line", ["", "help", "run", "enable", "foo", "-x", "--bog", "--us", "-?"])
def test_as_the_c_program(line: str) -> None:
    """Status, stream and first lines; the help goes on with what is ours."""
    if not shutil.which(C_PROGRAM):
        pytest.skip(f"no C program at {C_PROGRAM}")
    run = subprocess.run([C_PROGRAM, *line.split()], capture_output=True, text=True, timeout=20)
    status, out, err = ours(*line.split())
    assert status == run.returncode
    for mine, theirs in ((out, run.stdout), (err, run.stderr)):
        theirs = theirs.replace(f"{C_PROGRAM}:", "mptcpize:")
        head = theirs.partition("instead of TCP.  If")[0]
        assert mine.startswith(head) and bool(mine) == bool(theirs)


def test_the_manual_page_has_every_option() -> None:
    page = (TOP / "man/mptcpize.8").read_text().replace("\\-", "-")
    tables = [options for options, _usage, _text in mptcpize_options.COMMANDS.values()]
    names = {option.name for table in tables for option in table}
    assert names | {"help", "usage", "version"} <= set(re.findall(r"--([a-z0-9]+)", page))
    for command in mptcpize_options.COMMANDS:
        assert f"\n.B mptcpize {command}" in page or f"\n.B {command}" in page
