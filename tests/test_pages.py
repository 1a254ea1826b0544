"""Manual pages, --help and shell completion say the same, and say it of everything there is."""

from __future__ import annotations

import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import time

import pytest

from mptcpd.cli import argp
from mptcpd.cli.argp import Option
from mptcpd.core import config, config_values, interface_sections
from mptcpd.core.pm import PathManager
from mptcpd.plugin import Plugin
from tools import pages

TOP = pathlib.Path(__file__).resolve().parent.parent
MANUALS = sorted((TOP / "man").glob("*.[1-8]"))


def plain(name: str) -> str:
    """A page's words, without roff's ways to write hyphens and fonts."""
    text = (TOP / "man" / name).read_text().replace("\\-", "-")
    return re.sub(r"\\f[A-Z]|\\&|\\~", "", text)


@pytest.mark.parametrize("file", pages.made(), ids=lambda file: file.name)
def test_made_from_the_table(file: pathlib.Path) -> None:
    assert file.read_text() == pages.made()[file], 'run "make pages"'


@pytest.mark.parametrize("program", pages.PROGRAMS)
def test_every_option_is_everywhere(program: str) -> None:
    """Not only in what is made, but in what a reader of each would find."""
    entry = pages.PROGRAMS[program]
    own = entry.options()
    names = {option.name for option in own if option.help}
    for text in (argp.help_text(program, own, "", "", ""), argp.usage_text(program, own)):
        found = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", text))
        assert found == {option.name for option in own if option.help}
    texts = {
        "page": plain(f"{program}.{entry.section}"),
        "bash": (TOP / "completion" / program).read_text(),
        "zsh": (TOP / "completion" / f"_{program}").read_text(),
    }
    for what, text in texts.items():
        found = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", text))
        assert names <= found, f"{what} lacks {names - found}"
        # A page may speak of the options of other programs, but not of ours that do not exist.
        if what != "page":
            assert found == names, f"{what} has more"


