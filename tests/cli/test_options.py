"""Command lines, what they mean, and the exact words about those that mean nothing."""

from __future__ import annotations

import pytest

from mptcpd import __version__
from mptcpd.cli import argp, options
from mptcpd.cli.argp import EXIT_USAGE, BadLine, Option, UsageError
from mptcpd.cli.options import Options
from mptcpd.core.config import CORE_KEYS, FILE_ONLY, Settings

TRY = "Try `mptcpd --help' or `mptcpd --usage' for more information."


def said(**settings: object) -> Options:
    return Options(Settings()._replace(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([], Options()),
        (["-d"], said(debug=True)),
        (["--debug"], said(debug=True)),
        (["-dd"], said(debug=True)),
        (["-l", "journal"], said(log="journal")),
        (["-ljournal"], said(log="journal")),
        (["-dlnull"], said(log="null", debug=True)),
        (["-dl", "null"], said(log="null", debug=True)),
        (["--log=syslog"], said(log="syslog")),
        (["--log", "syslog"], said(log="syslog")),
        (["--log=null", "-l", "stderr"], said(log="stderr")),
        (["--plugin-dir=/a,b=c"], said(plugin_dir="/a,b=c")),
        (["--plug", "/a"], said(plugin_dir="/a")),
        (["--plugin-dir", "--debug"], said(plugin_dir="--debug")),
        (["--pa=x"], said(path_manager="x")),
        (["--addr-flags=signal,backup,"], said(addr_flags=("signal", "backup"))),
        (["--addr-flags=laminar"], said(addr_flags=("laminar",))),
        (["--addr-flags="], said(addr_flags=())),
        (["--addr-flags", ""], said(addr_flags=())),
        (["--notify-flags=existing"], said(notify_flags=frozenset({"existing"}))),
        (["--notify-flags="], said(notify_flags=frozenset())),
        (["--load-plugins=b,a"], said(load_plugins=("b", "a"))),
        (["--load-plugins=,"], said(load_plugins=())),
        (["--config=/f"], Options(config="/f")),
        (["--check-config", "-d"], said(debug=True)._replace(check_config=True)),
        (["--check"], Options(check_config=True)),
        (["--daemonize"], Options(daemonize=True)),
        (["--pidfile=/p"], Options(pidfile="/p")),
        (["--no-sandbox"], Options(sandbox=False)),
        (["--program-name=x", "-d"], said(debug=True)),
        (["-d", "--"], said(debug=True)),
        (["--HANG=7"], Options(hang=7)),
        (["--HANG"], Options(hang=3600)),
        (["--HANG=x"], Options(hang=0)),
    ],
)
def test_meaning(line: list[str], expected: Options) -> None:
    assert options.parse(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["--d"], said(debug=True)),
        (["--no="], said(notify_flags=frozenset())),
        (["--n="], said(notify_flags=frozenset())),
        (["--da"], Options(daemonize=True)),
        (["--no-"], Options(sandbox=False)),
        (["--pi=/p"], Options(pidfile="/p")),
    ],
)
def test_abbreviations_outlive_new_options(line: list[str], expected: Options) -> None:
    """What the C daemon understands keeps its meaning, whatever options come later."""
    assert options.parse(line) == expected


