"""The program as its user runs it: what is printed where, and the exit status."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import pytest

import mptcpd
from mptcpd.cli.ctl import main, netns, options
from mptcpd.cli.ctl.errors import Failure
from mptcpd.cli.ctl.output import Field, Output, Settings, dump
from mptcpd.nl.errors import KernelError, Unavailable

PROGRAM = [sys.executable, "-m", "mptcpd.cli.ctl.main"]
TOP = pathlib.Path(__file__).resolve().parents[3]


def run(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
    settings = {"capture_output": True, "text": True, "cwd": TOP, "timeout": 60, **more}
    return subprocess.run([*PROGRAM, *words], **settings)  # type: ignore[call-overload,no-any-return]


def test_help_and_version() -> None:
    nothing = run()
    assert (nothing.returncode, nothing.stdout) == (255, "")
    assert nothing.stderr.startswith("Usage: mptcpctl ") and "endpoint, limits" in nothing.stderr
    for words in (["help"], ["-h"], ["--help"], ["-help", "whatever"], ["h"]):
        asked = run(*words)
        assert (asked.returncode, asked.stderr) == (0, "")
        assert "endpoint add ADDRESS" in asked.stdout or words[-1] == "whatever"
    assert run("help", "lim").stdout.startswith("limits: ")
    assert run("help", "bogus").returncode == 255
    assert run("-V").stdout == f"mptcpctl, mptcpd {mptcpd.__version__}\n"


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ([], Settings()),
        (["-j", "-p"], Settings(json=True, pretty=True)),
        (["--js", "-one"], Settings(json=True, oneline=True)),
        (["-t"], Settings(stamp="long")),
        (["-ts"], Settings(stamp="short")),
        (["-4", "-6"], Settings(family=6)),
        (["-c"], Settings(colour=True)),
        (["-c=always", "-j"], Settings(json=True)),  # JSON has no colours
        (["-color=never"], Settings()),
    ],
)
def test_options(words: list[str], settings: Settings) -> None:
    assert options.read([*words, "x", "-j"]) == (settings, None, "", ["x", "-j"])


@pytest.mark.parametrize("word", ["-bogus", "-jp", "-c=x", "-j=1", "-Netns", "--x"])
def test_bad_options(word: str) -> None:
    with pytest.raises(Failure, match=f'^Option "{word}" is unknown, try "mptcpctl -help".$'):
        options.read([word, "x"])


def test_namespaces(tmp_path: pathlib.Path) -> None:
    assert options.read(["-n", "x", "y"]).netns == options.read(["-netns", "x", "y"]).netns == "x"
    assert run("-n").stderr == 'Command line is not complete. Try option "help"\n'
    for name in ("no-such", "999999999", str(tmp_path / "x")):
        with pytest.raises(Failure) as caught:
            netns.enter(name)
        assert str(caught.value) == (
            f'Cannot open network namespace "{name}": No such file or directory'
        )
    (tmp_path / "file").touch()
    failed = run("-n", str(tmp_path / "file"), "endpoint")
    assert failed.returncode == 255
    assert failed.stderr.startswith(f'setting the network namespace "{tmp_path}/file" failed: ')


def test_what_the_kernel_says(capfd: pytest.CaptureFixture[str]) -> None:
    """In iproute2's words, and one line for whatever should not have happened."""
    for error, text in (
        (KernelError("X", 22, "address not found"), "Error: address not found.\n"),
        (KernelError("X", 22, "A sentence."), "Error: A sentence.\n"),
        (KernelError("X", 1), "RTNETLINK answers: Operation not permitted\n"),
        (Unavailable("no family"), "Error: no family\n"),
        (FileNotFoundError(2, "No such file", "/x"), "Error: /x: No such file\n"),
    ):
        assert main._refused(error) == 2
        assert capfd.readouterr().err == text
    assert main._refused(ZeroDivisionError("oh")) == 2
    assert capfd.readouterr().err == "Error: this should not happen: ZeroDivisionError: oh\n"


def test_a_reader_that_goes_away() -> None:
    read, write = os.pipe()
    os.close(read)
    gone = run("help", capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (gone.returncode, gone.stderr) == (-signal.SIGPIPE, "")


def test_nowhere_to_write() -> None:
    with open("/dev/full", "w") as nowhere:
        full = run("help", capture_output=False, stdout=nowhere, stderr=subprocess.PIPE)
    assert (full.returncode, full.stderr) == (2, "Error: No space left on device\n")
    # Without descriptors 0 to 2 no socket may get their numbers: what is printed would go there.
    code = "import os,sys; os.closerange(0, 3); os.execv(sys.argv[1], sys.argv[1:])"
    closed = subprocess.run([sys.executable, "-c", code, *PROGRAM, "help"], cwd=TOP, timeout=60)
    assert closed.returncode == 0


PRETTY = """\
[ {
        "x": "a"
    },{
        "x": "b\udcff",
        "y": [ 1,{} ]
    } ]
"""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(), "a only text \nb\udcff \n"),
        (Settings(oneline=True), "a only text \\b\udcff \\"),
        (Settings(json=True), '[{"x":"a"},{"x":"b\udcff","y":[1,{}]}]\n'),
        (Settings(json=True, pretty=True), PRETTY),
        (Settings(colour=True), "a only text \n\033[35mb\udcff \033[0m\n"),
    ],
)
def test_output(settings: Settings, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORFGBG", "0;15")
    read, write = os.pipe()
    out = Output(settings, write)
    out.records([
        [Field("a ", "x", "a"), Field("only text ")],
        # An interface may be called by bytes that are no text: they come out as they are.
        [Field("b\udcff ", "x", "b\udcff", "ipv4"), Field("", "y", [1, {}])],
    ])  # fmt: skip
    out.flush()
    os.close(write)
    with open(read, "rb") as stream:
        assert stream.read() == expected.encode("utf-8", "surrogateescape")


def test_json() -> None:
    assert dump([], True) == "[ ]" and dump({"a": 'q"\n'}) == '{"a":"q\\"\\n"}'


def test_imports_only_what_the_command_needs() -> None:
    code = (
        "import sys; from mptcpd.cli.ctl.main import main; main(['endpoint', 'show']);"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=TOP, timeout=60
    )
    loaded = {*done.stderr.split()}
    assert "mptcpd.cli.ctl.endpoint" in loaded
    assert loaded.isdisjoint({
        "json", "ipaddress", "argparse", "subprocess", "logging", "curses", "dataclasses",
        "mptcpd.cli.ctl.monitor", "mptcpd.cli.ctl.help_text", "mptcpd.nl.diag",
    })  # fmt: skip
    assert not [name for name in loaded if name.startswith("mptcpd.core")]
