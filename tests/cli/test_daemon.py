"""The program as far as it gets without a kernel that has MPTCP: messages and exit codes."""

from __future__ import annotations

import logging
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import MappingProxyType

import pytest

from mptcpd import __version__
from mptcpd.cli import daemon
from mptcpd.cli.daemon import EX_USAGE, check_kernel, main
from mptcpd.cli.life import StartError
from mptcpd.cli.selection import check_started, choose
from mptcpd.core.config import Config, Section, Settings
from mptcpd.core.registry import Registry
from mptcpd.nl.errors import KernelError
from mptcpd.plugin import PRIORITY_HIGH, Plugin
from tests.whole import Lifeless

UNAVAILABLE = "Required kernel MPTCP support not available."
ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """The log as it was: main() sets it up for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    switches = logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = switches


@pytest.fixture
def enabled(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The file that says whether MPTCP is on: it is."""
    file = tmp_path / "enabled"
    file.write_text("1\n")
    monkeypatch.setattr(daemon, "_ENABLED", str(file))
    monkeypatch.setattr(daemon, "Life", Lifeless)
    return file


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the program, with a configuration file of the test's own; exit code and stderr."""
    file = tmp_path / "mptcpd.conf"
    file.write_text("")
    file.chmod(0o644)

    def run(*arguments: str, config: str = "") -> tuple[int, str]:
        file.write_text(config)
        code = main([f"--config={file}", *arguments])
        out, err = capfd.readouterr()
        assert out == ""
        return code, err

    return run


# The command line


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("--version", f"mptcpd {__version__}"),
        ("-V", f"mptcpd {__version__}"),
        ("--help", "Usage: mptcpd [OPTION...]"),
        ("-?", "Supported Linux kernel: upstream"),
        ("--usage", "Usage: mptcpd"),
    ],
)
def test_information(argument: str, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([argument]) == 0
    out, err = capfd.readouterr()
    assert text in out
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "unrecognized option '--nonsense'"),
        (["too", "many"], "Too many arguments"),
        (["--log=stder"], 'Unknown logging option: "stder"'),
        (["--log="], 'Unknown logging option: ""'),
        (["--plugin-dir="], "Empty plugin directory command line option."),
        (["--path-manager="], "Empty default path manager plugin command line option."),
        (["--load-plugins="], "Empty load plugins commandline option."),
        (["--addr-flags=bogus"], 'unknown address flag "bogus"'),
        (["--addr-flags=signal,fullmesh"], "exclude each other"),
        (["--p=x"], "ambiguous"),
        (["--debug=1"], "doesn't allow an argument"),
        (["-l"], "requires an argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == EX_USAGE == 64
    out, err = capfd.readouterr()
    assert err.startswith("mptcpd: ") and message in err
    assert "Try `mptcpd --help' or `mptcpd --usage' for more information." in err
    assert out == ""


def test_as_a_program() -> None:
    """Its own arguments are used, and its exit code is what main() returns."""
    command = [sys.executable, "-m", "mptcpd.cli.daemon", "--log=nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 64
    assert 'mptcpd: Unknown logging option: "nowhere"' in done.stderr


def test_hang(monkeypatch: pytest.MonkeyPatch, enabled: pathlib.Path, run: Run) -> None:
    enabled.write_text("0")
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    assert run("--HANG=3")[0] == 1
    assert slept == [3]


# The configuration


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[core]\naddr-flags=signal,bogus\n", ':2: addr-flags: unknown address flag "bogus"'),
        ("[core]\n\nlog=nowhere\n", ':3: log: unknown log destination "nowhere"'),
        ("[core\n", ":1: a group is a line of its own"),
        ("[core]\npath=x\n", ':2: unknown key "path" in [core]'),
    ],
)
def test_a_broken_configuration(
    run: Run, tmp_path: pathlib.Path, text: str, message: str
) -> None:
    code, err = run(config=text)
    assert code == 1
    assert f"{tmp_path}/mptcpd.conf{message}" in err
    assert len(err.splitlines()) == 1


def test_a_configuration_that_everybody_may_write(run: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mptcpd.conf").chmod(0o666)
    code, err = run()
    assert code == 1
    assert f'"{tmp_path}/mptcpd.conf" should be a file that is not world writable.' in err


def test_a_named_configuration_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--config=/nothing/here.conf"]) == 1
    assert "/nothing/here.conf: No such file or directory" in capfd.readouterr().err


def test_a_user_that_is_not_there(run: Run) -> None:
    code, err = run("--check-config", config="[core]\nuser=who-is-this\n")
    assert (code, err) == (1, "user=who-is-this: there is no user of this name.\n")


def test_a_group_that_is_not_there(run: Run) -> None:
    code, err = run("--check-config", config="[core]\ncontrol-group=who-are-these\n")
    assert (code, err) == (1, 'control-group=who-are-these: there is no group "who-are-these".\n')


def test_notes_about_the_configuration_go_to_the_log(run: Run, enabled: pathlib.Path) -> None:
    enabled.write_text("0")
    _code, err = run(config="[core]\nlog=stderr\nlog=null\n")
    assert "line 2, which counts" in err


# MPTCP in the kernel


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "0\n",
            [
                "MPTCP is not enabled in the kernel.",
                "Try 'sysctl -w net.mptcp.enabled=1'.",
                UNAVAILABLE,
            ],
        ),
        ("", ["Unable to determine if MPTCP is enabled.", UNAVAILABLE]),
        ("yes", ["Unable to determine if MPTCP is enabled.", UNAVAILABLE]),
        (b"\xff\xfe", ["Unable to determine if MPTCP is enabled.", UNAVAILABLE]),
        (None, [UNAVAILABLE]),
    ],
    ids=["off", "empty", "a word", "no text", "no file"],
)
def test_no_mptcp(
    run: Run, enabled: pathlib.Path, text: str | bytes | None, messages: list[str]
) -> None:
    if text is None:
        enabled.unlink()
    else:
        enabled.write_bytes(text.encode() if isinstance(text, str) else text)
    assert run() == (1, "".join(f"{line}\n" for line in messages))
    assert run("--log=null") == (1, "")