BAD = [
    (["--bogus"], "unrecognized option '--bogus'"),
    (["--bogus=1"], "unrecognized option '--bogus=1'"),
    (["---"], "unrecognized option '---'"),
    (["-x"], "invalid option -- 'x'"),
    (["-dx"], "invalid option -- 'x'"),
    (["-d=1"], "invalid option -- '='"),
    (["-d-"], "invalid option -- '-'"),
    (["-:"], "invalid option -- ':'"),
    (["--log"], "option '--log' requires an argument"),
    (["--a"], "option '--addr-flags' requires an argument"),
    (["-l"], "option requires an argument -- 'l'"),
    (["-dl"], "option requires an argument -- 'l'"),
    (["--debug=1"], "option '--debug' doesn't allow an argument"),
    (["--deb=1"], "option '--debug' doesn't allow an argument"),
    (["--help="], "option '--help' doesn't allow an argument"),
    (
        ["--p=x"],
        "option '--p=x' is ambiguous; possibilities: "
        "'--plugin-dir' '--path-manager' '--program-name'",
    ),
    (["--lo=stderr"], "option '--lo=stderr' is ambiguous; possibilities: '--log' '--load-plugins'"),
    (["--c"], "option '--c' is ambiguous; possibilities: '--config' '--check-config'"),
    (["x"], "Too many arguments"),
    ([""], "Too many arguments"),
    (["-"], "Too many arguments"),
    (["--", "--help"], "Too many arguments"),
    (["x", "-d", "y"], "Too many arguments"),
    (["--log=stder"], 'Unknown logging option: "stder"'),
    (["--log=stderr1"], 'Unknown logging option: "stderr1"'),
    (["--log="], 'Unknown logging option: ""'),
    (["-l", ""], 'Unknown logging option: ""'),
    (["-l=null"], 'Unknown logging option: "=null"'),
    (["--log", "--debug"], 'Unknown logging option: "--debug"'),
    (["--plugin-dir="], "Empty plugin directory command line option."),
    (["--path-manager="], "Empty default path manager plugin command line option."),
    (["--load-plugins="], "Empty load plugins commandline option."),
    (["--config="], "Empty configuration file command line option."),
    (["--pidfile="], "Empty process ID file command line option."),
    (["--daemonize=1"], "option '--daemonize' doesn't allow an argument"),
    (
        ["--addr-flags=subflow,bogus"],
        '--addr-flags: unknown address flag "bogus"; '
        "allowed: signal, subflow, backup, fullmesh, laminar",
    ),
    (
        ["--addr-flags=fullmesh,signal"],
        '--addr-flags: the flags "signal" and "fullmesh" exclude each other: '
        "the kernel refuses an endpoint that has both",
    ),
    (
        ["--notify-flags=bogus"],
        '--notify-flags: unknown notification flag "bogus"; '
        "allowed: existing, skip_link_local, skip_loopback, check_route",
    ),
    (
        ["--load-plugins=../x"],
        '"../x" is not a plugin name; allowed: names of files in the plugin directory '
        "without .py, separated by commas without blanks",
    ),
    # the first mistake is the one that is named; arguments that are none come last
    (["--log=x", "--bogus"], 'Unknown logging option: "x"'),
    (["--bogus", "--log=x"], "unrecognized option '--bogus'"),
    (["y", "--log=x"], 'Unknown logging option: "x"'),
    (["--log=x", "--log=null"], 'Unknown logging option: "x"'),
    (["--plugin-dir=", "--version"], "Empty plugin directory command line option."),
    (["--bogus", "--program-name=y"], "unrecognized option '--bogus'"),
]


