"""What the shells complete of mptcpize: the options of its table, and then other programs."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess

import pytest

from mptcpd.cli.mptcpize_options import COMMANDS, OPTIONS

TOP = pathlib.Path(__file__).resolve().parents[1]
BASH, ZSH = TOP / "completion/mptcpize", TOP / "completion/_mptcpize"


@pytest.mark.parametrize("file", [BASH, ZSH], ids=["bash", "zsh"])
def test_every_option_and_command(file: pathlib.Path) -> None:
    names = {option.name for options, _, _ in COMMANDS.values() for option in options}
    names |= {option.name for option in OPTIONS if option.help}
    text = file.read_text()
    text = re.sub(r"systemctl.*|_arguments", "", text)
    assert set(re.findall(r"--([a-z][a-z0-9]+)", text)) == names
    assert all(re.search(rf"\b{command}\b", text) for command in COMMANDS)


def test_zsh_can_read_it() -> None:
    if not shutil.which("zsh"):
        pytest.skip("no zsh on this machine")
    run = subprocess.run(["zsh", "-n", ZSH], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["r"], ["run"]),
        (["--v"], ["--version"]),
        (["run", "--s"], ["--sigpipe=default", "--sigpipe=ignore"]),
        (["run", "-d", "--pre"], ["--preload="]),
        (["run", "mkfif"], ["mkfifo"]),
        (["run", "--", "mkfif"], ["mkfifo"]),
        (["run", "--argv0", "=", "x", "mkfif"], ["mkfifo"]),
        (["run", "ls", "--pre"], []),
        (["enable", "--"], ["--root=", "--launcher=", "--print"]),
        (["disable", "--"], ["--root="]),
        (["enable", str(BASH)[:-2]], [str(BASH)]),
        (["help", ""], []),
    ],
)
def test_bash(words: list[str], expected: list[str]) -> None:
    bash = shutil.which("bash")
    if not bash:
        pytest.skip("no bash on this machine")
    code = (
        f'source "{BASH}"; COMP_WORDS=(mptcpize "$@"); COMP_CWORD=$#; _mptcpize\n'
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    run = subprocess.run(
        [bash, "--norc", "-c", code, "bash", *words], capture_output=True, text=True, timeout=20
    )
    assert run.stderr == ""
    assert list(dict.fromkeys(run.stdout.split())) == expected