@pytest.mark.parametrize("page", MANUALS, ids=lambda page: page.name)
def test_mandoc_has_no_complaint(page: pathlib.Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("no mandoc (Debian: mandoc)")
    run = subprocess.run(["mandoc", "-Tlint", page], capture_output=True, text=True)
    lines = (run.stdout + run.stderr).splitlines()
    assert [line for line in lines if "longer than 80" not in line] == []


@pytest.mark.parametrize("page", MANUALS, ids=lambda page: page.name)
def test_groff_has_no_complaint(page: pathlib.Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("no groff")
    run = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", page], capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")


def test_every_setting_is_explained() -> None:
    page = plain("mptcpd.conf.5")
    entries = set(re.findall(r"^\.BR? ([a-z-]+)(?: \", \" ([a-z-]+))?$", page, re.M))
    found = {word for pair in entries for word in pair}
    assert set(config.CORE_KEYS) | set(interface_sections.KEYS) <= found
    for word in (*config.LOG_DESTINATIONS, *config.ADDR_FLAGS, *config.NOTIFY_FLAGS):
        assert f".B {word}" in page
    for word in config_values.PATH_MANAGERS:
        assert f".B {word}" in page


def test_every_setting_of_a_plugin_is_explained() -> None:
    """What the shipped file shows in groups other than [core] and [interface]."""
    page = plain("mptcpd.conf.5")
    group, count = "", 0
    for line in (TOP / "etc/mptcpd.conf").read_text().splitlines():
        if line == "#[interface wwan*]":
            group = ""
        elif found := re.match(r"#?\[([\w-]+)\]$", line):
            group = found[1]
        elif (found := re.match(r"#([a-z-]+)=", line)) and group not in ("", "core"):
            assert f"[{group}]" in page and f" {found[1]}" in page, line
            count += 1
    assert count


def test_every_hook_and_command_is_explained() -> None:
    page = plain("mptcpd-plugin.7")
    hooks = {name for name in vars(Plugin) if not name.startswith("_")}
    names = set(re.findall(r"self\.([a-z]\w*)", pathlib.Path(INIT_OF_PM).read_text()))
    commands = {name for name in {*names, *vars(PathManager)} if not name.startswith("_")}
    words = set(re.findall(r"\w+", page))
    assert hooks <= words and commands <= words, (hooks | commands) - words
    assert len(hooks) > 15 and len(commands) > 20


INIT_OF_PM = TOP / "mptcpd/core/pm.py"


# Shells

TABLE = (
    Option("name", "n", "FILE", help="Take FILE"),
    Option("kind", "k", "KIND", help="Be of KIND: a or b", words=("alpha", "beta")),
    Option("flags", argument="FLAGS", help="Set", words=("one", "other"), list=True),
    Option("in", argument="DIR", help="There"),
    Option("quote", help="Some user's, in [brackets]"),
    Option("hidden"),
)


def completed(line: list[str], word: str = "") -> list[str]:
    """What bash would offer for the last word. ``word``: what may stand besides options."""
    code = f"""{pages.bash("p", TABLE, word)}
compopt() {{ :; }}
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_p
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    run = subprocess.run(
        ["bash", "-c", code, "bash", "p", *line], capture_output=True, text=True, cwd=TOP
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["--k"], ["--kind="]),
        (["--"], ["--name=", "--kind=", "--flags=", "--in=", "--quote"]),
        (["--kind", "="], ["alpha", "beta"]),
        (["--kind", "=", "a"], ["alpha"]),
        (["--kind", "b"], ["beta"]),
        (["-k", ""], ["alpha", "beta"]),
        (["--flags", "=", "o"], ["one", "other"]),
        (["--flags", "=", "one,ot"], ["one,other"]),
        (["--name", "=", "README"], ["README.md"]),
        (["--in", "=", "mptcpd/c"], ["mptcpd/core", "mptcpd/cli"]),
        (["--kind", "=", "x"], []),
    ],
)
def test_bash(line: list[str], offered: list[str]) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    assert sorted(completed(line)) == sorted(offered)


def test_bash_offers_files() -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    assert completed(["READ"], "FILE") == ["README.md"] and completed(["READ"]) == []
    assert completed(["--kind", "=", "a"], "FILE") == ["alpha"]
    assert completed(["--k"], "FILE") == ["--kind="]


def zsh_offers(folder: pathlib.Path, line: str) -> set[str]:
    """What zsh would offer for a command line: typed into a terminal, with Tab."""
    (folder / "_p").write_text(pages.zsh("p", TABLE))
    (folder / ".zshrc").write_text(
        f"fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D\n"
        "unset zle_bracketed_paste; setopt no_auto_menu; PROMPT=\n"
        "zle-line-init() { print I am ready }; zle -N zle-line-init\n"
    )
    pid, terminal = pty.fork()
    if not pid:
        os.environ.update(TERM="dumb", COLUMNS="200", LINES="50", ZDOTDIR=str(folder))
        os.execvp("zsh", ["zsh", "-d", "-i"])
    said = ""

    def until(text: str) -> None:
        nonlocal said
        deadline = time.monotonic() + 20
        while text not in said:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([terminal], [], [], left)[0], said
            said += os.read(terminal, 65536).decode(errors="replace")

    try:
        until("I am ready")
        said = ""
        os.write(terminal, f"{line}\t\x15print the-\\end\n".encode())
        until("the-end")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    return set(re.findall(r"--[a-z-]+|\balpha\b|\bbeta\b|\bother\b", said))


def test_zsh(tmp_path: pathlib.Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("no zsh")
    assert {"--name", "--kind", "--flags", "--in", "--quote"} <= zsh_offers(tmp_path, "p --")
    assert zsh_offers(tmp_path, "p --kind=") >= {"alpha", "beta"}
    assert "other" in zsh_offers(tmp_path, "p --flags=one,o")


def test_zsh_reads_what_is_made() -> None:
    if shutil.which("zsh") is None:
        pytest.skip("no zsh")
    for program in pages.PROGRAMS:
        run = subprocess.run(["zsh", "-n", TOP / "completion" / f"_{program}"], capture_output=True)
        assert (run.returncode, run.stderr) == (0, b"")
