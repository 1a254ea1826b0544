"""Words to arguments: precedence, prefixes, values, and what is said of words that mean nothing."""

from __future__ import annotations

import pytest

from mptcpd.cli.ctl import grammar, table
from mptcpd.cli.ctl.errors import Failure
from mptcpd.cli.ctl.grammar import Command, Object, Word


def understood(line: str) -> tuple[str, grammar.Args]:
    _entry, command, rest = grammar.find(table.OBJECTS, line.split(" "))
    return command.run, grammar.read(command, rest)


@pytest.mark.parametrize(
    ("line", "run", "args"),
    [
        ("endpoint", "endpoint:show", {}),
        ("e s id 7", "endpoint:show", {"id": 7}),
        ("e d i 7", "endpoint:delete", {"id": 7}),
        ("end a 10.7 p 0x10 signal", "endpoint:add",
         {"address": b"\x0a\x07\0\0", "port": 16, "FLAG": ["signal"]}),
        ("en c backup nobackup", "endpoint:change", {"FLAG": ["backup", "nobackup"]}),
        ("endpoint flush whatever this is", "endpoint:flush", {}),
        ("l", "endpoint:show_limits", {}),
        ("limits set s 1 a 010 s 2", "endpoint:set_limits",
         {"subflows": 2, "add_addr_accepted": 8}),
    ],
)  # fmt: skip
def test_meaning(line: str, run: str, args: grammar.Args) -> None:
    assert understood(line) == (run, args)


@pytest.mark.parametrize(
    ("line", "words", "status"),
    [
        ("bogus", 'Command "bogus" is unknown, try "mptcpctl help".', 255),
        ("endpoint bogus", 'Command "bogus" is unknown, try "mptcpctl help".', 255),
        ("endpoint ", 'Command "" is unknown, try "mptcpctl help".', 255),
        ("endpoint add", 'Error: argument "ADDRESS" is required', 255),
        ("endpoint add 1.1.1.1 id", 'Command line is not complete. Try option "help"', 255),
        ("endpoint add 1.1.1.1 id 256", 'Error: argument "256" is wrong: invalid ID\n', 255),
        ("endpoint add sig", 'Error: any valid address is expected rather than "sig".', 1),
        ("endpoint delete", 'Error: argument "ID" is required', 255),
        ("limits set x", 'Error: argument "x" is wrong: unknown limit', 255),
    ],
)
def test_refusals(line: str, words: str, status: int) -> None:
    with pytest.raises(Failure) as caught:
        understood(line)
    assert (str(caught.value), caught.value.status) == (words, status)


SIDE = (Word("port", "NR", "port", required=True), Word("id", "ID", "id"))
COMMAND = Command(
    "",
    "nowhere:at_all",
    (
        Word("local", "ADDRESS", "address", required=True, within=SIDE),
        Word("remote", "ADDRESS", "address", within=SIDE),
        Word("--wait", "SECONDS", "seconds", optional=True),
        Word("-d", "SECONDS", "seconds", key="every"),
        Word("", "FILE", "file", many=True),
    ),
)


def test_words_that_belong_to_others() -> None:
    words = "--wait=2.5 local 10.0.0.1 port 1 id 2 a remote 10.0.0.2 port 3 b -d 4"
    line = words.split(" ")
    assert grammar.read(COMMAND, line) == {
        "wait": 2.5, "local": b"\x0a\0\0\1", "local_port": 1, "local_id": 2,
        "remote": b"\x0a\0\0\2", "remote_port": 3, "file": ["a", "b"], "every": 4.0,
    }  # fmt: skip
    assert grammar.read(COMMAND, ["local", "10.0.0.1", "port", "1", "--wait"])["wait"] is True
    assert grammar.read(COMMAND, ["local", "10.0.0.1", "port", "1", "--wa=3"])["wait"] == 3.0
    for bad in ("--bogus", "--", "--waits=2", "-x"):
        with pytest.raises(Failure, match=f'"{bad}" is wrong: unknown argument'):
            grammar.read(COMMAND, ["local", "10.0.0.1", "port", "1", bad])
    for words, missing in (("", "local"), ("local 1.1.1.1", "local port")):
        with pytest.raises(Failure, match=f'"{missing}" is required'):
            grammar.read(COMMAND, words.split())


def test_free_arguments_are_filled_in_their_order() -> None:
    free = Word("", "ROLE", "text", required=True), Word("", "LOCAL", "address", required=True)
    command = Command("", "nowhere:at_all", free)
    assert grammar.read(command, ["client", "10.0.0.1"]) == {
        "role": "client", "local": b"\x0a\0\0\1"
    }  # fmt: skip
    for words, complaint in (
        (["client"], 'argument "LOCAL" is required'),
        (["client", "10.0.0.1", "more"], 'argument "more" is wrong: unknown argument'),
    ):
        with pytest.raises(Failure, match=complaint):
            grammar.read(command, words)
    assert understood("endpoint add 10.0.0.1 10.0.0.2")[1] == {"address": b"\x0a\0\0\2"}


def test_usage() -> None:
    entry = Object("thing", "", (COMMAND,))
    assert list(grammar.usage(entry)) == [
        "thing local ADDRESS port NR [id ID] [remote ADDRESS port NR [id ID]] [--wait[=SECONDS]] "
        "[-d SECONDS] [FILE...]"
    ]
