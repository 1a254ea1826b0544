"""Unit files' syntax, and the drop-in file that is made from their ExecStart lines."""

from __future__ import annotations

import pytest

from mptcpd.core import unit
from mptcpd.core.unit import UnitError

L = "/usr/bin/mptcpize"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Service]\nExecStart=/a b\n", {"ExecStart": ["/a b"]}),
        ("[Unit]\nExecStart=/a\n[Service]\n ExecStart = /b \n", {"ExecStart": ["/b"]}),
        ("[Service]\nExecStart=/a\nExecStart=/b\n", {"ExecStart": ["/a", "/b"]}),
        ("[Service]\nExecStart=/a\nExecStart=\nExecStart=/b\n", {"ExecStart": ["/b"]}),
        ("[Service]\nExecStart=/a\nExecStart=", {"ExecStart": []}),
        ("[Service]\nExecStart=/a \\\n  -b \\\n# not this\n; nor this\n  -c\nType=x",
         {"ExecStart": ["/a    -b    -c"], "Type": ["x"]}),
        ("[Service]\nExecStart=/a \\\\\nType=x", {"ExecStart": ["/a \\\\"], "Type": ["x"]}),
        ("[Service]\nExecStart=/a \\", {"ExecStart": ["/a"]}),
        ("[Service]\n#ExecStart=/a\n;ExecStart=/b\nnothing\n", {}),
        ("[Service]\nEnvironment=A=1\nEnvironment=B=2\n", {"Environment": ["A=1", "B=2"]}),
        ("", {}),
    ],
)  # fmt: skip
def test_settings(text: str, expected: dict[str, list[str]]) -> None:
    assert unit.settings([text]) == expected


def test_files_in_order() -> None:
    """A section ends with its file, and a drop-in file may replace what the unit says."""
    last = "[Service]\nExecStart=\nExecStart=/b\n"
    texts = ["[Service]\nExecStart=/a\n", "ExecStart=/no\n", last]
    assert unit.settings(texts) == {"ExecStart": ["/b"]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/a b", ["/a b"]),
        ("/a ; /b c ; ", ["/a", "/b c"]),
        ("/a \\; b", ["/a \\; b"]),
        ("/a ';' b", ["/a ';' b"]),
        ('/a "x ; y" ; -/b', ['/a "x ; y"', "-/b"]),
        ("/a;b", ["/a;b"]),
        ("; ;", []),
        ('/a "open', ['/a "open']),
    ],
)
def test_commands(value: str, expected: list[str]) -> None:
    assert list(unit.commands(value)) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/usr/sbin/x -f", f"{L} run /usr/sbin/x -f"),
        ("-/x", f"-{L} run /x"),
        ("+/x", f"+{L} run /x"),
        ("!!/x", f"!!{L} run /x"),
        (":-/x $A", f":-{L} run /x $A"),
        ("@/x name -f", f"{L} run --argv0 name /x -f"),
        ("-@/x 'a name'", f"-{L} run --argv0 'a name' /x"),
        ("@-/x n", f"-{L} run --argv0 n /x"),
        ('"/usr/my x" %i \\x20', f'{L} run "/usr/my x" %i \\x20'),
        ("x 'a  b'", f"{L} run x 'a  b'"),
    ],
)
def test_under(command: str, expected: str) -> None:
    assert unit.under(command, L) == expected


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("-", "names no program"),
        ("@/x", "no name for the program"),
        ("/usr/bin/mptcpize run /x", "by itself"),
        ('-"/opt/bin/mptcpize" run /x', "by itself"),
    ],
)
def test_no_way(command: str, words: str) -> None:
    with pytest.raises(UnitError, match=words):
        unit.under(command, L)


def test_the_launcher_may_be_anywhere() -> None:
    assert unit.under("/x", "/a b/100%/mptcpize") == '"/a b/100%%/mptcpize" run /x'


def test_drop_in() -> None:
    found = unit.settings(["[Service]\nExecStart=/a ; -/b\nExecStart=/c\nIgnoreSIGPIPE=no\n"])
    assert unit.drop_in("x.service", "/lib/x.service", found, L).splitlines() == [
        "# Written by mptcpize enable x.service; mptcpize disable x.service removes it.",
        "# Made from the ExecStart of /lib/x.service: when that changes, enable it again.",
        "[Service]",
        "ExecStart=",
        f"ExecStart={L} run --sigpipe=default /a",
        f"ExecStart=-{L} run --sigpipe=default /b",
        f"ExecStart={L} run --sigpipe=default /c",
    ]
    with pytest.raises(UnitError, match="/lib/x has no ExecStart"):
        unit.drop_in("x", "/lib/x", {}, L)


def test_cautions() -> None:
    text = "[Service]\nType=forking\nRootDirectory=/r\nEnvironment=LD_PRELOAD=/libmptcpwrap.so\n"
    assert [caution.partition("=")[0] for caution in unit.cautions(unit.settings([text]))] == [
        "RootDirectory", "Type", "Environment",
    ]  # fmt: skip
    assert unit.cautions(unit.settings(["[Service]\nType=forking\nPIDFile=/x\n"])) == []