@pytest.mark.parametrize(("line", "words"), BAD, ids=[" ".join(line) for line, _ in BAD])
def test_usage_errors(line: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        options.parse(line)
    assert caught.value.text == words
    assert str(caught.value) == f"mptcpd: {words}\n{TRY}"


def test_exit_status_of_usage_errors() -> None:
    assert EXIT_USAGE == 64


def test_program_name() -> None:
    with pytest.raises(UsageError) as caught:
        options.parse(["--program-name=/a/b/x", "y"])
    assert str(caught.value) == (
        "x: Too many arguments\nTry `x --help' or `x --usage' for more information."
    )
    assert str(options.parse(["--pr=x", "--help"]).show).startswith("Usage: x [OPTION...]\n")
    assert options.parse(["--program-name=x", "--version"]).show == f"mptcpd {__version__}"
    show = options.parse(["--program-name=\udcff", "--usage"]).show
    assert show is not None
    show.encode()


@pytest.mark.parametrize(
    ("line", "option"),
    [
        (["--help"], "help"),
        (["-?"], "help"),
        (["-?x"], "help"),
        (["-d?"], "help"),
        (["--he"], "help"),
        (["--help", "--bogus"], "help"),
        (["x", "--help"], "help"),
        (["--usage"], "usage"),
        (["--us", "x"], "usage"),
        (["-V"], "version"),
        (["--v"], "version"),
        (["--debug", "--version", "--log=x"], "version"),
    ],
)
def test_information_ends_the_command_line(line: list[str], option: str) -> None:
    assert options.parse(line).show == options.text(option)


def test_version() -> None:
    assert options.text("version") == f"mptcpd {__version__}"


def test_help_shows_every_option_and_the_tail() -> None:
    text = options.text("help")
    lines = text.split("\n")
    assert lines[:3] == ["Usage: mptcpd [OPTION...]", "Start the Multipath TCP daemon.", ""]
    assert lines[-3:] == [
        "Supported Linux kernel: upstream",
        "",
        "Report bugs to <mptcp@lists.linux.dev>.",
    ]
    for option in options.TABLE:
        shown = [line for line in lines if line[6:].split(" ")[0] == option.spelled()]
        assert len(shown) == bool(option.help), option.name
        short = f"  -{option.short}, " if option.short else "      "
        assert all(line.startswith(short) for line in shown)
    names = [line[6:].split(" ")[0] for line in lines if line[6:].startswith("--")]
    assert names[:-3] == sorted(names[:-3])
    assert names[-3:] == ["--help", "--usage", "--version"]


def test_usage() -> None:
    assert options.text("usage") == (
        "Usage: mptcpd [-d?V] [-l DEST] [--addr-flags=FLAGS] [--check-config]\n"
        "            [--config=FILE] [--daemonize] [--debug] [--load-plugins=PLUGINS]\n"
        "            [--log=DEST] [--no-sandbox] [--notify-flags=FLAGS]\n"
        "            [--path-manager=PLUGIN] [--pidfile=FILE] [--plugin-dir=DIR]\n"
        "            [--runtime-dir=DIR] [--help] [--usage] [--version]"
    )


def test_table_is_sound() -> None:
    names = [option.name for option in options.TABLE]
    shorts = [option.short for option in options.TABLE if option.short]
    assert len(set(names)) == len(names)
    assert len(set(shorts)) == len(shorts)
    assert set(CORE_KEYS) - FILE_ONLY < set(names), "what the file can say, the command line can"
    for option in options.TABLE:
        assert not option.help.endswith(".")
        assert not (option.words and not option.argument)
        for word in option.words:
            assert word in option.help


@pytest.mark.parametrize(
    ("name", "words", "lines"),
    [
        # tried with a program that is linked with glibc
        ("z" * 19, "d", [f"      --{'z' * 19}  d"]),
        ("z" * 20, "d", [f"      --{'z' * 20} d"]),
        ("z" * 21, "d", [f"      --{'z' * 21}   d"]),
        ("z", "a" * 47 + " b", [f"      --z{' ' * 20}{'a' * 47} b"]),
        ("z", "a" * 48 + " b", [f"      --z{' ' * 20}{'a' * 48}", f"{' ' * 29}b"]),
    ],
)
def test_help_layout(name: str, words: str, lines: list[str]) -> None:
    text = argp.help_text("p", [Option(name, help=words)], "P.", "T.", "<b>")
    assert text.split("\n")[3 : 3 + len(lines) + 1] == [*lines, ""]


@pytest.mark.parametrize(("size", "breaks"), [(41, False), (42, True)])
def test_usage_layout(size: int, breaks: bool) -> None:
    table = [Option("z" * size, help="Z"), *argp.STANDARD[:2]]
    end = "\n            [--usage]" if breaks else " [--usage]"
    assert argp.usage_text("u", table) == f"Usage: u [-?] [--{'z' * size}] [--help]{end}"


def test_a_whole_name_is_no_abbreviation() -> None:
    table = [Option("log-file", argument="F"), Option("log"), Option("log-size", argument="N")]
    assert list(argp.scan(["--log", "--log-f=x"], table)) == [(table[1], ""), (table[0], "x")]


def test_optional_arguments() -> None:
    table = [Option("colour", "c", "WHEN", help="C", optional=True), Option("d", "d")]
    line = ["--colour", "x", "--colour=y", "-c", "-cz", "-dc"]
    found = [(option.name if option else None, word) for option, word in argp.scan(line, table)]
    colour = "colour"
    assert found == [
        *((colour, ""), (colour, "y"), (colour, ""), (colour, "z"), ("d", ""), (colour, "")),
        (None, "x"),
    ]
    assert argp.usage_text("p", table) == "Usage: p [-c[WHEN]] [--colour[=WHEN]]"


def test_scan_yields_what_stood_before_a_mistake() -> None:
    pairs = argp.scan(["-d", "--bogus"], options.TABLE)
    first, _ = next(pairs)
    assert first is not None
    assert first.name == "debug"
    with pytest.raises(BadLine):
        next(pairs)
