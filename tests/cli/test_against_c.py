"""The same command lines for the C daemon and for us: exit status and words must be the same.

The C daemon runs in a network namespace of its own, so that a line which it takes after all
changes nothing here. What differs on purpose:

- for what it finds wrong in the form of an option, C prints argv[0] with its directories;
- candidates of an abbreviation: our new options are among them.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess

import pytest

from mptcpd.cli import argp, options
from mptcpd.cli.argp import EXIT_USAGE, Option, UsageError

C_DAEMON = "/usr/libexec/mptcpd"
NEW = {f"'--{name}'" for name in ("config", "check-config", "runtime-dir")}


@functools.cache
def namespace() -> list[str]:
    """The command that runs another in an own network namespace; empty if there is none."""
    command = ["unshare", "-n" if os.geteuid() == 0 else "-rn"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], check=False).returncode:
        return []
    return command


@pytest.fixture(autouse=True)
def _can_run() -> None:
    if not os.access(C_DAEMON, os.X_OK):
        pytest.skip(f"no C daemon at {C_DAEMON}")
    if not namespace():
        pytest.skip("no network namespace for the C daemon")


def of_c(line: list[str]) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the C daemon."""
    run = subprocess.run(
        [*namespace(), C_DAEMON, *line],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=20,
        check=False,
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
    )
    return run.returncode, run.stdout, run.stderr.replace(f"{C_DAEMON}:", "mptcpd:")


def of_ours(line: list[str]) -> tuple[int, str]:
    """Exit status and stderr as our daemon makes them from what its parser says."""
    try:
        options.parse(line)
    except UsageError as error:
        return EXIT_USAGE, f"{error}\n"
    return 0, ""


def kind(text: str) -> str:
    """Which of the three informations a text is, and the name it gives the program."""
    first = text.split("\n")[0]
    if re.fullmatch(r"mptcpd [0-9.]+", text.strip()):
        return "version"
    usage, name, rest = first.split(" ", 2)
    assert usage == "Usage:"
    return f"help of {name}" if rest == "[OPTION...]" else f"usage of {name}"


def without_new(words: str) -> str:
    return re.sub(r" '--[^']*'", lambda found: "" if found[0][1:] in NEW else found[0], words)


BAD = [
    ["--bogus"],
    ["--bogus=1"],
    ["---"],
    ["---help"],
    ["-x"],
    ["-xd"],
    ["-dx"],
    ["-x?"],
    ["-W"],
    ["-:"],
    ["-d=x"],
    ["-d-"],
    ["--p=x"],
    ["--p"],
    ["--l=x"],
    ["--lo=stderr"],
    ["--=x"],
    ["--debug=1"],
    ["--deb=1"],
    ["--help=1"],
    ["--us=3"],
    ["-l"],
    ["-dl"],
    ["--log"],
    ["--a"],
    ["--notify-flags"],
    ["--program-name"],
    ["--log="],
    ["--log", "x"],
    ["--log", "--debug"],
    ["--log=stder"],
    ["--log=stderr1"],
    ["--log=\n"],
    ["--log=é"],
    ["--lög"],
    ["-lfoo"],
    ["-l;"],
    ["-l", ""],
    ["-l=stderr"],
    ["--plugin-dir="],
    ["--path-manager="],
    ["--load-plugins="],
    ["foo"],
    ["foo", "bar"],
    [""],
    ["-"],
    ["--", "--help"],
    ["--", "-x"],
    ["--bogus", "--help"],
    ["--log=null", "--log=x"],
    ["--log=x", "--log=null"],
    ["--log=x", "--bogus"],
    ["--bogus", "--log=x"],
    ["--log=x", "foo"],
    ["foo", "--log=x"],
    ["--plugin-dir=", "foo"],
    ["--plugin-dir=", "--version"],
    ["--path-manager=", "--help"],
    ["--bogus", "--program-name=x"],
    ["--program-name=x", "foo"],
    ["--program-name=/a/b/x", "--log=zz"],
    ["--HANG=0", "--bogus"],
    ["--HANG=x", "foo"],
]


@pytest.mark.parametrize("line", BAD, ids=[" ".join(line) or "(empty)" for line in BAD])
def test_usage_errors_are_those_of_c(line: list[str]) -> None:
    status, out, err = of_c(line)
    assert (status, out) == (64, "")
    ours, words = of_ours(line)
    assert (ours, without_new(words)) == (status, err)


@pytest.mark.parametrize(
    "line",
    [
        ["--help"],
        ["-?"],
        ["-?x"],
        ["-dd?"],
        ["foo", "--help"],
        ["--help", "--bogus"],
        ["--he"],
        ["--usag", "x"],
        ["-V"],
        ["-Vd"],
        ["--v"],
        ["--debug", "--version", "--bogus"],
        ["--log=null", "--version"],
        ["--program-name=x", "--help"],
        ["--pr=x", "--usage"],
        ["--program-name=x", "--version"],
    ],
    ids=" ".join,
)
def test_information_is_given_where_c_gives_it(line: list[str]) -> None:
    status, out, err = of_c(line)
    show = options.parse(line).show
    assert (status, err) == (0, "")
    assert show is not None
    assert kind(show) == kind(out)


def c_table() -> list[Option]:
    """The C daemon's options, read from its --help, so that ours can print the same from them."""
    entry = re.compile(r"^  (?:-(.), |    )--([a-z-]+)(?:=([A-Z]+))? +(.*(?:\n {29}.*)*)", re.M)
    found = [
        Option(name, short, argument, " ".join(words.split()))
        for short, name, argument, words in entry.findall(of_c(["--help"])[1])
    ]
    assert {"debug", "log", "plugin-dir", "help", "version"} <= {option.name for option in found}
    last = {option.name for option in argp.STANDARD}
    return [option._replace(group=argp.INFORMATION * (option.name in last)) for option in found]


def test_help_is_laid_out_as_argp_does() -> None:
    text = argp.help_text("mptcpd", c_table(), options.PURPOSE, options.TAIL, options.BUGS)
    assert f"{text}\n" == of_c(["--help"])[1]


def test_usage_is_laid_out_as_argp_does() -> None:
    assert f"{argp.usage_text('mptcpd', c_table())}\n" == of_c(["--usage"])[1]