def test_mptcp_is_on(enabled: pathlib.Path) -> None:
    check_kernel()


# Plugins


def test_no_plugin_directory(run: Run, enabled: pathlib.Path) -> None:
    assert run("--plugin-dir=/nothing/here") == (
        1,
        "Unable to open plugin directory: No such file or directory\n"
        "Unable to load path manager plugins.\n",
    )


def test_a_plugin_directory_that_everybody_may_write(
    run: Run, enabled: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    folder.chmod(0o777)
    assert run(config=f"[core]\nplugin-dir={folder}\n") == (
        1,
        f'"{folder}" should be a directory that is not world writable.\n'
        "Unable to load path manager plugins.\n",
    )


class First(Plugin):
    name = "first"
    priority = PRIORITY_HIGH


class Second(Plugin):
    name = "second"


def config(**settings: object) -> Config:
    return Config.merge(Settings(**settings), Settings(), "/plugins")  # type: ignore[arg-type]


def test_no_plugin_at_all() -> None:
    with pytest.raises(StartError) as error:
        choose(config(), Registry([]))
    assert str(error.value) == (
        "Unable to load path manager plugins.\nThere is no usable one (NAME.py) in /plugins."
    )


def test_the_plugins_of_the_c_daemon(tmp_path: pathlib.Path) -> None:
    """Its package has a configuration file that names their folder, and we read that one."""
    (tmp_path / "addr_adv.so").touch()
    with pytest.raises(StartError) as error:
        choose(config()._replace(plugin_dir=str(tmp_path)), Registry([]))
    assert str(error.value).splitlines()[1:] == [
        f"There is no usable one (NAME.py) in {tmp_path}.",
        "Those of the C mptcpd are there: remove plugin-dir from the configuration.",
    ]


def test_the_default_plugin() -> None:
    registry = Registry([First(), Second()])
    choose(config(), registry)
    assert registry.names == ["first", "second"]
    choose(config(path_manager="second"), registry)
    assert registry.names == ["second", "first"]


@pytest.mark.parametrize("name", ["third", "Second", "second.py"])
def test_a_default_plugin_that_is_not_there(name: str) -> None:
    with pytest.raises(StartError) as error:
        choose(config(path_manager=name), Registry([First(), Second()]))
    assert str(error.value) == f'No plugin is named "{name}"; there are: first, second.'


def test_a_group_of_no_plugin(caplog: pytest.LogCaptureFixture) -> None:
    sections = MappingProxyType({name: Section(name) for name in ("first", "frist")})
    choose(config()._replace(sections=sections, file="F"), Registry([First()]))
    assert [record.getMessage() for record in caplog.records] == [
        "F: no plugin in use is named [frist]; the group has no effect"
    ]


def test_plugins_that_could_not_be_initialized() -> None:
    check_started(config(path_manager="first"), Registry([First()]))
    with pytest.raises(StartError, match="^Unable to load path manager plugins.\nNone of them"):
        check_started(config(), Registry([]))
    with pytest.raises(StartError, match='^The plugin "first" could not be initialized.$'):
        check_started(config(path_manager="first"), Registry([Second()]))


# How it ends


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KernelError("RTM_GETLINK", 1), "mptcpd ends: RTM_GETLINK: Operation not permitted"),
        (OSError(24, "Too many open files"), "mptcpd ends: [Errno 24] Too many open files"),
        (MemoryError(), "mptcpd ends: no memory is left\n"),
        (StartError("one\ntwo"), "one\ntwo\n"),
        (AssertionError("what"), "AssertionError: what"),
    ],
    ids=[
        *("the kernel refuses", "a system call fails", "no memory", "people can mend it"),
        "our own fault",
    ],
)
def test_a_failure_is_in_the_log_and_the_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    def fails(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(daemon, "run", fails)
    code, err = run()
    assert code == 1
    assert text in err
    assert ("Traceback" in err) == isinstance(error, AssertionError)
    assert ("Traceback" in run("--debug")[1]) == (not isinstance(error, StartError))


def test_a_stop_is_no_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "run", lambda *_arguments: None)
    assert run() == (0, "")


def test_a_loop_is_closed_however_it_ends(
    run: Run, enabled: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object) -> None:
        raise OSError(1, "on purpose")

    monkeypatch.setattr(daemon, "serve", fails)
    before = sorted(os.listdir("/proc/self/fd"))
    assert run()[0] == 1
    assert sorted(os.listdir("/proc/self/fd")) == before
