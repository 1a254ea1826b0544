"""The command line of mptcp-get-debug: what mptcpctl is given for it, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mptcpd import __version__
from mptcpd.cli import argp, get_debug
from mptcpd.cli.argp import UsageError
from mptcpd.cli.ctl import grammar, options, table


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ([], ["debug"]),
        (["report"], ["debug", "report"]),
        (["report", "--anon"], ["debug", "--anonymous", "report"]),
        (["-aj", "-nrouter"], ["-json", "-netns", "router", "debug", "--anonymous"]),
        (["--socket=/s", "--", "-x"], ["-socket", "/s", "debug", "./-x"]),
        (["-"], ["debug", "./-"]),
        (["--HANG=0", "--program-name=x"], ["debug"]),
    ],
)
def test_what_mptcpctl_is_given(line: list[str], words: list[str]) -> None:
    assert get_debug.parse(line) == (words, None)
    # And it understands it so.
    said = options.read(words)
    _entry, command, rest = grammar.find(table.OBJECTS, said.rest)
    args = grammar.read(command, rest)
    assert command.run == "debug:run"
    assert ("anonymous" in args) == ("--anonymous" in words)
    assert args.get("file") == next((w for w in rest if w != "--anonymous"), None)
    assert said.settings.json == ("-json" in words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["a", "b"], "Too many arguments"),
        (["-x"], "invalid option -- 'x'"),
        (["--netns="], "option '--netns' requires an argument"),
        (["--json=yes"], "option '--json' doesn't allow an argument"),
    ],
)
def test_mistakes(line: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=f"^mptcp-get-debug: {words}\n"):
        get_debug.parse(line)


def test_texts() -> None:
    assert get_debug.parse(["-V", "-x"])[1] == f"mptcp-get-debug {__version__}"
    usage = get_debug.parse(["--usage"])[1]
    assert usage is not None and usage.split()[-1] == "[FILE]"
    assert "--anonymous" in (get_debug.parse(["--help"])[1] or "")


def test_as_a_program() -> None:
    for word, status in (("--version", 0), ("--bogus", argp.EXIT_USAGE)):
        run = subprocess.run(
            [sys.executable, "-m", "mptcpd.cli.get_debug", word], capture_output=True, text=True
        )
        assert run.returncode == status and bool(run.stderr) == bool(status)
