"""Claim: whatever words mptcpctl is given, it understands them or refuses them in words of its own.

No other exception, however the words are joined; what it understood has only keys that the table
names.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mptcpd.cli.ctl import grammar, options, table, values
from mptcpd.cli.ctl.errors import Failure
from mptcpd.cli.ctl.grammar import Word

_WORDS = sorted(
    {entry.name for entry in table.OBJECTS}
    | {command.name for entry in table.OBJECTS for command in entry.commands}
    | {
        part.name
        for entry in table.OBJECTS
        for command in entry.commands
        for word in command.words
        for part in (word, *word.within)
    }
)
_VALUES = ["10.0.0.1", "fd00::1", "1", "0x10", "03c910ff", "lo", "80", "1.5", "kernel", "CLOSED"]
words = st.one_of(
    st.sampled_from(_WORDS),
    st.sampled_from(_VALUES),
    st.sampled_from(_WORDS).flatmap(lambda word: st.integers(0, len(word)).map(lambda n: word[:n])),
    st.text(max_size=8),
    st.sampled_from(["--wait=x", "--wait=", "-", "--", "-j", "-n", "--wait=1e9", "0" * 400]),
)


def places(word: Word) -> set[str]:
    return {word.group or word.place, *(f"{word.place}_{part.place}" for part in word.within)}


@given(st.lists(words, min_size=1, max_size=9))
def test_any_line(line: list[str]) -> None:
    try:
        said = options.read(line)
        if not said.rest:
            return
        _entry, command, rest = grammar.find(table.OBJECTS, said.rest)
        args = grammar.read(command, rest)
    except Failure as refused:
        assert refused.status in (1, 255) and str(refused)
        return
    assert args.keys() <= {place for word in command.words for place in places(word)}


@given(st.sampled_from(sorted(values.KINDS)), st.one_of(words, st.text()))
def test_any_value(kind: str, text: str) -> None:
    try:
        values.read(kind, text)
    except Failure as refused:
        assert text in str(refused)
