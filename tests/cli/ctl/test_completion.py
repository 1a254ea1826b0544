"""Completion as bash and zsh do it, from scripts that are made of the parser's table."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

from mptcpd.cli.ctl import completion, table

# What completes the last of the words "$@", a line for each offer.
_ASK = {
    "bash": """source ./script
        COMP_WORDS=(mptcpctl "$@") COMP_CWORD=$# COMPREPLY=()
        _mptcpctl; printf '%s\\n' "${COMPREPLY[@]}" """,
    "zsh": """compdef() { :; }; source ./script
        compadd() { shift; print -rl -- ${(M)@:#${words[CURRENT]}*}; }
        _files() { print FILES; }
        words=(mptcpctl "$@") CURRENT=$(($# + 1)); _mptcpctl""",
}


@pytest.fixture(params=_ASK)
def shell(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> str:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"no {name} to complete in (Debian: {name})")
    (tmp_path / "script").write_text(completion.script(name))
    # Its "ls" names an interface that would do harm if it were run.
    (tmp_path / "ls").write_text("#!/bin/sh\necho lo '$(>harm)' '*'\n")
    (tmp_path / "ls").chmod(0o755)
    return name


def offered(shell: str, folder: pathlib.Path, line: str) -> list[str]:
    options = ["-f"] if shell == "zsh" else ["--norc", "--noprofile"]
    run = subprocess.run(
        [shell, *options, "-c", _ASK[shell], shell, *line.split(" ")],
        cwd=folder, capture_output=True, text=True, timeout=20, check=False,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert run.stderr == ""
    return run.stdout.split("\n")[:-1] if run.stdout.strip() else []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("en", ["endpoint", "endpoints"]),
        ("endpoint ", ["add", "change", "delete", "show", "flush"]),
        ("-j -n x en a", ["add"]),
        ("e c ", ["id", "port", "backup", "nobackup", "fullmesh", "nofullmesh"]),
        ("endpoint add id ", []),
        ("endpoint add 10.0.0.1 s", ["signal", "subflow"]),
        ("monitor event SF_", ["SF_ESTABLISHED", "SF_CLOSED", "SF_PRIO"]),
        ("pm set ", ["kernel", "userspace"]),
        ("subflow create token 1 --", ["--wait"]),
        ("help lim", ["limits"]),
        ("bogus ", []),
        ("announce dev ", ["lo", "$(>harm)", "*"]),
    ],
)
def test_offers(shell: str, tmp_path: pathlib.Path, line: str, words: list[str]) -> None:
    assert offered(shell, tmp_path, line) == words
    assert not (tmp_path / "harm").exists()


def test_every_object_is_offered(shell: str, tmp_path: pathlib.Path) -> None:
    names = [entry.name for entry in table.OBJECTS]
    assert [word for word in offered(shell, tmp_path, "") if word[0] != "-"] == [*names, "help"]
